//! What is run: programs that do one thing (`xtask/bench/`), and programs of Debian's.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    bench::builds::Builds,
    process::{self, root},
};

/// The C library, whose allocator most programs use.
const LIBC: &str = "/usr/lib/x86_64-linux-gnu/libc.so.6";

/// What the programs in `xtask/bench/` leave behind by `leak()`.
const LEAKED_BLOCKS: u64 = 7;
const LEAKED_BLOCK_SIZE: u64 = 12345;

/// What `pair` allocates, and keeps one of a hundred of.
const KEPT_BLOCK_SIZE: u64 = 64;
const KEEP_EVERY: u64 = 100;

const DEPTH: usize = 16;

/// Frames that `growth` and `churn` have between `main` and `leak`.
const LEVELS: usize = 10;

const THREADS: u64 = 4;

/// Frames of libc's below `main`, and below a thread's first function. Some tools leave them out.
const BELOW_MAIN: usize = 3;
const BELOW_THREAD: usize = 2;

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
    /// The program whose process is watched from outside (`xtask/bench/clock.c`); others say by themselves how long they work.
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

pub(super) const REDIS: &str = "redis-server";
const REDIS_SERVER: &str = "/usr/bin/redis-server";

pub(super) const ALL: [Workload; 9] = [
    Workload {
        name: "pair",
        unit: "malloc and free, at depth 16",
        amount: 1_000_000,
        allocator: LIBC,
        divisible: true,
        clocked: None,
        command: |builds, pairs| program(builds, "pair", &[DEPTH as u64, pairs, 0, 1]),
        leak: Some(|_| leak(1, DEPTH - BELOW_MAIN)),
    },
    Workload {
        name: "leaky",
        unit: "the same, one in 100 never freed",
        amount: 1_000_000,
        allocator: LIBC,
        divisible: true,
        clocked: None,
        command: |builds, pairs| program(builds, "pair", &[DEPTH as u64, pairs, KEEP_EVERY, 1]),
        leak: Some(kept),
    },
    Workload {
        name: "threads",
        unit: "the same, none kept, four threads",
        amount: 1_000_000,
        allocator: LIBC,
        divisible: true,
        clocked: None,
        command: |builds, pairs| program(builds, "pair", &[DEPTH as u64, pairs / THREADS, 0, THREADS]),
        leak: Some(|_| leak(THREADS, DEPTH - BELOW_THREAD)),
    },
    Workload {
        name: "growth",
        unit: "buffer grown by 11 reallocs",
        amount: 100_000,
        allocator: LIBC,
        divisible: true,
        clocked: None,
        command: |builds, buffers| program(builds, "growth", &[buffers]),
        leak: Some(|_| leak(1, LEVELS + 2)),
    },
    Workload {
        name: "churn",
        unit: "change of a C++ map of strings",
        amount: 300_000,
        allocator: LIBC,
        divisible: true,
        clocked: None,
        command: |builds, changes| program(builds, "churn", &[changes]),
        leak: Some(|_| leak(1, LEVELS + 2)),
    },
    Workload {
        name: "sqlite3",
        unit: "run",
        amount: 1,
        allocator: LIBC,
        divisible: false,
        clocked: Some("sqlite3"),
        command: |_, _| {
            words(["/usr/bin/sqlite3".into(), "-batch".into(), "-init".into(), source("query.sql"), ":memory:".into()])
        },
        leak: None,
    },
    Workload {
        name: "python3",
        unit: "document, PYTHONMALLOC=malloc",
        amount: 20,
        allocator: LIBC,
        divisible: false,
        clocked: None,
        command: |_, rounds| words(["/usr/bin/python3".into(), source("documents.py"), rounds.to_string().into()]),
        leak: None,
    },
    Workload {
        name: REDIS,
        unit: "request of redis-benchmark's",
        amount: 20_000,
        allocator: "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2",
        // Starting redis-benchmark takes as long as many a request: tools are compared at equal numbers.
        divisible: false,
        clocked: Some(REDIS),
        command: |_, _| words([REDIS_SERVER.into()]),
        leak: None,
    },
    Workload {
        name: "compile",
        unit: "C++ file",
        amount: 1,
        allocator: LIBC,
        divisible: false,
        clocked: Some("cc1plus"),
        command: compile,
        leak: None,
    },
];

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

    /// The file of its allocator, links followed.
    pub(super) fn allocator(&self) -> Result<PathBuf> {
        fs::canonicalize(self.allocator).with_context(|| format!("cannot find {}", self.allocator))
    }
}

fn leak(threads: u64, frames: usize) -> Leak {
    let blocks = LEAKED_BLOCKS * threads;
    Leak { bytes: blocks * LEAKED_BLOCK_SIZE, blocks, frames }
}

fn kept(pairs: u64) -> Leak {
    let blocks = pairs.div_ceil(KEEP_EVERY);
    Leak { bytes: blocks * KEPT_BLOCK_SIZE, blocks, frames: DEPTH - BELOW_MAIN }
}

fn words<const COUNT: usize>(words: [OsString; COUNT]) -> Vec<OsString> {
    words.into()
}

fn program(builds: &Builds, name: &str, arguments: &[u64]) -> Vec<OsString> {
    let arguments = arguments.iter().map(|argument| argument.to_string().into());
    std::iter::once(builds.program(name).into()).chain(arguments).collect()
}

fn source(name: &str) -> OsString {
    root().join("xtask/bench").join(name).into()
}

/// The compiler proper, which `g++` would start.
fn compile(builds: &Builds, _: u64) -> Vec<OsString> {
    let compiler = process::output(Command::new("g++").arg("-print-prog-name=cc1plus")).unwrap_or_default();
    let options = ["-quiet", "-fpreprocessed", "-std=c++17", "-fsyntax-only"].map(OsString::from);
    std::iter::once(compiler.into()).chain(options).chain([builds.program("templates.ii").into()]).collect()
}
