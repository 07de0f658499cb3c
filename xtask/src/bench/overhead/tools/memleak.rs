//! bcc's memleak, the one of its `libbpf-tools`. It launches no program that has arguments, so it is attached to one.

use std::{fs, process::Command};

use anyhow::{Context as _, Result};

use super::{Answer, Attachable, Found, Task, Tool, held};
use crate::{bench::builds::Builds, process::is_on_path};

pub(super) struct Memleak;

/// Seconds until it prints by itself: what counts is what it prints when it is interrupted.
const INTERVAL: &str = "1000000";

/// More than its table holds, which is to say all.
const MOST_STACKS: &str = "1000000";

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

    /// It insists on `mmap` in the allocator's file, unless that file's functions have a prefix to their names.
    fn can(&self, workload: &super::Workload) -> bool {
        workload.is_of_libc()
    }

    fn command(&self, task: &Task<'_>) -> Result<Command> {
        Ok(held(task))
    }

    fn attachable(&self) -> Option<&dyn Attachable> {
        Some(self)
    }

    fn answer(&self, task: &Task<'_>, messages: &str) -> Result<Option<Answer>> {
        let output = fs::read_to_string(task.output).context("memleak printed nothing")?;
        let lost = messages.lines().filter_map(blocks_without_stack).sum();
        let stacks = stacks(&output).context("memleak was interrupted before it waited for that, and did not look")?;
        Ok(Some(Answer { stacks, lost: Some(lost), cost_percent: None }))
    }
}

impl Attachable for Memleak {
    /// It never flushes what it prints, and has room for 31 bytes of a path.
    fn attach(&self, task: &Task<'_>, pid: u32) -> Result<Command> {
        let library = task.workload.allocator()?;
        let mut command = Command::new("stdbuf");
        command.args(["--output=L", "memleak", "--top", MOST_STACKS, "--pid", &pid.to_string(), "--obj"]);
        command.arg(library.file_name().context("an allocator's file has a name")?).arg(INTERVAL);
        Ok(command)
    }

    fn is_attached(&self, line: &str) -> bool {
        line.starts_with("Attaching to pid")
    }
}

/// Below a heading `BYTES bytes in BLOCKS allocations from stack`, and below that a line for each frame, with a tab before
/// it.
fn stacks(output: &str) -> Option<Vec<Found>> {
    let (_, list) = output.split_once(" stacks with outstanding allocations:")?;
    let mut stacks: Vec<Found> = Vec::new();
    for line in list.lines() {
        match (line.starts_with('\t'), stacks.last_mut()) {
            (true, Some(stack)) => stack.frames += 1,
            _ => stacks.extend(amounts(line)),
        }
    }
    Some(stacks)
}

fn amounts(line: &str) -> Option<Found> {
    let (bytes, rest) = line.split_once(" bytes in ")?;
    let (blocks, _) = rest.split_once(" allocations from stack")?;
    Some(Found { bytes: bytes.parse().ok()?, blocks: Some(blocks.parse().ok()?), frames: 0 })
}

/// It leaves them out.
fn blocks_without_stack(message: &str) -> Option<u64> {
    message.strip_prefix("WARNING: ")?.split_once(" stack traces could not be displayed")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_below_their_stack() {
        let output = concat!(
            "[17:11:20] Top 3 stacks with outstanding allocations:\n",
            "86415 bytes in 7 allocations from stack\n",
            "\t0 [<000056363537b3ca>] leak+0x1a [/tmp/pair]\n",
            "\t1 [<000056363537b3f1>] <null sym>\n",
            "2037 bytes in 82 allocations from stack\n",
            "\t0 [<000055c2ceb64c8e>] <null sym>\n",
            "616 bytes in 1 allocations from stack\n",
            "\nused_cpu_ns 5 peak_bytes 1024\n",
        );
        let of = |bytes, blocks, frames| Found { bytes, blocks: Some(blocks), frames };
        assert_eq!(stacks(output), Some(vec![of(86415, 7, 2), of(2037, 82, 1), of(616, 1, 0)]));
        assert_eq!(stacks("Attaching to pid 19507, Ctrl+C to quit.\n"), None);
    }

    #[test]
    fn what_has_no_stack_is_lost() {
        let warning = "WARNING: 52468 stack traces could not be displayed due to memory shortage, including 52468 \
                       caused by hash collisions. Consider increasing --stack-storage-size.";
        assert_eq!(blocks_without_stack(warning), Some(52468));
        assert_eq!(blocks_without_stack("libbpf: elf: failed to find something"), None);
    }

    #[test]
    fn it_says_when_it_is_attached() {
        assert!(Memleak.is_attached("Attaching to pid 19507, Ctrl+C to quit.\n"));
        assert!(!Memleak.is_attached("no program attached for mmap_enter: No such file or directory\n"));
    }
}
