//! heaptrack, which is preloaded and sends every event to another process.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};

use super::{Answer, Found, Task, Tool, before};
use crate::{
    bench::builds::Builds,
    process::{self, is_on_path},
};

pub(super) struct Heaptrack;

impl Tool for Heaptrack {
    fn name(&self) -> &'static str {
        "heaptrack"
    }

    fn is_here(&self, _: &Builds) -> bool {
        is_on_path("heaptrack") && is_on_path("heaptrack_print")
    }

    fn slowness(&self) -> u64 {
        1
    }

    fn command(&self, task: &Task<'_>) -> Result<Command> {
        Ok(before("heaptrack", &["--output", &task.output.to_string_lossy()], task))
    }

    /// Its folded stacks have exact bytes, where its text rounds; but they do not say how many blocks.
    fn answer(&self, task: &Task<'_>, _: &str) -> Result<Option<Answer>> {
        let folded = task.output.with_extension("folded");
        let mut print = Command::new("heaptrack_print");
        print.arg("--file").arg(task.output.with_extension("zst")).args(["--flamegraph-cost-type", "leaked"]);
        process::output(print.arg("--print-flamegraph").arg(&folded))?;
        let text = fs::read_to_string(&folded).context("heaptrack_print wrote nothing")?;
        Ok(Some(Answer { stacks: text.lines().filter_map(parse).collect(), lost: None, cost_percent: None }))
    }
}

/// `FRAME;FRAME;FRAME BYTES`, the outermost first.
fn parse(line: &str) -> Option<Found> {
    let (stack, bytes) = line.rsplit_once(' ')?;
    let bytes = bytes.parse().ok()?;
    (bytes != 0).then(|| Found {
        bytes,
        blocks: None,
        frames: stack.matches(';').count() + usize::from(!stack.ends_with(';')),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_stacks_have_bytes() {
        let found = Found { bytes: 86415, blocks: None, frames: 3 };
        assert_eq!(parse("main (pair.c);descend (pair.c);leak (calls.h); 86415"), Some(found));
        assert_eq!(parse("main (pair.c);work (pair.c); 0"), None);
    }
}
