//! The controller and the estimator against programs of which everything is known, each with many seeds. Seeds are fixed, so that
//! the outcome is.

use super::{governor::SplitMix, *};
use crate::model::{CallCounts, RunTime, RunTimes, Timestamp, Totals, TrapCost};

/// A program: at a second since its start, calls for each second of its own processor time.
struct Program {
    allocations: fn(f64) -> f64,
    frees: fn(f64) -> f64,
}

/// What a call costs here, in nanoseconds.
const ALLOCATION: f64 = 2000.0;
const FREE: f64 = 1000.0;

/// What came of a simulation.
struct Outcome {
    scale: Scale,
    allocated: f64,
    /// Of the processor time that the program had for itself.
    cost: f64,
    observed: f64,
    has_given_up: bool,
}

/// Runs a program that always runs, at steps of 10 ms of its own time: it is the slower the more it is observed.
fn run(program: &Program, limit: f64, seconds: f64, seed: u64) -> Outcome {
    const STEP: f64 = 0.01;
    let mut governor = Governor::new(limit, seed);
    let mut outcome =
        Outcome { scale: Scale::default(), allocated: 0.0, cost: 0.0, observed: 0.0, has_given_up: false };
    let (length, window) = governor.cycle();
    outcome.scale.begin(Timestamp(0), length, window);
    let (mut now, mut own, mut observed) = (0.0f64, 0.0f64, Totals::default());
    while own < seconds {
        let is_open = governor.wanted(now).is_open;
        let (allocations, frees) = ((program.allocations)(own) * STEP, (program.frees)(own) * STEP);
        let windowed = if is_open { allocations * ALLOCATION } else { 0.0 };
        let cost = Cost { windowed, permanent: frees * FREE };
        if is_open {
            observed.allocations += allocations.round() as u64;
            observed.allocated_bytes += allocations.round() as u64 * 100;
            outcome.observed += STEP;
        }
        outcome.allocated += allocations.round();
        outcome.cost += cost.total();
        own += STEP;
        outcome.scale.pass(STEP + cost.total() / 1e9, STEP, is_open);
        now += STEP + cost.total() / 1e9;
        governor.account(now, cost, STEP * 1e9, is_open);
        outcome.scale.set_totals(&observed);
        if governor.is_hopeless() {
            outcome.has_given_up = true;
            break;
        }
        if governor.is_over() && outcome.scale.has_window() {
            outcome.scale.end();
            let (length, window) = governor.begin_cycle();
            outcome.scale.begin(Timestamp((now * 1e9) as u64), length, window);
        }
    }
    outcome.cost /= own * 1e9;
    outcome.observed /= own;
    outcome
}

const STEADY: Program = Program { allocations: |_| 40_000.0, frees: |_| 40_000.0 };

/// Busy for two seconds in seven, with a leak that grows, and periods that fit no cycle.
const BURSTS: Program = Program {
    allocations: |time| if time % 7.0 < 2.0 { 100_000.0 } else { 5000.0 + 20.0 * time },
    frees: |_| 20_000.0,
};

#[test]
fn what_costs_less_than_the_limit_is_observed_as_a_whole() {
    let outcome = run(&STEADY, 0.2, 100.0, 1);
    assert!(outcome.scale.is_whole() && !outcome.has_given_up);
    let totals = outcome.scale.totals();
    assert_eq!(totals.allocations, outcome.allocated);
    assert_eq!(totals.standard_error.map(|error| error.bytes), Some(0.0));
}

#[test]
fn the_limit_is_kept() {
    // All of it costs 12 % of its own time, frees alone 4 %.
    for (limit, seed) in [(0.05, 1), (0.06, 2), (0.08, 3), (0.1, 4), (0.11, 5)] {
        let outcome = run(&STEADY, limit, 300.0, seed);
        assert!(!outcome.has_given_up && !outcome.scale.is_whole());
        assert!(outcome.cost <= limit, "{} of {limit}", outcome.cost);
        assert!(outcome.cost >= 0.7 * limit, "{} of {limit}", outcome.cost);
    }
    for seed in 0..20 {
        let outcome = run(&BURSTS, 0.05, 300.0, seed);
        assert!(outcome.cost <= 0.05 && outcome.observed > 0.05, "{}, {}", outcome.cost, outcome.observed);
    }
}

