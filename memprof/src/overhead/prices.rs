//! From counts of calls to processor time.

use std::time::Duration;

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

/// What a call costs: the traps, as measured once, and memprof's programs, as the kernel measures them from time to time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Prices {
    traps: TrapCosts,
    programs: RunTimes,
}

impl Prices {
    /// Takes in what a probe costs.
    pub fn set_traps(&mut self, traps: TrapCosts) {
        self.traps = traps;
    }

    /// Takes in how long the programs ran for a moment. Older moments count half as much each time.
    pub fn add_moment(&mut self, moment: &RunTimes) {
        add(&mut self.programs.enter, moment.enter);
        add(&mut self.programs.leave, moment.leave);
        add(&mut self.programs.free, moment.free);
    }

    /// Whether probes of both kinds that are in use have a price.
    pub fn knows(&self, is_in_use: [bool; 2]) -> bool {
        [0, 1].into_iter().all(|manner| !is_in_use[manner] || self.traps[manner].is_some())
    }

    /// What calls cost; nothing if there are some of a kind whose price is not known.
    pub fn cost(&self, calls: &CallCounts) -> Option<Cost> {
        let mut cost = Cost::default();
        for manner in [0, 1] {
            let counts = [calls.allocations[manner], calls.resizes[manner], calls.frees[manner]];
            if counts == [0; 3] {
                continue;
            }
            let trap = self.traps[manner]?;
            let call = trap.call + mean(self.programs.enter) + mean(self.programs.leave);
            let [allocations, resizes, frees] = counts.map(|count| count as f64);
            cost.windowed += allocations * call;
            cost.permanent += resizes * call + frees * (trap.entry + mean(self.programs.free));
        }
        Some(cost)
    }
}

fn add(sum: &mut RunTime, moment: RunTime) {
    if moment.runs > 0.0 {
        sum.runs = sum.runs / 2.0 + moment.runs;
        sum.nanoseconds = sum.nanoseconds / 2.0 + moment.nanoseconds;
    }
}

/// Nothing of what has not run in any moment: that is rare.
fn mean(time: RunTime) -> f64 {
    if time.runs > 0.0 { time.nanoseconds / time.runs } else { 0.0 }
}
