//! What memprof costs a process: counts of calls, prices of a call, and what follows from the two.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Outstanding, StandardError, Totals};

/// How often a process's probes fired. Of each two, the first is for probes on instructions that the kernel emulates, the second
/// for those that it single-steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallCounts {
    /// Calls of functions that only allocate: an entry and a return each.
    pub allocations: [u64; 2],
    /// Calls of functions that resize, likewise.
    pub resizes: [u64; 2],
    /// Calls of functions that free: an entry each.
    pub frees: [u64; 2],
}

impl CallCounts {
    /// All of them.
    pub fn total(&self) -> u64 {
        [self.allocations, self.resizes, self.frees].into_iter().flatten().sum()
    }

    /// What came since an earlier moment.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let difference = |of: fn(&Self) -> [u64; 2]| {
            let (now, then) = (of(self), of(earlier));
            [0, 1].map(|manner| now[manner].saturating_sub(then[manner]))
        };
        Self {
            allocations: difference(|counts| counts.allocations),
            resizes: difference(|counts| counts.resizes),
            frees: difference(|counts| counts.frees),
        }
    }
}

/// What a probe with a program that does next to nothing costs, in nanoseconds of the processor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TrapCost {
    /// At a function's entry.
    pub entry: f64,
    /// At its entry and its return.
    pub call: f64,
}

/// Of an instruction that the kernel emulates, and of one that it single-steps. Nothing where it was not measured.
pub type TrapCosts = [Option<TrapCost>; 2];

/// How often programs ran, and for how long.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunTime {
    /// Runs.
    pub runs: f64,
    /// Nanoseconds.
    pub nanoseconds: f64,
}

/// Of the programs at entries that allocate, at returns, and at entries that free.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct RunTimes {
    /// At the entry of what allocates or resizes.
    pub enter: RunTime,
    /// At its return.
    pub leave: RunTime,
    /// At the entry of what frees.
    pub free: RunTime,
}

/// What memprof has cost a process, estimated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overhead {
    /// Processor time that memprof's probes and programs took.
    pub cost: Duration,
    /// All processor time of the process, in which that is.
    pub processor_time: Duration,
    /// Calls that were counted.
    pub calls: u64,
}

impl Overhead {
    /// How much of the process's processor time is memprof's, from 0 to 1; nothing before it has used any.
    pub fn share(&self) -> Option<f64> {
        let of_process = self.processor_time.as_secs_f64();
        (of_process > 0.0).then(|| (self.cost.as_secs_f64() / of_process).min(1.0))
    }
}

/// The most that memprof may cost a process: a share of its processor time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverheadLimit {
    millionths: u32,
}

impl OverheadLimit {
    /// A share from a millionth to 99 %; nothing if it is none.
    pub fn of_share(share: f64) -> Option<Self> {
        (1e-6..=0.99).contains(&share).then(|| Self { millionths: (share * 1e6).round() as u32 })
    }

    /// From 0 to 1.
    pub fn share(self) -> f64 {
        f64::from(self.millionths) / 1e6
    }
}

/// What was observed in some windows only, scaled to the whole time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScaledFigures {
    /// What is outstanding.
    pub outstanding: Outstanding,
    /// Nothing while there are too few windows to tell.
    pub standard_error: Option<StandardError>,
}

/// How much of the time was observed, and what follows for the whole of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ScaledProcess {
    /// Windows so far.
    pub windows: usize,
    /// Time in which allocations were observed.
    pub observed: Duration,
    /// Of so much.
    pub elapsed: Duration,
    /// What is outstanding of the blocks of the whole time.
    pub figures: ScaledFigures,
    /// What was allocated in the whole time, and freed.
    pub totals: Totals,
    /// Of the allocations in it. Nothing while there are too few windows to tell.
    pub totals_standard_error: Option<StandardError>,
}
