//! How long the programs run, by the kernel's own count (`BPF_ENABLE_STATS`, Linux 5.8, which takes CAP_SYS_ADMIN).

use std::{fs, os::fd::OwnedFd};

use aya::sys::{Stats, enable_stats};

use super::programs::Programs;
use crate::{
    model::{RunTime, RunTimes},
    privileges::{CapabilitySet, raise},
};

/// With a 1 in it, the kernel counts all the time.
const ALWAYS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// A time for which the kernel counts.
#[derive(Debug)]
pub(super) struct Timing {
    before: RunTimes,
    // The kernel counts as long as it is open, if it does not anyway.
    _counting: Option<OwnedFd>,
}

impl Timing {
    /// Begins to count. Nothing if the kernel does not.
    pub(super) fn begin(programs: &Programs) -> Option<Self> {
        let counting = {
            let _raised = raise(CapabilitySet::SYS_ADMIN);
            enable_stats(Stats::RunTime).inspect_err(|error| log::debug!("run-time statistics: {error}")).ok()
        };
        let is_counted = counting.is_some() || fs::read_to_string(ALWAYS).is_ok_and(|value| value.trim() == "1");
        is_counted.then(|| Self { _counting: counting, before: run_times(programs) })
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
