//! Sampling against known truths: populations of blocks, each sampled with many seeds. Seeds are fixed, so that the outcome is.
//!
//! What is expected is derived, not tuned. An estimate is a sum of independent terms y/p with the chance p, so its variance is
//! V = Σ (1−p)/p y², and its fourth cumulant Σ (y/p)⁴ p (1−p) (1 − 6p (1−p)). The mean of n estimates has the standard error
//! √(V/n); their variance, V with the relative standard error √(2/(n−1) + κ/n), where κ is the fourth cumulant by V² (for a
//! normal distribution κ is 0, and this is the spread of chi-square); the mean of n estimated variances, the standard error √(W/n) with
//! W = Σ ((1−p)/p² y²)² p (1−p). Four standard errors are allowed of each: one outcome of 15,800 is further off.
#![allow(clippy::cast_precision_loss, reason = "what is compared is far coarser")]

use std::collections::HashMap;

use memprof_common::sampling::{CERTAIN, chance, is_taken};

use super::*;
use crate::model::{Moment, Selection};

const SEEDS: u64 = 2000;
const RATE: u64 = 64 << 10;
const ALLOWED: f64 = 4.0;

/// Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }

    /// From 0 to 1.
    fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// Moments of an estimate of Σ y.
#[derive(Default)]
struct Expected {
    sum: f64,
    variance: f64,
    fourth_cumulant: f64,
    variance_of_variance: f64,
}

impl Expected {
    fn of(sizes: &[u64], value: impl Fn(u64) -> f64) -> Self {
        let mut expected = Self::default();
        for &size in sizes {
            let (y, p) = (value(size), chance(size, RATE) as f64 / CERTAIN as f64);
            let q = 1.0 - p;
            expected.sum += y;
            expected.variance += q / p * y * y;
            expected.fourth_cumulant += (y / p).powi(4) * p * q * (1.0 - 6.0 * p * q);
            expected.variance_of_variance += (q / (p * p) * y * y).powi(2) * p * q;
        }
        expected
    }

    fn check(&self, what: &str, estimates: &[f64], errors: &[f64]) {
        let n = estimates.len() as f64;
        let mean = estimates.iter().sum::<f64>() / n;
        let spread = estimates.iter().map(|estimate| (estimate - mean).powi(2)).sum::<f64>() / (n - 1.0);
        let reported = errors.iter().map(|error| error * error).sum::<f64>() / n;
        let assert_near = |name, value: f64, truth: f64, error: f64| {
            // Estimates are rounded to whole numbers: a half at most, and a variance of a twelfth.
            assert!((value - truth).abs() <= ALLOWED * error + 0.6, "{what}: {name} {value}, not {truth} ± {error}");
        };
        let relative = (2.0 / (n - 1.0) + self.fourth_cumulant / self.variance.powi(2).max(1.0) / n).sqrt();
        assert_near("mean", mean, self.sum, (self.variance / n).sqrt());
        assert_near("variance", spread, self.variance, self.variance * relative);
        assert_near("reported variance", reported, self.variance, (self.variance_of_variance / n).sqrt());
    }
}

/// The blocks that a seed takes, as the kernel side tells them.
fn sample(sizes: &[u64], seed: u64) -> Heap {
    let mut random = SplitMix(seed);
    let mut heap = Heap::sampled(Sampling::by_bytes(RATE));
    for (place, &size) in sizes.iter().enumerate() {
        if is_taken(size, RATE, random.next() as u32) {
            let address = place as u64 * 16;
            heap.allocate(Allocation { address, size, stack: StackId(place as u64 % 3), time: Timestamp(seed) });
        }
    }
    heap
}

fn check(what: &str, sizes: &[u64]) {
    let heaps: Vec<_> = (0..SEEDS).map(|seed| sample(sizes, seed)).collect();
    let estimates =
        |of: fn(Outstanding) -> u64| -> Vec<_> { heaps.iter().map(|heap| of(heap.outstanding()) as f64).collect() };
    let errors =
        |of: fn(StandardError) -> f64| -> Vec<_> { heaps.iter().map(|heap| of(heap.standard_error())).collect() };
    Expected::of(sizes, |size| size as f64).check(what, &estimates(|held| held.bytes), &errors(|error| error.bytes));
    Expected::of(sizes, |_| 1.0).check(what, &estimates(|held| held.allocations), &errors(|error| error.allocations));
}

#[test]
fn small_blocks_of_one_size() {
    check("16 bytes", &[16; 3000]);
}

