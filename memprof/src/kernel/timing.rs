//! How long the programs run, by the kernel's own count (`BPF_ENABLE_STATS`, Linux 5.8).

use std::os::fd::OwnedFd;

use aya::sys::{Stats, enable_stats};

use super::programs::Programs;
use crate::model::{RunTime, RunTimes};

/// A time for which the kernel counts.
#[derive(Debug)]
pub(super) struct Timing {
    before: RunTimes,
    // The kernel counts as long as it is open.
    _counting: OwnedFd,
}

impl Timing {
    /// Begins to count. Nothing if the kernel does not.
    pub(super) fn begin(programs: &Programs) -> Option<Self> {
        let counting = enable_stats(Stats::RunTime).inspect_err(|error| log::debug!("run-time statistics: {error}"));
        Some(Self { _counting: counting.ok()?, before: run_times(programs) })
    }

    /// What has been counted.
    pub(super) fn end(self, programs: &Programs) -> RunTimes {
        let after = run_times(programs);
        let since = |of: fn(&RunTimes) -> RunTime| {
            let (after, before) = (of(&after), of(&self.before));
            RunTime { runs: after.runs - before.runs, nanoseconds: after.nanoseconds - before.nanoseconds }
        };
        RunTimes {
            enter: since(|times| times.enter),
            leave: since(|times| times.leave),
            free: since(|times| times.free),
        }
    }
}

/// From the beginning.
fn run_times(programs: &Programs) -> RunTimes {
    let mut times = RunTimes::default();
    for (name, figures) in programs.figures() {
        let time = match name {
            _ if name.starts_with("free") => &mut times.free,
            _ if name.starts_with("enter_") => &mut times.enter,
            _ if name.starts_with("return_") || name.starts_with("exit_") => &mut times.leave,
            _ => continue,
        };
        time.runs += figures.runs as f64;
        time.nanoseconds += figures.run_time.as_nanos() as f64;
    }
    times
}
