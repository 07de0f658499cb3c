//! Series of known shapes, and what must hold of any.

use proptest::prelude::*;

use super::Series;
use crate::model::{Course, Timestamp, Trend};

const SECOND: u64 = 1_000_000_000;

/// Noise that is the same in every run.
struct Noise(u64);

impl Noise {
    /// From 0 to 1.
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word ^ word >> 31) as f64 / u64::MAX as f64
    }

    /// About normal, with the standard deviation 1.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.next()).sum::<f64>() - 6.0
    }
}

/// So many looks, one a second, at what is there at a part of the time from 0 to 1.
fn series(looks: u32, bytes: impl FnMut(f64) -> f64) -> Series {
    let mut bytes = bytes;
    let mut series = Series::new();
    for look in 0..looks {
        series.push(Timestamp(u64::from(look) * SECOND), bytes(f64::from(look) / f64::from(looks - 1)) as u64);
    }
    series
}

fn trend(looks: u32, bytes: impl FnMut(f64) -> f64) -> Trend {
    series(looks, bytes).trend()
}

const MIB: f64 = 1048576.0;
const LOOKS: [u32; 7] = [16, 20, 40, 64, 65, 150, 5000];

/// A tooth of a saw, from 0 to 1, so many of which fill the time.
fn tooth(teeth: f64) -> impl Fn(f64) -> f64 {
    move |time| (time * teeth).fract()
}

fn assert_course(course: Course, what: &str, bytes: impl Fn(f64) -> f64) {
    for looks in LOOKS {
        let trend = trend(looks, &bytes);
        assert_eq!(trend.course, course, "{what}, {looks} looks: {trend:?}");
    }
}

#[test]
fn what_grows_is_told_whatever_its_shape() {
    assert_course(Course::Grows, "line", |time| 100.0 * time * MIB);
    assert_course(Course::Grows, "small line on a large base", |time| 4096.0 * MIB + 50_000.0 * time);
    assert_course(Course::Grows, "root", |time| time.sqrt() * MIB);
    assert_course(Course::Grows, "parabola", |time| time * time * MIB);
    assert_course(Course::Grows, "late start", |time| (time - 0.4).max(0.0) * MIB);
    assert_course(Course::Grows, "exponential", |time| (3.0 * time).exp() * MIB);
    for steps in [4, 5, 8, 13] {
        let arena = |time: f64| (time * f64::from(steps) + 0.5).floor() * MIB;
        assert_course(Course::Grows, &format!("{steps} steps"), arena);
    }
}

#[test]
fn what_fills_up_has_plateaued() {
    for full in [0.1, 0.3, 0.5, 0.6, 0.7] {
        assert_course(Course::Plateaued, "full, then level", |time| time.min(full) * 100.0 * MIB);
    }
    for constants in [4.0, 6.0, 10.0] {
        assert_course(Course::Plateaued, "exponential", |time| (1.0 - (-constants * time).exp()) * 100.0 * MIB);
    }
    let evicting = |time: f64| if time < 0.4 { time * 100.0 } else { 40.0 - 3.0 * tooth(9.0)(time) };
    assert_course(Course::Plateaued, "cache that evicts", |time| evicting(time) * MIB);
}

#[test]
fn a_step_is_one_off_wherever_it_is() {
    for place in [0.01, 0.2, 0.5, 0.7] {
        assert_course(Course::OneOff, "step", |time| if time < place { 0.0 } else { MIB });
        assert_course(Course::OneOff, "step between noise", |time| {
            if time < place { 10.0 } else { MIB + 3000.0 * tooth(7.3)(time) }
        });
    }
    let just_now = trend(40, |time| if time < 0.97 { 0.0 } else { MIB });
    assert_eq!(just_now.course, Course::TooShort);
}

#[test]
fn a_sawtooth_goes_nowhere() {
    for teeth in [1.7, 2.0, 2.5, 3.3, 5.0, 7.0] {
        let looks = LOOKS.into_iter().filter(|looks| f64::from(*looks) >= teeth * 8.0 && *looks < 1000);
        for looks in looks {
            let trend = trend(looks, |time| tooth(teeth)(time) * 50.0 * MIB);
            assert_eq!(trend.course, Course::Churn, "{teeth} teeth, {looks} looks: {trend:?}");
        }
    }
}

