//! The tools that are compared: how each runs a program, and where it says what was left behind. One tool, one file.

mod bpftrace;
mod dhat;
mod heaptrack;
mod memleak;
mod memprof;
mod mtrace;
mod unprofiled;

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::Result;

use super::workloads::Workload;
use crate::bench::builds::Builds;

/// A run that is to be made.
pub(super) struct Task<'a> {
    pub(super) builds: &'a Builds,
    pub(super) workload: &'a Workload,
    /// The program and its arguments. None holds a blank.
    pub(super) command: &'a [OsString],
    /// What the tool writes goes here.
    pub(super) output: &'a Path,
}

/// What a tool found at the end.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Answer {
    pub(super) stacks: Vec<Found>,
    /// Events that it knows to have lost.
    pub(super) lost: Option<u64>,
    /// How much of the program's processor time was the tool's, as it estimates itself, in percent.
    pub(super) cost_percent: Option<f64>,
}

/// Blocks that were never freed, of one stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) bytes: u64,
    /// If the tool says.
    pub(super) blocks: Option<u64>,
    /// From the allocator's caller outwards.
    pub(super) frames: usize,
}

pub(super) trait Tool {
    fn name(&self) -> &'static str;

    /// Whether it is on this machine.
    fn is_here(&self, builds: &Builds) -> bool;

    /// By how much less work it gets than an unprofiled program, so that a run takes seconds. It must be work enough that what is done
    /// once, such as the first reading of unwinding tables, does not count.
    fn slowness(&self) -> u64;

    /// Whether it can follow what this workload allocates with.
    fn can(&self, _workload: &Workload) -> bool {
        true
    }

    /// Runs the program.
    fn command(&self, task: &Task<'_>) -> Result<Command>;

    /// For a tool that launches nothing: [`Self::command`] holds the program until this is attached.
    fn attachable(&self) -> Option<&dyn Attachable> {
        None
    }

    /// Libraries to preload into the program, beside our own.
    fn preloads(&self) -> Option<&'static str> {
        None
    }

    /// What it found. `messages` is what went to standard error.
    fn answer(&self, task: &Task<'_>, messages: &str) -> Result<Option<Answer>>;

    /// Whether it means to tell of each block. Estimates of what was left behind, which may be none of a small leak, are not judged.
    fn is_exact(&self) -> bool {
        true
    }

    /// Bytes of its tables in the kernel.
    fn kernel_bytes(&self, _messages: &str) -> Option<u64> {
        None
    }
}

/// A tool that is attached to a program, and by an interrupt ends. [`Tool::answer`] finds what it printed in between.
pub(super) trait Attachable {
    fn attach(&self, task: &Task<'_>, pid: u32) -> Result<Command>;

    /// Whether it says in this line that it is there.
    fn is_attached(&self, line: &str) -> bool;
}

/// All tools, in the order of the table's columns.
pub(super) const ALL: [&dyn Tool; 9] = [
    &unprofiled::Unprofiled,
    &memprof::Floor,
    &memprof::Memprof,
    &memprof::Sampling,
    &bpftrace::Bpftrace,
    &memleak::Memleak,
    &heaptrack::Heaptrack,
    &dhat::Dhat,
    &mtrace::Mtrace,
];

pub(super) const UNPROFILED: &str = "unprofiled";
pub(super) const FLOOR: &str = "floor";

/// The command, to begin when it is told to (`xtask/bench/hold.c`).
fn held(task: &Task<'_>) -> Command {
    before(task.builds.program("hold"), &[], task)
}

/// `program ARGUMENTS... COMMAND...`
fn before(program: impl Into<PathBuf>, arguments: &[&str], task: &Task<'_>) -> Command {
    let mut command = Command::new(program.into());
    command.args(arguments).args(task.command);
    command
}

/// The command as one string, for tools that split it at blanks.
fn as_one_word(task: &Task<'_>) -> OsString {
    task.command.join(" ".as_ref())
}
