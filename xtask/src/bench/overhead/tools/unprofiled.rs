//! No tool.

use std::process::Command;

use anyhow::Result;

use super::{Answer, Task, Tool, UNPROFILED};
use crate::bench::builds::Builds;

pub(super) struct Unprofiled;

impl Tool for Unprofiled {
    fn name(&self) -> &'static str {
        UNPROFILED
    }

    fn is_here(&self, _: &Builds) -> bool {
        true
    }

    fn slowness(&self) -> u64 {
        1
    }

    fn command(&self, task: &Task<'_>) -> Result<Command> {
        let mut command = Command::new(&task.command[0]);
        command.args(&task.command[1..]);
        Ok(command)
    }

    fn answer(&self, _: &Task<'_>, _: &str) -> Result<Option<Answer>> {
        Ok(None)
    }
}
