//! The rules by which a course is read from points.
//!
//! A straight line through the points does not tell a leak: it is as steep for a cache that has filled, a table that
//! was allocated once, and a tooth of a saw. What tells them apart is *where* the growth lies. So the points are cut
//! into quarters, by number, and two things are asked of each: its least and its most.
//!
//! - **Grows**: neither the least nor the most of a quarter is below that of the quarter before, and together they rise
//!   at least four times of the six; more pairs of points rise than fall, by three standard deviations, or two if all
//!   six rise; and the last quarter has its share of that growth. A sawtooth fails the first: a quarter with the foot
//!   of a tooth in it is below the one before. A leak under a sawtooth passes: its feet rise. Of pure noise, and of
//!   teeth looked at irregularly, one sequence in some hundreds passes. A cache that has filled fails the last, and so
//!   do a step, and a burst at the start.
//! - Growth in large steps (of an arena, which an allocator enlarges by so much at a time) may have no share in the
//!   last quarter since none falls there. If there are three steps or more, and the last is not longer ago than half as
//!   much again as any two were apart, it goes on.
//! - **One-off**: at one moment all before is below all after, by most of the range.
//! - **Plateaued**: all of the second half is above the middle of the range, and the last quarter goes hardly above the
//!   others.
//! - A leak that goes on after a cache has filled, or after a step, is small beside it. So where one of these two was
//!   found, the second half is looked at by itself. It counts if it ends above all that was before, and does not slow
//!   down, as what fills up does.
//! - **Shrinks** is growth upside down, from the peak on, if that was early.
//! - **Churn** falls by half of its range or more. **Level** has a range of a hundredth of its height.
//! - Anything else is **too short**: it began to rise but lately, or rose twice.
//!
//! The rate of growth is the median slope of the low-water line, so that teeth do not count.

use std::time::Duration;

use super::{
    Point,
    line::{high_water, low_water, median_slope, rise_of_pairs},
};
use crate::model::{Course, Trend};

/// With fewer points, nothing is said: seven that rise one after the other are not yet three standard deviations.
const LEAST_POINTS: usize = 8;

/// How many points there are after a step, at least.
const LEAST_AFTER_STEP: usize = 4;

/// Standard deviations by which pairs must rise; and if the least and the most of each quarter do.
const SIGNIFICANT: f64 = 3.0;
const SIGNIFICANT_IF_ALL_RISE: f64 = 2.0;

/// Of the growth of the least and the most of quarters, what the last quarter must have; and of that of the most alone.
/// A third is even.
const LAST_SHARE: f64 = 0.12;
const LAST_SHARE_OF_MOST: f64 = 0.05;

/// Of the range, that a one-off has at least.
const ONE_OFF: f64 = 0.7;

/// Of the rise of the low-water line, that a single step has at least; and all of them together.
const STEP: f64 = 0.1;
const STEPS: f64 = 0.6;

/// Of the height, that is hardly a change.
const LEVEL: f64 = 0.01;

/// The least of what the second half of something grows by, as against the first, if it does not slow down.
const NOT_SLOWING: f64 = 0.6;

/// Of its rise, what the low-water line still lacks when it counts as risen.
const RISEN: f64 = 1.0 / 16.0;

/// Reads the course.
pub(super) fn read(points: &[Point]) -> Trend {
    let (Some(first), Some(last)) = (points.first(), points.last()) else { return Trend::NONE };
    let values: Vec<u64> = points.iter().map(|point| point.bytes).collect();
    let (course, of) = course_of(&values);
    Trend {
        course,
        bytes_per_second: slope(&points[points.len() - of..], course),
        points: points.len(),
        span: last.time.since(first.time),
        change_bytes: last.bytes.wrapping_sub(first.bytes).cast_signed(),
        lowest: least(&values),
        highest: most(&values),
        quiet: quiet(points, &low_water(&values)),
    }
}

/// The course, and how many of the last values show it.
fn course_of(values: &[u64]) -> (Course, usize) {
    let length = values.len();
    if length < LEAST_POINTS {
        return (Course::TooShort, length);
    }
    if grows(values) {
        return (Course::Grows, length);
    }
    let falling = since_peak(values);
    if falling.len() * 4 >= length * 3 && shrinks(falling) {
        return (Course::Shrinks, falling.len());
    }
    let course = course_without_growth(values);
    let (first_half, half) = values.split_at(length / 2);
    if matches!(course, Course::OneOff | Course::Plateaued) && goes_on(first_half, half) {
        return (Course::Grows, half.len());
    }
    (course, length)
}

fn course_without_growth(values: &[u64]) -> Course {
    let (low, high) = (low_water(values), high_water(values));
    let (least, most) = (least(values), most(values));
    let range = (most - least) as f64;
    if range <= most as f64 * LEVEL {
        return Course::Level;
    }
    if let Some(after) = points_after_one_off(&low, &high, range) {
        return if after >= LEAST_AFTER_STEP { Course::OneOff } else { Course::TooShort };
    }
    let earlier = high[values.len() - values.len() / 4 - 1];
    let has_risen = (low[values.len() / 2] - least) as f64 >= range / 2.0;
    if has_risen && (most - earlier) as f64 <= range * LAST_SHARE {
        return Course::Plateaued;
    }
    let fall = high.iter().zip(values).map(|(high, value)| high - value).max().unwrap_or_default();
    if fall as f64 >= range / 2.0 { Course::Churn } else { Course::TooShort }
}

