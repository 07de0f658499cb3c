//! bcc's memleak in C (`libbpf-tools`), which Debian 12 does not have.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};

use super::{Answer, Found, Task, Tool, as_one_word};
use crate::{bench::builds::Builds, process::is_on_path};

pub(super) struct Memleak;

/// Seconds between its reports. What is known at the end is in the last one.
const INTERVAL: &str = "1";

impl Tool for Memleak {
    fn name(&self) -> &'static str {
        "memleak"
    }

    fn is_here(&self, _: &Builds) -> bool {
        is_on_path("memleak")
    }

    fn slowness(&self) -> u64 {
        50
    }

    fn command(&self, task: &Task<'_>) -> Result<Command> {
        // It ends with its command, and says nothing then: so its output goes to a file, of which the last report counts.
        let output = fs::File::create(task.output).context("cannot write what memleak prints")?;
        let mut command = Command::new("memleak");
        command
            .arg("-O")
            .arg(task.workload.allocator()?)
            .args(["-T", "1000", "-c"])
            .arg(as_one_word(task))
            .arg(INTERVAL);
        command.stderr(output);
        Ok(command)
    }

    fn answer(&self, task: &Task<'_>, _: &str) -> Result<Option<Answer>> {
        let output = fs::read_to_string(task.output).context("memleak wrote nothing")?;
        Ok(Some(parse(&output)))
    }
}

fn parse(output: &str) -> Answer {
    let mut answer = Answer::default();
    for line in output.lines() {
        if line.contains("Top ") {
            answer.stacks.clear();
        } else if let Some(found) = head(line) {
            answer.stacks.push(found);
        } else if line.trim_start().starts_with("0x") || line.trim_start().starts_with('#') {
            answer.stacks.iter_mut().next_back().into_iter().for_each(|stack| stack.frames += 1);
        }
    }
    answer
}

/// `BYTES bytes in BLOCKS allocations from stack`
fn head(line: &str) -> Option<Found> {
    let (bytes, rest) = line.trim().split_once(" bytes in ")?;
    let (blocks, _) = rest.split_once(" allocations from stack")?;
    Some(Found { bytes: bytes.parse().ok()?, blocks: Some(blocks.parse().ok()?), frames: 0 })
}