#[test]
fn teeth_that_are_looked_at_irregularly_are_rarely_taken_for_growth() {
    let mut noise = Noise(1);
    let mut grow = 0;
    for number in 0..4000 {
        let looks = [16, 24, 40, 64, 200][number % 5];
        let period = 3.0 + noise.next() * f64::from(looks) / 2.0;
        let (mut series, mut time) = (Series::new(), noise.next() * period);
        for _ in 0..looks {
            time += 0.5 + noise.next();
            series.push(Timestamp((time * 1e9) as u64), ((time / period).fract() * MIB) as u64);
        }
        grow += u32::from(series.trend().course == Course::Grows);
    }
    assert!(grow <= 12, "{grow} of 4000");
}

#[test]
fn a_leak_under_a_sawtooth_grows_at_its_own_rate() {
    for teeth in [8.0, 9.7, 12.0] {
        for height in [0.5, 1.0, 1.5] {
            let trend = trend(64, |time| 1e9 * (time + height * tooth(teeth)(time)));
            assert_eq!(trend.course, Course::Grows, "{teeth} teeth of {height}: {trend:?}");
            let rate = trend.bytes_per_second / (1e9 / 63.0);
            assert!((0.8..1.25).contains(&rate), "{teeth} teeth of {height}: {rate}");
        }
    }
}

#[test]
fn a_constant_is_level_and_so_is_a_little_noise() {
    assert_course(Course::Level, "constant", |_| 12345.0);
    assert_course(Course::Level, "nothing", |_| 0.0);
    for seed in 0..200 {
        let mut noise = Noise(seed);
        let trend = trend(64, |_| 1e9 + 1e6 * noise.normal());
        assert!(trend.course == Course::Level || seed != 0 && trend.course == Course::Grows, "{trend:?}");
    }
}

#[test]
fn noise_is_rarely_taken_for_growth_and_a_slope_above_it_always() {
    let count = |looks, slope: f64| {
        let grows = |seed: &u64| {
            let mut noise = Noise(*seed << 20 | u64::from(looks));
            trend(looks, |time| 100.0 * MIB + MIB * (slope * time + noise.normal())).course == Course::Grows
        };
        (0..1000).filter(grows).count()
    };
    for looks in [16, 32, 64, 1000] {
        let (noise, slope) = (count(looks, 0.0), count(looks, 12.0));
        assert!(noise <= 8, "{noise} of 1000 with {looks} looks");
        assert!(slope >= 970, "{slope} of 1000 with {looks} looks");
    }
}

#[test]
fn a_leak_beside_a_full_cache_is_found() {
    let rate = |course: Trend| (course.course, (course.bytes_per_second * 199.0).round());
    let beside = trend(200, |time| 1e9 * (time * 10.0).min(1.0) + 2e6 * time);
    assert_eq!(rate(beside), (Course::Grows, 2e6));
    let after_step = trend(200, |time| 1e9 * time.signum() + 2e6 * time);
    assert_eq!(rate(after_step), (Course::Grows, 2e6));
}

#[test]
fn what_is_given_back_bit_by_bit_shrinks() {
    assert_course(Course::Shrinks, "line", |time| (2.0 - time) * 100.0 * MIB);
    assert_course(Course::Shrinks, "at once there, and then less", |time| time.signum() * (2.0 - time) * 100.0 * MIB);
    let trend = trend(64, |time| (2.0 - time) * 63e6);
    assert_eq!(trend.bytes_per_second, -1e6);
    assert_course(Course::Churn, "a peak", |time| (1.0 - (2.0 * time - 1.0).abs()) * 100.0 * MIB);
}

