//! bpftrace, with a script that does memprof's job: sizes and stacks of what was not freed.
//!
//! It attaches to all processes that use the allocator's file, and its script looks at the one it launched: such is its `-c`.

use std::{collections::BTreeMap, fs, process::Command};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::{Answer, Found, Task, Tool, as_one_word};
use crate::{bench::builds::Builds, process::is_on_path};

pub(super) struct Bpftrace;

/// `LIB` stands for the allocator's file.
const SCRIPT: &str = r"
uprobe:LIB:malloc /pid == cpid/ { @size[tid] = arg0; }
uprobe:LIB:calloc /pid == cpid/ { @size[tid] = arg0 * arg1; }
uprobe:LIB:realloc /pid == cpid/ { @size[tid] = arg1; delete(@bytes[arg0]); delete(@stack[arg0]); }
uretprobe:LIB:malloc, uretprobe:LIB:calloc, uretprobe:LIB:realloc /@size[tid] && retval/ {
    @bytes[retval] = @size[tid];
    @stack[retval] = ustack(127);
    delete(@size[tid]);
}
uprobe:LIB:free /@bytes[arg0]/ { delete(@bytes[arg0]); delete(@stack[arg0]); }
END { clear(@size); }
";

/// As many live blocks as a workload has, and more.
const MOST_BLOCKS: &str = "1000000";

impl Tool for Bpftrace {
    fn name(&self) -> &'static str {
        "bpftrace"
    }

    fn is_here(&self, _: &Builds) -> bool {
        is_on_path("bpftrace")
    }

    fn slowness(&self) -> u64 {
        50
    }

    fn command(&self, task: &Task<'_>) -> Result<Command> {
        let library = task.workload.allocator()?;
        let mut command = Command::new("bpftrace");
        command.env("BPFTRACE_MAP_KEYS_MAX", MOST_BLOCKS).args(["-f", "json", "-o"]).arg(task.output);
        command.arg("-e").arg(SCRIPT.replace("LIB", &library.to_string_lossy())).arg("-c").arg(as_one_word(task));
        Ok(command)
    }

    fn answer(&self, task: &Task<'_>, _: &str) -> Result<Option<Answer>> {
        let output = fs::read_to_string(task.output).context("bpftrace wrote nothing")?;
        Ok(Some(parse(&output)))
    }
}

fn parse(output: &str) -> Answer {
    let lines: Vec<Value> = output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let map = |name: &str| lines.iter().find_map(|line| line["data"][name].as_object());
    let (Some(bytes), Some(stacks)) = (map("@bytes"), map("@stack")) else { return Answer::default() };
    let mut sums: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (address, bytes) in bytes {
        let sum = sums.entry(stacks.get(address).and_then(Value::as_str).unwrap_or_default()).or_default();
        *sum = (sum.0 + bytes.as_u64().unwrap_or_default(), sum.1 + 1);
    }
    let found = |(stack, (bytes, blocks)): (&str, (u64, u64))| {
        let frames = stack.lines().filter(|line| !line.trim().is_empty()).count();
        Found { bytes, blocks: Some(blocks), frames }
    };
    let lost = lines.iter().filter_map(|line| line["data"]["events"].as_u64()).sum();
    Answer { stacks: sums.into_iter().map(found).collect(), lost: Some(lost), cost_percent: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_summed_by_stack() {
        let output = concat!(
            r#"{"type": "attached_probes", "data": {"probes": 4}}"#,
            "\n\n",
            r#"{"type": "map", "data": {"@bytes": {"16": 5, "32": 6, "48": 7}}}"#,
            "\n",
            r#"{"type": "map", "data": {"@stack": {"16": "\n    0x1\n    0x2\n", "32": "\n    0x3\n", "48": "\n    0x3\n"}}}"#,
            "\n",
        );
        let of_two = Found { bytes: 5, blocks: Some(1), frames: 2 };
        let of_one = Found { bytes: 13, blocks: Some(2), frames: 1 };
        assert_eq!(parse(output), Answer { stacks: vec![of_two, of_one], lost: Some(0), cost_percent: None });
    }
}