/// How many points there are after the one moment at which it rose, if that is all that it did.
fn points_after_one_off(low: &[u64], high: &[u64], range: f64) -> Option<usize> {
    let is_one_off = |place: &usize| low[place + 1].saturating_sub(high[*place]) as f64 >= range * ONE_OFF;
    let place = (0..low.len() - 1).find(is_one_off)?;
    Some(low.len() - 1 - place)
}

/// Whether it rises from quarter to quarter, to the end.
fn grows(values: &[u64]) -> bool {
    let length = values.len();
    let quarters = [0, 1, 2, 3].map(|quarter| &values[length * quarter / 4..length * (quarter + 1) / 4]);
    let (lows, highs) = (quarters.map(least), quarters.map(most));
    if !lows.is_sorted() || !highs.is_sorted() {
        return false;
    }
    let rises = [lows, highs].iter().flat_map(|line| line.windows(2)).filter(|pair| pair[0] < pair[1]).count();
    let significant = if rises == 6 { SIGNIFICANT_IF_ALL_RISE } else { SIGNIFICANT };
    let is_significant = rises >= 4 && rise_of_pairs(values) >= significant;
    is_significant && (lasts(&lows, &highs) || comes_in_steps(&low_water(values)))
}

/// Whether it falls from its first value, which is the most, by more than hardly.
fn shrinks(values: &[u64]) -> bool {
    let (most, last) = (values[0], values[values.len() - 1]);
    let is_change = (most - last) as f64 > most as f64 * LEVEL;
    is_change && values.len() >= LEAST_POINTS && grows(&upside_down(values))
}

/// Whether the last quarter has its share of the growth.
fn lasts(lows: &[u64; 4], highs: &[u64; 4]) -> bool {
    let last = |line: &[u64; 4]| (line[3] - line[2]) as f64;
    let all = |line: &[u64; 4]| (line[3] - line[0]) as f64;
    last(lows) + last(highs) >= (all(lows) + all(highs)) * LAST_SHARE && last(highs) >= all(highs) * LAST_SHARE_OF_MOST
}

/// Whether it grows in steps, the next of which is not overdue.
fn comes_in_steps(low: &[u64]) -> bool {
    let rise = (low[low.len() - 1] - low[0]) as f64;
    let rise_at = |place: usize| (low[place] - low[place - 1]) as f64;
    let steps: Vec<usize> = (1..low.len()).filter(|place| rise_at(*place) >= rise * STEP).collect();
    let in_steps: f64 = steps.iter().map(|place| rise_at(*place)).sum();
    let (Some(last), Some(apart)) = (steps.last(), steps.windows(2).map(|pair| pair[1] - pair[0]).max()) else {
        return false;
    };
    steps.len() >= 3 && in_steps >= rise * STEPS && (low.len() - last) * 2 <= apart * 3
}

/// Whether the second half grows by itself, to where it never was before, and does not slow down.
fn goes_on(first_half: &[u64], half: &[u64]) -> bool {
    if half.len() < LEAST_POINTS || !grows(half) {
        return false;
    }
    let low = low_water(half);
    let [start, middle, late, end] = [0, half.len() / 2, half.len() * 3 / 4, half.len() - 1].map(|place| low[place]);
    late > most(first_half) && (end - middle) as f64 >= (middle - start) as f64 * NOT_SLOWING
}

fn since_peak(values: &[u64]) -> &[u64] {
    let peak = most(values);
    &values[values.iter().position(|value| *value == peak).unwrap_or_default()..]
}

fn upside_down(values: &[u64]) -> Vec<u64> {
    let most = most(values);
    values.iter().map(|value| most - value).collect()
}

fn slope(points: &[Point], course: Course) -> f64 {
    let values = || points.iter().map(|point| point.bytes).collect::<Vec<_>>();
    match course {
        Course::Grows => median_slope(points, &low_water(&values())),
        Course::Shrinks => -median_slope(points, &low_water(&upside_down(&values()))),
        _ => 0.0,
    }
}

/// How long ago the low-water line had yet to rise.
fn quiet(points: &[Point], low: &[u64]) -> Duration {
    let (Some(last), Some(end)) = (points.last(), low.last()) else { return Duration::ZERO };
    let rise = (end - low[0]) as f64;
    let lacks = |line: &u64| rise > 0.0 && (end - line) as f64 >= rise * RISEN;
    let since = low.iter().rposition(lacks).unwrap_or_default();
    last.time.since(points[since].time)
}

fn least(values: &[u64]) -> u64 {
    values.iter().copied().min().unwrap_or_default()
}

fn most(values: &[u64]) -> u64 {
    values.iter().copied().max().unwrap_or_default()
}
