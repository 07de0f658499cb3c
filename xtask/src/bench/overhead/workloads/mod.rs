//! What is run, and what it is known to leave behind.

mod table;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

pub(super) use self::table::ALL;
use crate::bench::builds::Builds;

/// The C library, whose allocator most programs use.
const LIBC: &str = "/usr/lib/x86_64-linux-gnu/libc.so.6";

pub(super) const REDIS: &str = "redis-server";

/// Something to run, and how much of it.
#[derive(Clone, Copy)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    /// What is counted.
    pub(super) unit: &'static str,
    /// How many of them an unprofiled run does.
    pub(super) amount: u64,
    /// Where its `malloc` is.
    pub(super) allocator: &'static str,
    /// Whether fewer can be done where each takes longer.
    pub(super) divisible: bool,
    /// The program whose process is watched from outside (`xtask/bench/clock.c`); others say by themselves how long they
    /// work.
    pub(super) clocked: Option<&'static str>,
    command: fn(&Builds, u64) -> Vec<OsString>,
    leak: Option<fn(u64) -> Leak>,
}

/// What a run is known to leave behind at one stack.
#[derive(Clone, Copy)]
pub(super) struct Leak {
    pub(super) bytes: u64,
    pub(super) blocks: u64,
    /// Frames from the allocator's caller to `main` or to a thread's first function.
    pub(super) frames: usize,
}

impl Workload {
    /// Whether its program and its allocator are on this machine.
    pub(super) fn is_here(&self, builds: &Builds) -> bool {
        let program = self.command(builds, self.amount).into_iter().next().unwrap_or_default();
        Path::new(&program).exists() && Path::new(self.allocator).exists()
    }

    /// What to run for so much work.
    pub(super) fn command(&self, builds: &Builds, amount: u64) -> Vec<OsString> {
        (self.command)(builds, amount)
    }

    /// What so much work leaves behind.
    pub(super) fn leak(&self, amount: u64) -> Option<Leak> {
        self.leak.map(|leak| leak(amount))
    }

    /// Whether its allocator is that of the C library.
    pub(super) fn is_of_libc(&self) -> bool {
        self.allocator == LIBC
    }

    /// The file of its allocator, links followed.
    pub(super) fn allocator(&self) -> Result<PathBuf> {
        fs::canonicalize(self.allocator).with_context(|| format!("cannot find {}", self.allocator))
    }
}
