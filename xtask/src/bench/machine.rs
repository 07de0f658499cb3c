//! What the figures were taken on.

use std::{fmt, fs, thread};

use anyhow::{Context as _, Result};
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct Machine {
    processor: String,
    processors: usize,
    kernel: String,
    /// Mean number of threads that wanted to run in the last minute: others' work makes all figures worse.
    load: String,
}

impl Machine {
    pub(super) fn this() -> Result<Self> {
        let processors = read("/proc/cpuinfo")?;
        let name = processors.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        Ok(Self {
            processor: name.trim_start_matches([' ', '\t', ':']).to_owned(),
            processors: thread::available_parallelism().map_or(1, usize::from),
            kernel: read("/proc/sys/kernel/osrelease")?.trim().to_owned(),
            load: read("/proc/loadavg")?.split(' ').next().unwrap_or_default().to_owned(),
        })
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { processor, processors, kernel, load } = self;
        write!(formatter, "{processor}, {processors} processors, Linux {kernel}, load {load}")
    }
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("cannot read {path}"))
}
