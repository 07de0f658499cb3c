//! Robust figures of a sequence of points: what it never falls below again, which way its pairs point, and how steep
//! they are.

use super::Point;

/// At each point the least from there to the end: the low-water line. It never falls, and what goes up and comes down
/// again leaves no trace in it, but for the very end.
pub(super) fn low_water(values: &[u64]) -> Vec<u64> {
    let mut line = values.to_vec();
    for place in (1..line.len()).rev() {
        line[place - 1] = line[place - 1].min(line[place]);
    }
    line
}

/// At each point the most from the start to there.
pub(super) fn high_water(values: &[u64]) -> Vec<u64> {
    let mut line = values.to_vec();
    for place in 1..line.len() {
        line[place] = line[place].max(line[place - 1]);
    }
    line
}

/// By how many standard deviations more pairs rise than fall than would if the order meant nothing (Mann 1945, Kendall
/// 1975). Only the order of values counts, not by how much they differ, so that one point far off changes little.
pub(super) fn rise_of_pairs(values: &[u64]) -> f64 {
    let pairs = values.iter().enumerate().flat_map(|(place, value)| {
        let later = &values[place + 1..];
        later.iter().map(move |later| later.cmp(value) as i64)
    });
    let balance = pairs.sum::<i64>() as f64;
    let length = values.len() as f64;
    let variance = length * (length - 1.0) * (2.0 * length + 5.0) / 18.0;
    // A balance moves by twos.
    (balance.abs() - 1.0).max(0.0).copysign(balance) / variance.sqrt().max(1.0)
}

/// The median of the slopes of all pairs (Theil 1950, Sen 1968), in units of the values for each second: `values` are
/// those at the times of `points`. Nearly a third of them may be anywhere.
pub(super) fn median_slope(points: &[Point], values: &[u64]) -> f64 {
    let mut slopes: Vec<f64> = Vec::with_capacity(values.len() * values.len().saturating_sub(1) / 2);
    for (place, (point, value)) in points.iter().zip(values).enumerate() {
        let later = points.iter().zip(values).skip(place + 1);
        slopes.extend(later.map(|(later, later_value)| {
            (*later_value as f64 - *value as f64) / later.time.since(point.time).as_secs_f64()
        }));
    }
    let middle = slopes.len() / 2;
    if slopes.is_empty() { 0.0 } else { *slopes.select_nth_unstable_by(middle, f64::total_cmp).1 }
}