#[test]
fn empty_blocks() {
    check("empty", &[0; 3000]);
}

#[test]
fn blocks_near_the_rate() {
    check("near the rate", &[RATE / 2, RATE - 1, RATE / 3, RATE / 7].repeat(25));
}

#[test]
fn sizes_as_programs_have_them() {
    let mut random = SplitMix(1 << 40);
    let uniform: Vec<_> = (0..800).map(|_| random.next() % (RATE / 8)).collect();
    check("uniform", &uniform);
    // A heavy tail, of which some blocks are above the rate.
    let pareto: Vec<_> = (0..800).map(|_| (24.0 * random.fraction().max(1e-6).powf(-1.0 / 0.7)) as u64).collect();
    assert!(pareto.iter().any(|size| *size > RATE));
    check("Pareto", &pareto);
}

#[test]
fn blocks_of_at_least_the_rate_are_exact() {
    let sizes = [RATE, RATE + 1, 10 * RATE, u64::MAX >> 20];
    for seed in 0..100 {
        let heap = sample(&sizes, seed);
        assert_eq!(heap.outstanding(), Outstanding { bytes: sizes.iter().sum(), allocations: 4 });
        assert_eq!(heap.standard_error(), StandardError::default());
    }
}

#[test]
fn the_figures_of_stacks_add_up_as_their_variances_do() {
    let heap = sample(&[300, 5000, 40_000].repeat(400), 7);
    let select = |_| (Vec::<()>::new(), None);
    let stacks = heap.select(&Default::default(), Timestamp(8), |id| id, &HashMap::new(), select).shown;
    assert_eq!(stacks.len(), 3);
    let sum =
        |of: fn(StandardError) -> f64| stacks.iter().map(|stack| of(stack.standard_error).powi(2)).sum::<f64>().sqrt();
    let (bytes, allocations) = (sum(|error| error.bytes), sum(|error| error.allocations));
    let all = heap.standard_error();
    assert!((bytes / all.bytes - 1.0).abs() < 1e-9 && (allocations / all.allocations - 1.0).abs() < 1e-9);
    let held: u64 = stacks.iter().map(|stack| stack.outstanding.bytes).sum();
    assert!(held.abs_diff(heap.outstanding().bytes) <= 2, "but for rounding");
}

#[test]
fn what_is_freed_leaves_nothing_behind() {
    let sizes = [0, 1, 300, 5000, 40_000, RATE, u64::MAX].repeat(500);
    let mut heap = sample(&sizes, 5);
    assert!(heap.outstanding().allocations > 0);
    let addresses: Vec<_> = heap.blocks.iter().map(|block| block.address).collect();
    addresses.into_iter().for_each(|address| assert!(heap.free(address, Timestamp(6))));
    assert_eq!((heap.outstanding(), heap.standard_error()), (Outstanding::default(), StandardError::default()));
    assert_eq!(heap.outstanding_by_stack().count(), 0);
}

#[test]
fn growth_and_peak_outlive_a_new_beginning() {
    let block = |address, size| Allocation { address, size, stack: StackId(1), time: Timestamp(1) };
    let mut heap = Heap::sampled(Sampling::by_bytes(RATE));
    heap.allocate(block(16, RATE));
    heap.settle(Timestamp(2));
    heap.mark_reported();
    heap.begin_again();
    heap.settle(Timestamp(2));
    assert_eq!(
        (heap.outstanding(), heap.growth_bytes(), heap.peak().outstanding.bytes),
        (Outstanding::default(), -65536, RATE)
    );
    heap.allocate(block(16, RATE));
    heap.allocate(block(32, 2 * RATE));
    heap.settle(Timestamp(2));
    assert_eq!((heap.growth_bytes(), heap.peak().outstanding.bytes), (2 * 65536, 3 * RATE));
    heap.begin_again();
    heap.allocate(block(16, RATE));
    let at_peak = Selection { moment: Moment::Peak, ..Selection::default() };
    let frames = |_| (Vec::<()>::new(), None);
    let stacks = heap.select(&at_peak, Timestamp(3), |id| id, &HashMap::new(), frames).shown;
    let held = Outstanding { bytes: 3 * RATE, allocations: 2 };
    assert_eq!(stacks.iter().map(|stack| (stack.outstanding, stack.at_peak)).collect::<Vec<_>>(), [(held, held)]);
    assert_eq!(heap.freed(), Totals::default());
}
