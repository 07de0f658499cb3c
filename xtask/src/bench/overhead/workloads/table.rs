//! All workloads: programs that do one thing (`xtask/bench/`), and programs of Debian's.

use std::{ffi::OsString, process::Command};

use super::{LIBC, Leak, REDIS, Workload};
use crate::{
    bench::builds::{Builds, CATALOGUE},
    process::{self, root},
};

/// What the programs in `xtask/bench/` leave behind by `leak()`.
const LEAKED_BLOCKS: u64 = 7;
const LEAKED_BLOCK_SIZE: u64 = 12345;

/// What `pair` allocates, and keeps one of a hundred of.
const KEPT_BLOCK_SIZE: u64 = 64;
const KEEP_EVERY: u64 = 100;

const DEPTH: usize = 16;

/// Frames that `growth` and `churn` have between `main` and `leak`.
const LEVELS: usize = 10;

/// Frames of libc's below `main`, and below a thread's first function. Some tools leave them out.
const BELOW_MAIN: usize = 3;
const BELOW_THREAD: usize = 2;

const REDIS_SERVER: &str = "/usr/bin/redis-server";

pub(in super::super) const ALL: [Workload; 11] = [
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
    pair_in_threads::<4>("threads", "the same, none kept, four threads"),
    pair_in_threads::<8>("threads8", "the same, eight threads"),
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
        name: "xmllint",
        unit: "document",
        amount: 1,
        allocator: LIBC,
        divisible: false,
        clocked: Some("xmllint"),
        command: parse,
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

/// `pair` in so many threads, which share its work.
const fn pair_in_threads<const COUNT: u64>(name: &'static str, unit: &'static str) -> Workload {
    Workload {
        name,
        unit,
        amount: 1_000_000,
        allocator: LIBC,
        divisible: true,
        clocked: None,
        command: |builds, pairs| program(builds, "pair", &[DEPTH as u64, pairs / COUNT, 0, COUNT]),
        leak: Some(|_| leak(COUNT, DEPTH - BELOW_THREAD)),
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

/// The same document, so often.
fn parse(builds: &Builds, times: u64) -> Vec<OsString> {
    let documents = (0..times).map(|_| builds.program(CATALOGUE).into());
    ["/usr/bin/xmllint".into(), "--noout".into()].into_iter().chain(documents).collect()
}

/// The compiler proper, which `g++` would start.
fn compile(builds: &Builds, _: u64) -> Vec<OsString> {
    let compiler = process::output(Command::new("g++").arg("-print-prog-name=cc1plus")).unwrap_or_default();
    // Even so it would make a file, beside the source.
    let options = ["-quiet", "-fpreprocessed", "-std=c++17", "-fsyntax-only", "-o", "/dev/null"].map(OsString::from);
    std::iter::once(compiler.into()).chain(options).chain([builds.program("templates.ii").into()]).collect()
}
