//! From what was observed in windows to estimates for the whole time.
//!
//! Time is divided into *cycles*, each with one window at a random place in it: each moment of a cycle is in its window with the
//! same chance p. So what was observed in it, by 1/p, has the whole cycle's sum as its expectation, whatever the process does and
//! when (Horvitz and Thompson 1952). It holds for what is left of a cycle's blocks at any
//! later time, since every free of an observed block is seen.
//!
//! In a cycle that is not over, the window may have been, or not: what is estimated so is not its sum, but by how much it differs from what
//! the cycles before it let expect (a difference estimator: Särndal, Swensson, Wretman 1992, chapter 6). That has the same
//! expectation, and where a process goes on as it did, no error.
//!
//! The variance is that of one random window from each cycle, estimated by differences between the rates of successive cycles (Wolter:
//! Introduction to Variance Estimation, chapter 8): where a process does the same in each cycle, but for chance, its
//! expectation is about the variance; where it changes, it is more. A cycle that was observed from its beginning to its end has none.
//!
//! Time is counted without the time that memprof took of it: a process that memprof slows down does less in a window than it
//! would have done.

use crate::model::{Outstanding, StandardError, Timestamp, Totals};

/// The cycles of one image so far, and what was allocated in their windows.
#[derive(Clone, Debug, Default)]
pub struct Scale {
    cycles: Vec<Cycle>,
    /// Of the current cycle.
    inside: Passed,
    outside: Passed,
    /// Of all of them.
    all_inside: Passed,
    all_outside: Passed,
}

/// Seconds that have passed.
#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    elapsed: f64,
    undisturbed: f64,
}

impl Passed {
    fn add(&mut self, elapsed: f64, undisturbed: f64) {
        self.elapsed += elapsed;
        self.undisturbed += undisturbed;
    }

    /// How many of so many seconds are likely to be undisturbed.
    fn of(&self, seconds: f64) -> f64 {
        if self.elapsed > 0.0 { seconds * self.undisturbed / self.elapsed } else { seconds }
    }
}

/// One cycle.
#[derive(Clone, Copy, Debug)]
struct Cycle {
    start: Timestamp,
    /// Seconds, undisturbed.
    length: f64,
    /// Seconds of it in which allocations were observed.
    window: f64,
    is_full: bool,
    /// Seconds of a full cycle that have passed, undisturbed.
    passed: f64,
    allocations: u64,
    allocated_bytes: u64,
}

impl Cycle {
    fn weight(&self) -> f64 {
        if self.is_full || self.window <= 0.0 { 1.0 } else { (self.length / self.window).max(1.0) }
    }
}

/// An estimate for the whole time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Scaled {
    /// Bytes.
    pub bytes: f64,
    /// Blocks.
    pub allocations: f64,
    /// Nothing while there are too few windows to tell.
    pub standard_error: Option<StandardError>,
}

impl Scaled {
    /// Rounded.
    pub fn outstanding(&self) -> Outstanding {
        Outstanding { bytes: self.bytes.round() as u64, allocations: self.allocations.round() as u64 }
    }
}

impl Scale {
    /// Begins a cycle, as it is planned: seconds in all, and of its window. A cycle that is observed from its beginning to its
    /// end continues the one before, if that was, too.
    pub fn begin(&mut self, start: Timestamp, length: f64, window: f64) {
        let is_full = window >= length;
        let (window, rest) = (self.all_inside.of(window), self.all_outside.of(length - window));
        let length = window + rest;
        if !(is_full && self.cycles.last().is_some_and(|last| last.is_full)) {
            self.cycles.push(Cycle { start, length, window, is_full, passed: 0.0, allocations: 0, allocated_bytes: 0 });
        }
    }

    /// Tells that so many seconds have passed inside or outside of a window, so many of which memprof did not take.
    pub fn pass(&mut self, elapsed: f64, undisturbed: f64, is_inside: bool) {
        let (current, all) = match is_inside {
            true => (&mut self.inside, &mut self.all_inside),
            false => (&mut self.outside, &mut self.all_outside),
        };
        current.add(elapsed, undisturbed);
        all.add(elapsed, undisturbed);
        if let Some(cycle) = self.cycles.last_mut().filter(|cycle| cycle.is_full) {
            // A full cycle goes on as long as it goes on.
            cycle.passed += undisturbed;
            cycle.length = cycle.passed;
        }
    }

    /// Whether the window of the current cycle has begun.
    pub fn has_window(&self) -> bool {
        self.inside.undisturbed > 0.0
    }

    /// Ends the current cycle: how long it was is no plan any more.
    pub fn end(&mut self) {
        let (inside, outside) = (std::mem::take(&mut self.inside), std::mem::take(&mut self.outside));
        if let Some(cycle) = self.cycles.last_mut().filter(|cycle| !cycle.is_full && inside.undisturbed > 0.0) {
            cycle.window = inside.undisturbed;
            cycle.length = inside.undisturbed + outside.undisturbed;
        }
    }

