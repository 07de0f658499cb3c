//! `memprof --pid PID` and `memprof -- COMMAND`.

use std::{ffi::OsString, time::Duration};

use clap::{Args, ValueEnum, error::ErrorKind};

use super::{
    refuse,
    reporting::{Observing, Reporting, Timing},
    values::period,
};
use crate::{
    model::Sort,
    session::{Following, Options, Reach, Whom},
};

/// From when on a forked process is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FollowChildren {
    /// From when memprof has put probes into it: within milliseconds
    WhenSeen,
    /// From its first instruction: there are probes in every process that uses the same allocator, at a cost to them
    Exact,
}

#[derive(Args, Debug)]
pub(super) struct Record {
    /// Process to attach to; can be given several times
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..))]
    pid: Vec<u32>,
    /// Command to launch, with its arguments, after `--`
    #[arg(last = true, value_name = "COMMAND", conflicts_with = "pid")]
    command: Vec<OsString>,

    /// Time between reports [default: 5s with --pid, at the end only with a command]
    #[arg(short, long, value_name = "TIME", value_parser = period)]
    interval: Option<Duration>,
    /// End after this many reports
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time
    #[arg(short, long, value_name = "TIME", value_parser = period)]
    duration: Option<Duration>,

    #[command(flatten)]
    reporting: Reporting,

    /// Observe the processes that the target forks too, and theirs [without a value: when-seen]
    #[arg(long, value_name = "FROM", num_args = 0..=1, require_equals = true, default_missing_value = "when-seen")]
    follow_children: Option<FollowChildren>,

    #[command(flatten)]
    observing: Observing,
}

impl Record {
    pub(super) fn into_session(self, log_programs: bool) -> (Whom, Options) {
        self.refuse_contradictions();
        let default_interval = self.command.is_empty().then_some(Duration::from_secs(5));
        let interval = self.interval.or(default_interval);
        let timing = Timing { interval, count: self.count, duration: self.duration };
        let options = self.observing.into_options(self.reporting, Sort::Bytes, timing, log_programs);
        let reach = match self.follow_children {
            Some(FollowChildren::Exact) => Reach::Everyone,
            Some(FollowChildren::WhenSeen) | None => Reach::Targets,
        };
        let following = if self.follow_children.is_some() { Following::Children } else { Following::Nobody };
        let options = Options { reach, following, ..options };
        let whom = if self.command.is_empty() { Whom::Processes(self.pid) } else { Whom::Command(self.command) };
        (whom, options)
    }

    /// Ends the process, as clap does with its own findings.
    fn refuse_contradictions(&self) {
        if self.pid.is_empty() && self.command.is_empty() {
            refuse(ErrorKind::MissingRequiredArgument, "whom to profile? give --pid PID, or a command after --");
        }
        refuse_repetition(&self.pid);
        self.reporting.refuse_contradictions();
        if self.observing.has_limit() && self.follow_children == Some(FollowChildren::Exact) {
            refuse(ErrorKind::ArgumentConflict, "--max-overhead cannot be kept with --follow-children=exact");
        }
        if self.count.is_some() && self.interval.is_none() && !self.command.is_empty() {
            refuse(ErrorKind::MissingRequiredArgument, "--count needs --interval when a command is launched");
        }
    }
}

/// Ends the process likewise if a pid is there twice.
pub(super) fn refuse_repetition(pids: &[u32]) {
    let mut pids = pids.to_vec();
    pids.sort_unstable();
    if pids.windows(2).any(|pair| pair[0] == pair[1]) {
        refuse(ErrorKind::ValueValidation, "the same --pid is given twice");
    }
}
