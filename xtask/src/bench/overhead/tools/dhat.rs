//! valgrind's dhat, which interprets the program.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Answer, Found, Task, Tool, before};
use crate::{bench::builds::Builds, process::is_on_path};

pub(super) struct Dhat;

impl Tool for Dhat {
    fn name(&self) -> &'static str {
        "dhat"
    }

    fn is_here(&self, _: &Builds) -> bool {
        is_on_path("valgrind")
    }

    fn slowness(&self) -> u64 {
        4
    }

    fn command(&self, task: &Task<'_>) -> Result<Command> {
        let output = format!("--dhat-out-file={}", task.output.display());
        Ok(before("valgrind", &["--tool=dhat", "--num-callers=127", "--show-below-main=yes", &output], task))
    }

    fn answer(&self, task: &Task<'_>, _: &str) -> Result<Option<Answer>> {
        let profile = fs::read_to_string(task.output).context("dhat wrote no profile")?;
        Ok(Some(parse(&serde_json::from_str(&profile).context("dhat's profile")?)))
    }
}

/// `pps` are the stacks; of each, `eb` and `ebk` are bytes and blocks at the end, and `fs` the frames, the allocator's own first.
fn parse(profile: &Value) -> Answer {
    let found = |stack: &Value| {
        Some(Found {
            bytes: stack["eb"].as_u64()?,
            blocks: Some(stack["ebk"].as_u64()?),
            frames: stack["fs"].as_array()?.len().saturating_sub(1),
        })
    };
    let stacks = profile["pps"].as_array().map_or(&[][..], Vec::as_slice);
    Answer { stacks: stacks.iter().filter_map(found).collect(), lost: None, cost_percent: None }
}
