//! What a user asks of a session, however it was asked.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use crate::model::{FailWhen, OverheadLimit, Sampling, Selection};
pub use crate::{
    kernel::{Following, Reach, Sizes, Unwind},
    plan::{Functions, parse_function},
    render::{Format, TraceFormat},
    suppress::Suppressions,
};

/// Whom to observe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Running processes, by pid.
    Processes(Vec<u32>),
    /// The whole machine, or a part of it.
    Machine(Sweep),
    /// A command that is yet to be started: its name, then its arguments.
    Command(Vec<OsString>),
}

/// Who of many processes is to be observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sweep {
    /// For how long all are watched, so that only those that grow are attached to; nothing to attach to all at once.
    pub watch: Option<Duration>,
    /// How many are attached to at most, after watching.
    pub suspects: usize,
    /// Leave out all but this process and those that descend from it.
    pub parent: Option<u32>,
}

/// How calls are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// In which format.
    pub format: TraceFormat,
    /// With the whole stacks of allocations.
    pub stacks: bool,
    /// To which of the outputs.
    pub output: usize,
}

/// Where reports go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// To which file; to standard output if none.
    pub path: Option<PathBuf>,
    /// In which format.
    pub format: Format,
    /// What of them.
    pub selection: Selection,
}

/// What decides the exit status, and what does not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checking {
    /// Which stacks are left out; nothing if no file was given.
    pub suppressions: Option<Suppressions>,
    /// When a report fails.
    pub fail_when: FailWhen,
}

/// How to observe and what to report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Time between reports; none for a report at the end only.
    pub interval: Option<Duration>,
    /// Number of reports after which to end.
    pub count: Option<u64>,
    /// Time after which to end.
    pub duration: Option<Duration>,
    /// What is reported.
    pub selection: Selection,
    /// Where it goes.
    pub outputs: Vec<Destination>,
    /// What decides the exit status.
    pub checking: Checking,
    /// How each call is written as it happens, if that is asked for.
    pub trace: Option<Trace>,
    /// What is looked for in objects.
    pub functions: Functions,
    /// How stacks are unwound.
    pub unwind: Unwind,
    /// Which allocations are taken.
    pub sampling: Sampling,
    /// The most that a process may be made to bear.
    pub max_overhead: Option<OverheadLimit>,
    /// Whom the probes reach.
    pub reach: Reach,
    /// Which processes are followed that are forked.
    pub following: Following,
    /// Sizes of the kernel's tables.
    pub sizes: Sizes,
    /// Whether reports are shown on the terminal, live, and not written.
    pub is_live: bool,
    /// Whether the BPF programs log.
    pub log_programs: bool,
}
