//! How often the rule for a pc is in the cache, and a stack as it was before, in a python3 that works.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use serde::Serialize;

use crate::{
    bench::{
        Arguments,
        bpf::counters_of,
        builds::{Builds, Variant},
        launched::Launched,
    },
    process::root,
};

#[derive(Serialize)]
pub(in crate::bench) struct Figures {
    lookups: u64,
    misses: u64,
    hit_rate: f64,
    stacks: u64,
    as_before: u64,
}

pub(super) fn measure(arguments: &Arguments, builds: &Builds) -> Result<Figures> {
    let mut command = builds.memprof(Variant::Cache);
    command
        .args(["--quiet", "--output", "/dev/null", "--", "/usr/bin/python3"])
        .arg(root().join("xtask/bench/documents.py"));
    let mut launched =
        Launched::start(command.arg(arguments.scaled(20).to_string()).env("PYTHONMALLOC", "malloc"), Stdio::piped())?;
    launched.work()?;
    let counts = counters_of(launched.pid(), "CACHE_COUNTS")?;
    launched.finish()?;
    let [lookups, misses, stacks, as_before] = *counts else {
        return Err(anyhow::anyhow!("four counters")).context("CACHE_COUNTS");
    };
    let hit_rate = 1.0 - misses as f64 / lookups as f64;
    eprintln!("\nRule cache on python3: {lookups} looked up, {misses} missed, {:.3} % hit", hit_rate * 100.0);
    let share = as_before as f64 / stacks as f64;
    eprintln!("Stacks there: {stacks}, {as_before} as they were before, {:.1} %\n", share * 100.0);
    Ok(Figures { lookups, misses, hit_rate, stacks, as_before })
}
