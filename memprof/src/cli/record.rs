//! `memprof --pid PID` and `memprof -- COMMAND`.

use std::{ffi::OsString, time::Duration};

use clap::{Args, ValueEnum, error::ErrorKind};

use super::{
    checking::CheckingOptions,
    refuse,
    reporting::{Observing, Reporting, Timing},
    values::period,
};
use crate::{
    model::Sort,
    session::{Destination, Following, Format, Options, Reach, Sizes, Trace, TraceFormat, Whom},
};

/// From when on a forked process is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum FollowChildren {
    /// From when memprof has put probes into it: within milliseconds
    WhenSeen,
    /// From its first instruction: there are probes in every process that uses the same allocator, at a cost to them
    Exact,
}

/// What is told of each call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TraceWith {
    /// Where it was called
    Callers,
    /// The whole stack, of those that allocate
    Stacks,
}

impl FollowChildren {
    /// Whom the probes reach, and which processes are followed.
    pub(super) fn reach(this: Option<Self>) -> (Reach, Following) {
        match this {
            Some(Self::Exact) => (Reach::Everyone, Following::Children),
            Some(Self::WhenSeen) => (Reach::Targets, Following::Children),
            None => (Reach::Targets, Following::Nobody),
        }
    }
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
    #[command(flatten)]
    checking: CheckingOptions,

    /// Write each call of an allocator function as it happens, and one report at the end [without a value: callers]
    #[arg(long, value_name = "WITH", num_args = 0..=1, require_equals = true, default_missing_value = "callers")]
    trace: Option<TraceWith>,

    /// Observe the processes that the target forks too, and theirs [without a value: when-seen]
    #[arg(long, value_name = "FROM", num_args = 0..=1, require_equals = true, default_missing_value = "when-seen")]
    follow_children: Option<FollowChildren>,

    #[command(flatten)]
    observing: Observing,
}

impl Record {
    pub(super) fn into_session(self, log_programs: bool) -> (Whom, Options) {
        self.refuse_contradictions();
        let trace = self.trace(&self.reporting.destinations(Sort::Bytes));
        let has_reports = self.command.is_empty() && trace.is_none();
        let default_interval = has_reports.then_some(Duration::from_secs(5));
        let interval = self.interval.or(default_interval);
        let timing = Timing { interval, count: self.count, duration: self.duration };
        let options = self.observing.into_options(self.reporting, Sort::Bytes, timing, log_programs);
        let (reach, following) = FollowChildren::reach(self.follow_children);
        let sizes = if trace.is_some() { sizes_for_trace(options.sizes) } else { options.sizes };
        let checking = self.checking.into_checking();
        let options = Options { reach, following, trace, sizes, checking, ..options };
        let whom = if self.command.is_empty() { Whom::Processes(self.pid) } else { Whom::Command(self.command) };
        (whom, options)
    }

    /// A log is a trace by itself. Otherwise calls are written where the first reports go that can stand among them.
    fn trace(&self, outputs: &[Destination]) -> Option<Trace> {
        let is_log = |output: &Destination| output.format == Format::Mtrace;
        let output = match outputs.iter().position(is_log) {
            Some(log) => log,
            None if self.trace.is_none() => return None,
            None => {
                let can_be = |output: &Destination| TraceFormat::of(output.format).is_some();
                outputs.iter().position(can_be).unwrap_or_else(|| {
                    let message = "--trace writes text and JSON: give it a file for that, such as -o trace.txt";
                    refuse(ErrorKind::ArgumentConflict, message)
                })
            }
        };
        let format = TraceFormat::of(outputs[output].format)?;
        Some(Trace { format, stacks: self.trace == Some(TraceWith::Stacks), output })
    }

    /// What cannot go together with a trace. Ends the process likewise.
    fn refuse_contradictions_of_trace(&self) {
        let destinations = self.reporting.destinations(Sort::Bytes);
        let logs = destinations.iter().filter(|output| output.format == Format::Mtrace).count();
        if logs == 0 && self.trace.is_none() {
            return;
        }
        let conflict = |message| refuse(ErrorKind::ArgumentConflict, message);
        if self.observing.is_partial() {
            conflict(
                "a trace is of every call: neither --trace nor --format mtrace go with --sample or --max-overhead",
            );
        }
        if self.reporting.sorts_by_temporary() {
            conflict("--sort temporary is not known while calls are traced: not with --trace or --format mtrace");
        }
        if logs > 0 && self.trace.is_some() {
            conflict("--format mtrace is a trace already: not with --trace");
        }
        if logs > 1 {
            conflict("one log of --format mtrace is enough");
        }
        if logs > 0 && (self.pid.len() > 1 || self.follow_children.is_some()) {
            conflict("--format mtrace is the log of one process: give one --pid, and no --follow-children");
        }
        if logs == destinations.len() && (self.interval.is_some() || self.count.is_some()) {
            conflict("--format mtrace is a log, without reports: --interval and --count mean nothing there");
        }
    }

    /// Ends the process, as clap does with its own findings.
    fn refuse_contradictions(&self) {
        if self.pid.is_empty() && self.command.is_empty() {
            refuse(ErrorKind::MissingRequiredArgument, "whom to profile? give --pid PID, or a command after --");
        }
        refuse_repetition(&self.pid);
        self.reporting.refuse_contradictions();
        refuse_limit_for_everyone(&self.observing, self.follow_children);
        self.observing.refuse_contradictions(&self.reporting);
        self.refuse_contradictions_of_trace();
        if self.count.is_some() && self.interval.is_none() && !self.command.is_empty() {
            refuse(ErrorKind::MissingRequiredArgument, "--count needs --interval when a command is launched");
        }
    }
}

/// No block rests in the nursery, but every call goes through the ring: it is made larger, unless its size was chosen.
fn sizes_for_trace(sizes: Sizes) -> Sizes {
    let is_default = sizes.ring_bytes == Sizes::default().ring_bytes;
    Sizes { nursery_entries: 1, ring_bytes: if is_default { 1 << 26 } else { sizes.ring_bytes }, ..sizes }
}

/// Ends the process likewise if a limit is to be kept for those who are not observed.
pub(super) fn refuse_limit_for_everyone(observing: &Observing, follow_children: Option<FollowChildren>) {
    if observing.has_limit() && follow_children == Some(FollowChildren::Exact) {
        refuse(ErrorKind::ArgumentConflict, "--max-overhead cannot be kept with --follow-children=exact");
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
