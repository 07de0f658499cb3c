//! memprof as users have it, and the floor: the same probes, with programs that do nothing.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};
use bytesize::ByteSize;
use serde_json::Value;

use super::{Answer, FLOOR, Found, Task, Tool};
use crate::bench::builds::{Builds, Variant};

pub(super) struct Memprof;

/// With one point in 512 KiB, its default.
pub(super) struct Sampling;

pub(super) struct Floor;

impl Tool for Memprof {
    fn name(&self) -> &'static str {
        "memprof"
    }

    fn is_here(&self, _: &Builds) -> bool {
        true
    }

    fn slowness(&self) -> u64 {
        10
    }

    fn command(&self, task: &Task<'_>) -> Result<Command> {
        Ok(launching(task.builds.product(), &[], task))
    }

    fn answer(&self, task: &Task<'_>, _: &str) -> Result<Option<Answer>> {
        let report = fs::read_to_string(task.output).context("memprof wrote no report")?;
        Ok(Some(parse(serde_json::from_str(&report).context("memprof's report")?)))
    }

    fn kernel_bytes(&self, messages: &str) -> Option<u64> {
        let size = messages.lines().find_map(|line| line.split_once("kernel memory: "))?.1;
        Some(size.trim().parse::<ByteSize>().ok()?.as_u64())
    }
}

impl Tool for Sampling {
    fn name(&self) -> &'static str {
        "memprof --sample"
    }

    fn is_here(&self, _: &Builds) -> bool {
        true
    }

    fn slowness(&self) -> u64 {
        Memprof.slowness()
    }

    fn command(&self, task: &Task<'_>) -> Result<Command> {
        Ok(launching(task.builds.product(), &["--sample"], task))
    }

    fn answer(&self, task: &Task<'_>, messages: &str) -> Result<Option<Answer>> {
        Memprof.answer(task, messages)
    }

    fn is_exact(&self) -> bool {
        false
    }

    fn kernel_bytes(&self, messages: &str) -> Option<u64> {
        Memprof.kernel_bytes(messages)
    }
}

impl Tool for Floor {
    fn name(&self) -> &'static str {
        FLOOR
    }

    fn is_here(&self, builds: &Builds) -> bool {
        builds.has_variants()
    }

    fn slowness(&self) -> u64 {
        Memprof.slowness()
    }

    fn command(&self, task: &Task<'_>) -> Result<Command> {
        Ok(launching(task.builds.memprof(Variant::Empty), &[], task))
    }

    fn answer(&self, _: &Task<'_>, _: &str) -> Result<Option<Answer>> {
        Ok(None)
    }
}

fn launching(mut memprof: Command, options: &[&str], task: &Task<'_>) -> Command {
    memprof.args(options).args(["--verbose", "--format", "json", "--top", "0", "--output"]).arg(task.output).arg("--");
    memprof.args(task.command);
    memprof
}

fn parse(report: Value) -> Answer {
    let lost = report["lost"].as_object().map(|lost| lost.values().filter_map(Value::as_u64).sum());
    let stacks = report["processes"][0]["stacks"].as_array().map_or(&[][..], Vec::as_slice);
    let found = |stack: &Value| {
        Some(Found {
            bytes: stack["outstanding_bytes"].as_u64()?,
            blocks: Some(stack["outstanding_allocations"].as_u64()?),
            frames: stack["frames"].as_array()?.len(),
        })
    };
    let cost_percent = report["processes"][0]["overhead"]["percent"].as_f64();
    Answer { stacks: stacks.iter().filter_map(found).collect(), lost, cost_percent }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_is_an_answer() {
        let stack = json!({"outstanding_bytes": 70, "outstanding_allocations": 7, "frames": [{}, {}, {}]});
        let lost = json!({"allocations": 1, "frees": 2, "stacks": 0});
        let report = json!({"lost": lost, "processes": [{"stacks": [stack], "overhead": {"percent": 75.0}}]});
        let found = Found { bytes: 70, blocks: Some(7), frames: 3 };
        assert_eq!(parse(report), Answer { stacks: vec![found], lost: Some(3), cost_percent: Some(75.0) });
    }

    #[test]
    fn kernel_memory_is_read_from_the_log() {
        let log = "[DEBUG memprof::session] 13 programs loaded\n[DEBUG memprof::session] kernel memory: 92.5 MiB\n";
        assert_eq!(Memprof.kernel_bytes(log), Some(92 * (1 << 20) + (1 << 19)));
    }
}