    /// Tells what has been allocated in windows from the beginning until now.
    pub fn set_totals(&mut self, totals: &Totals) {
        let (mut allocations, mut bytes) = (totals.allocations, totals.allocated_bytes);
        if let Some((last, earlier)) = self.cycles.split_last_mut() {
            for cycle in earlier {
                allocations = allocations.saturating_sub(cycle.allocations);
                bytes = bytes.wrapping_sub(cycle.allocated_bytes);
            }
            (last.allocations, last.allocated_bytes) = (allocations, bytes);
        }
    }

    /// Whether all has been observed, so that there is nothing to estimate.
    pub fn is_whole(&self) -> bool {
        self.cycles.iter().all(|cycle| cycle.is_full)
    }

    /// How many windows there were, and are.
    pub fn windows(&self) -> usize {
        self.cycles.len()
    }

    /// What was allocated in all.
    pub fn totals(&self) -> Scaled {
        let sums = self.cycles.iter().map(|cycle| (cycle.allocated_bytes as f64, cycle.allocations as f64));
        self.estimate(sums.collect())
    }

    /// The sum of blocks that were observed, by size and time of their allocation.
    pub fn sum(&self, blocks: impl Iterator<Item = (f64, f64, Timestamp)>) -> Scaled {
        let mut sums = vec![(0.0, 0.0); self.cycles.len()];
        for (bytes, allocations, time) in blocks {
            let cycle = self.cycles.partition_point(|cycle| cycle.start <= time).saturating_sub(1);
            if let Some(sum) = sums.get_mut(cycle) {
                sum.0 += bytes;
                sum.1 += allocations;
            }
        }
        self.estimate(sums)
    }

    /// From what was observed in each cycle.
    fn estimate(&self, sums: Vec<(f64, f64)>) -> Scaled {
        let [bytes, allocations] = [|sum: &(f64, f64)| sum.0, |sum: &(f64, f64)| sum.1].map(|of| {
            let sums: Vec<f64> = sums.iter().map(of).collect();
            (self.sum_of_cycles(&sums), self.variance(&sums).map(f64::sqrt))
        });
        let standard_error = bytes.1.zip(allocations.1);
        let standard_error = standard_error.map(|(bytes, allocations)| StandardError { bytes, allocations });
        Scaled { bytes: bytes.0, allocations: allocations.0, standard_error }
    }

    fn sum_of_cycles(&self, observed: &[f64]) -> f64 {
        let weighed = |(sum, cycle): (&f64, &Cycle)| sum * cycle.weight();
        let all: f64 = observed.iter().zip(&self.cycles).map(weighed).sum();
        let Some(current) = self.cycles.last().filter(|cycle| !cycle.is_full) else { return all };
        let before = self.cycles.len() - 1;
        let recent = before.saturating_sub(CYCLES_TO_GO_BY)..before;
        let expected: f64 = observed[recent.clone()].iter().zip(&self.cycles[recent.clone()]).map(weighed).sum();
        let time: f64 = self.cycles[recent].iter().map(|cycle| cycle.length).sum();
        let rate = if time > 0.0 { expected / time } else { 0.0 };
        let (inside, outside) = (self.inside.undisturbed, self.outside.undisturbed);
        let corrected = all + rate * (inside + outside - current.weight() * inside);
        corrected.max(observed.iter().sum())
    }

    /// Of the sum of the cycles' estimates.
    fn variance(&self, observed: &[f64]) -> Option<f64> {
        let last = self.cycles.len().saturating_sub(1);
        let sampled: Vec<_> = (0..self.cycles.len()).filter(|index| !self.cycles[*index].is_full).collect();
        if sampled.is_empty() {
            return Some(0.0);
        }
        let window = |index: usize| if index == last { self.inside.undisturbed } else { self.cycles[index].window };
        let seen = sampled.iter().copied().filter(|index| window(*index) > 0.0);
        let rates: Vec<_> = seen.map(|index| observed[index] / window(index)).collect();
        let squares: f64 = rates.windows(2).map(|pair| (pair[0] - pair[1]).powi(2)).sum();
        let of_a_rate = squares / (2.0 * (rates.len() as f64 - 1.0));
        let lengths: f64 = sampled.iter().map(|index| self.cycles[*index].length.powi(2)).sum();
        (rates.len() >= LEAST_WINDOWS).then_some(of_a_rate * lengths)
    }
}

/// Cycles by which the current one is judged.
const CYCLES_TO_GO_BY: usize = 4;

/// With fewer windows than that, differences between them say nothing.
const LEAST_WINDOWS: usize = 3;