#[test]
fn facts_are_those_of_the_points() {
    let trend = trend(41, |time| 1000.0 + 40_000.0 * time.min(0.5));
    assert_eq!(trend.course, Course::Plateaued);
    let facts = (trend.points, trend.span.as_secs(), trend.change_bytes, trend.lowest, trend.highest);
    assert_eq!(facts, (41, 40, 20_000, 1000, 21_000));
    // A sixteenth of 20 seconds before it was full.
    assert_eq!((trend.quiet.as_secs(), trend.bytes_per_second), (22, 0.0));
    assert_eq!(Series::new().trend(), Trend::NONE);
}

#[test]
fn the_rate_is_of_seconds_not_of_points() {
    let mut series = Series::new();
    let mut noise = Noise(5);
    let mut time = 0.0;
    for _ in 0..1000 {
        time += 0.2 + noise.next();
        series.push(Timestamp((time * 1e9) as u64), (time * 1e6) as u64);
    }
    let trend = series.trend();
    assert_eq!(trend.course, Course::Grows);
    assert!((trend.bytes_per_second - 1e6).abs() < 1.0, "{trend:?}");
}

#[test]
fn fewer_than_eight_points_say_nothing() {
    for looks in 2..=7 {
        assert_eq!(trend(looks, |time| time * MIB).course, Course::TooShort);
    }
    assert_eq!(trend(8, |time| time * MIB).course, Course::Grows);
}

#[test]
fn a_series_is_over_when_its_second_half_is_zero() {
    let after = |zeros: u32| {
        let mut series = Series::new();
        (0..20 + zeros).for_each(|look| series.push(Timestamp(u64::from(look)), u64::from(look < 20)));
        series.is_over()
    };
    assert_eq!([0, 10, 19, 20, 21].map(after), [false, false, false, true, true]);
    assert!(!Series::new().is_over());
}

proptest! {
    #[test]
    fn memory_is_bounded_and_both_ends_are_kept(most in 16usize..70, looks in 1u64..3000) {
        let mut series = Series::of_at_most(most);
        for look in 0..looks {
            series.push(Timestamp(look * SECOND), look);
            let points = series.points();
            prop_assert!(points.len() <= most);
            prop_assert_eq!(points[0].bytes, 0);
            prop_assert_eq!(points[points.len() - 1].bytes, look);
            // At an even resolution, but for the last.
            let apart: Vec<_> = points.windows(2).map(|pair| pair[1].bytes - pair[0].bytes).collect();
            let stride = u64::from(series.stride());
            prop_assert!(apart.iter().rev().skip(1).all(|apart| *apart == stride), "{:?}", apart);
            prop_assert!(apart.last().is_none_or(|last| (1..=stride).contains(last)), "{:?}", apart);
        }
        prop_assert!(looks < 2 * most as u64 || series.points().len() > most / 2);
    }

    #[test]
    fn the_unit_does_not_matter(values in prop::collection::vec(0u64..1 << 40, 0..200), scale in 1u64..1 << 20) {
        let of = |scale: u64| {
            let mut series = Series::new();
            let points = values.iter().enumerate().map(|(place, value)| (Timestamp(place as u64 + 1), value * scale));
            points.for_each(|(time, bytes)| series.push(time, bytes));
            series.trend().course
        };
        prop_assert_eq!(of(1), of(scale));
    }

    #[test]
    fn what_never_falls_is_no_churn_and_what_never_rises_does_not_grow(
        mut values in prop::collection::vec(0u64..1 << 40, 8..200),
    ) {
        let course = |values: &[u64]| {
            let mut series = Series::new();
            values.iter().enumerate().for_each(|(place, value)| series.push(Timestamp(place as u64 + 1), *value));
            series.trend().course
        };
        values.sort_unstable();
        prop_assert!(!matches!(course(&values), Course::Churn | Course::Shrinks));
        values.reverse();
        prop_assert!(!matches!(course(&values), Course::Grows | Course::Plateaued | Course::OneOff));
    }

    #[test]
    fn any_points_have_a_trend(values in prop::collection::vec(any::<(u64, u64)>(), 0..300)) {
        let mut series = Series::new();
        values.iter().for_each(|(time, bytes)| series.push(Timestamp(*time), *bytes));
        prop_assert!(series.trend().bytes_per_second.is_finite());
    }
}