#[test]
fn where_frees_alone_are_too_much_it_gives_up() {
    assert!(run(&STEADY, 0.035, 300.0, 1).has_given_up);
    assert!(run(&STEADY, 0.01, 1.5, 1).has_given_up, "soon, where it is far too much");
    assert!(!run(&STEADY, 0.045, 300.0, 1).has_given_up);
}

/// Mean, spread and mean reported variance of estimates with so many seeds, and the truth.
fn estimates(program: &Program, limit: f64, seeds: u64) -> (f64, f64, f64, f64) {
    let outcomes: Vec<_> = (0..seeds).map(|seed| run(program, limit, 120.0, seed)).collect();
    let estimates: Vec<_> = outcomes.iter().map(|outcome| outcome.scale.totals()).collect();
    let n = seeds as f64;
    let mean = estimates.iter().map(|estimate| estimate.allocations).sum::<f64>() / n;
    let variance = estimates.iter().map(|estimate| (estimate.allocations - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let reported = |scaled: &Scaled| scaled.standard_error.map_or(0.0, |error| error.allocations.powi(2));
    let reported = estimates.iter().map(reported).sum::<f64>() / n;
    (mean, variance, reported, outcomes[0].allocated)
}

#[test]
fn estimates_are_unbiased_and_their_errors_not_too_small() {
    for (program, limit) in [(&STEADY, 0.06), (&STEADY, 0.1), (&BURSTS, 0.05)] {
        let (mean, variance, reported, truth) = estimates(program, limit, 400);
        let error = (variance / 400.0).sqrt();
        // As it is rounded.
        assert!((mean - truth).abs() <= 4.0 * error + 0.5, "{mean} ± {error}, not {truth}");
        assert!(reported + 0.5 >= 0.8 * variance, "{} reported, {} in truth", reported.sqrt(), variance.sqrt());
    }
}

#[test]
fn every_moment_of_a_cycle_has_the_same_chance() {
    // Five seconds: 12 % of the cost in windows, and a limit that admits some of it.
    let mut counts = [0u32; 20];
    for seed in 0..2000 {
        let mut governor = Governor::new(0.06, seed);
        governor.account(1.0, Cost { windowed: 8e7, permanent: 4e7 }, 1e9, true);
        let (length, window) = governor.begin_cycle();
        assert!((length, window) == governor.cycle() && window < length);
        for (place, count) in counts.iter_mut().enumerate() {
            let moment = 1.0 + length * (place as f64 + 0.5) / 20.0;
            *count += u32::from(governor.wanted(moment).is_open);
        }
    }
    let mean = counts.iter().sum::<u32>() as f64 / 20.0;
    let share = mean / 2000.0;
    let allowed = 4.0 * (2000.0 * share * (1.0 - share)).sqrt();
    assert!(counts.iter().all(|count| (f64::from(*count) - mean).abs() <= allowed), "{counts:?}");
}

#[test]
fn probes_come_before_a_window_and_go_where_the_next_is_far() {
    let mut random = SplitMix(3);
    for _ in 0..200 {
        let mut governor = Governor::new(0.05, (random.fraction() * 1e9) as u64);
        governor.account(1.0, Cost { windowed: 8e7, permanent: 4e7 }, 1e9, true);
        let (length, _) = governor.begin_cycle();
        let mut before = governor.wanted(1.0);
        for step in 1..1000 {
            let wanted = governor.wanted(1.0 + length * f64::from(step) / 1000.0);
            assert!(!wanted.is_open || wanted.probes == Probes::Attached);
            assert!(!wanted.is_open || before.probes == Probes::Attached || step == 1, "too late");
            before = wanted;
        }
    }
}

/// A cycle with all of its window, or the first seconds of one.
fn cycle(scale: &mut Scale, start: u64, length: f64, window: f64) {
    scale.begin(Timestamp(start * 1_000_000_000), length, window);
    scale.pass(window, window, true);
    scale.pass(length - window, length - window, false);
}

#[test]
fn what_is_left_of_the_blocks_is_scaled_by_their_cycles() {
    let mut scale = Scale::default();
    let second = |seconds: u64| Timestamp(seconds * 1_000_000_000);
    for (start, length, window) in [(0, 1.0, 1.0), (1, 8.0, 2.0), (9, 8.0, 4.0), (17, 8.0, 1.0)] {
        cycle(&mut scale, start, length, window);
        scale.end();
    }
    scale.begin(second(25), 8.0, 8.0);
    let blocks = [(0, 100.0), (3, 100.0), (12, 10.0), (12, 10.0), (18, 30.0)];
    let scaled = scale.sum(blocks.iter().map(|(time, bytes)| (*bytes, 1.0, second(*time))));
    assert_eq!((scaled.bytes, scaled.allocations), (100.0 + 400.0 + 40.0 + 240.0, 1.0 + 4.0 + 4.0 + 8.0));
    // Rates of 50, 5 and 30 bytes a second: half the mean square of their differences, by the squares of the lengths.
    let variance = (45.0f64.powi(2) + 25.0f64.powi(2)) / 4.0 * (3.0 * 64.0);
    assert_eq!(scaled.standard_error.map(|error| error.bytes), Some(variance.sqrt()));
}

#[test]
fn a_cycle_that_is_not_over_is_what_is_to_be_expected_of_it_and_what_is_seen() {
    let mut scale = Scale::default();
    for start in [0, 8, 16] {
        cycle(&mut scale, start, 8.0, 2.0);
        scale.end();
    }
    let blocks = |last: usize| {
        let times = [1, 1, 9, 9, 17, 17].into_iter().chain(std::iter::repeat_n(25, last));
        times.map(|time| (10.0, 1.0, Timestamp(time * 1_000_000_000))).collect::<Vec<_>>()
    };
    scale.begin(Timestamp(24_000_000_000), 8.0, 2.0);
    // One block a second: eight in each cycle, and four in half of one, though none of it was observed.
    scale.pass(4.0, 4.0, false);
    assert_eq!(scale.sum(blocks(0).into_iter()).allocations, 24.0 + 4.0);
    // Six seconds of it, with the window, and what was to be expected; or more.
    scale.pass(2.0, 2.0, true);
    assert_eq!(scale.sum(blocks(2).into_iter()).allocations, 24.0 + 6.0);
    assert_eq!(scale.sum(blocks(5).into_iter()).allocations, 24.0 + 6.0 + 3.0 * 4.0);
}

#[test]
fn few_windows_say_nothing_of_the_error() {
    let mut scale = Scale::default();
    for start in [0, 10] {
        cycle(&mut scale, start, 10.0, 2.0);
        scale.end();
    }
    scale.set_totals(&Totals { allocations: 3, allocated_bytes: 30, ..Totals::default() });
    assert_eq!(scale.totals().standard_error, None);
}

#[test]
fn a_price_is_the_traps_and_the_typical_run_of_the_programs() {
    let mut prices = Prices::default();
    prices.set_traps([Some(TrapCost { entry: 700.0, call: 900.0 }), None]);
    let moment = |mean: f64| RunTimes {
        enter: RunTime { runs: 10.0, nanoseconds: 10.0 * mean },
        leave: RunTime { runs: 10.0, nanoseconds: 50.0 * mean },
        free: RunTime { runs: 1.0, nanoseconds: 1e9 },
    };
    // In one of the moments a program was preempted.
    [100.0, 110.0, 90.0, 1e6, 105.0].map(moment).iter().for_each(|moment| prices.add_moment(moment));
    let calls = CallCounts { allocations: [2, 0], resizes: [1, 0], frees: [4, 0] };
    let call = 900.0 + 105.0 + 525.0;
    assert_eq!(prices.cost(&calls), Some(Cost { windowed: 2.0 * call, permanent: call + 4.0 * 700.0 }));
    assert_eq!(prices.cost(&CallCounts { frees: [0, 1], ..CallCounts::default() }), None, "no price for these");
}
