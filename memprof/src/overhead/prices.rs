//! From counts of calls to processor time.

use std::{collections::VecDeque, time::Duration};

use crate::model::{CallCounts, RunTime, RunTimes, TrapCosts};

/// What the calls of some time cost, in nanoseconds of the processor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Of probes that are there within windows only: calls that only allocate.
    pub windowed: f64,
    /// Of those that always are: frees, and calls that resize.
    pub permanent: f64,
}

impl Cost {
    /// Both.
    pub fn total(self) -> f64 {
        self.windowed + self.permanent
    }

    /// As a duration.
    pub fn duration(self) -> Duration {
        Duration::from_nanos(self.total() as u64)
    }
}

impl std::ops::AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.windowed += other.windowed;
        self.permanent += other.permanent;
    }
}

/// What a call costs: the traps, as measured once, and memprof's programs, as the kernel measures them for moments.
///
/// The kernel measures by the clock, so that a moment in which a program was preempted says milliseconds. So moments are short,
/// and what counts is the median of the last ones.
#[derive(Clone, Debug, Default)]
pub struct Prices {
    traps: TrapCosts,
    enter: Times,
    leave: Times,
    free: Times,
    moments: usize,
    is_without_moments: bool,
}

/// Nanoseconds of a program in the last moments in which it ran.
#[derive(Clone, Debug, Default)]
struct Times(VecDeque<f64>);

impl Times {
    const KEPT: usize = 11;
    const LEAST_RUNS: f64 = 5.0;

    fn add(&mut self, moment: RunTime) {
        if moment.runs >= Self::LEAST_RUNS {
            self.0.truncate(Self::KEPT - 1);
            self.0.push_front(moment.nanoseconds / moment.runs);
        }
    }

    /// The median; nothing of what hardly ran in any moment: that is rare.
    fn typical(&self) -> f64 {
        let mut sorted: Vec<_> = self.0.iter().copied().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        sorted.get(sorted.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
    }
}

impl Prices {
    /// Takes in what a probe costs.
    pub fn set_traps(&mut self, traps: TrapCosts) {
        self.traps = traps;
    }

    /// Takes in that the kernel does not measure the programs: nothing has a price then.
    pub fn set_without_moments(&mut self) {
        self.is_without_moments = true;
    }

    /// Whether the kernel measures the programs, as far as is known.
    pub fn has_moments(&self) -> bool {
        !self.is_without_moments
    }

    /// Takes in how long the programs ran for a moment.
    pub fn add_moment(&mut self, moment: &RunTimes) {
        self.moments += 1;
        self.enter.add(moment.enter);
        self.leave.add(moment.leave);
        self.free.add(moment.free);
    }

    /// Whether there were as many moments as are kept.
    pub fn has_settled(&self) -> bool {
        self.moments >= Times::KEPT
    }

    /// What calls cost; nothing if there are some of a kind whose price is not known.
    pub fn cost(&self, calls: &CallCounts) -> Option<Cost> {
        let mut cost = Cost::default();
        let (enter, leave, free) = (self.enter.typical(), self.leave.typical(), self.free.typical());
        for manner in [0, 1] {
            let counts = [calls.allocations[manner], calls.resizes[manner], calls.frees[manner]];
            if counts == [0; 3] {
                continue;
            }
            let trap = self.traps[manner].filter(|_| self.has_moments())?;
            let call = trap.call + enter + leave;
            let [allocations, resizes, frees] = counts.map(|count| count as f64);
            cost.windowed += allocations * call;
            cost.permanent += resizes * call + frees * (trap.entry + free);
        }
        Some(cost)
    }
}
