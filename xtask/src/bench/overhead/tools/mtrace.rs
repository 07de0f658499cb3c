//! glibc's own trace, `mtrace(3)`, a line of text for each call. It knows the caller alone.

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io::{BufRead as _, BufReader},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{Answer, Found, Task, Tool};
use crate::bench::builds::Builds;

pub(super) struct Mtrace;

/// Where glibc has kept it since 2.34.
const LIBRARY: &str = "libc_malloc_debug.so.0";

impl Tool for Mtrace {
    fn name(&self) -> &'static str {
        "mtrace"
    }

    fn is_here(&self, _: &Builds) -> bool {
        std::path::Path::new("/usr/lib/x86_64-linux-gnu").join(LIBRARY).exists()
    }

    fn slowness(&self) -> u64 {
        10
    }

    fn can(&self, workload: &super::Workload) -> bool {
        workload.is_of_libc()
    }

    fn command(&self, task: &Task<'_>) -> Result<Command> {
        let mut command = Command::new(&task.command[0]);
        let name = std::path::Path::new(&task.command[0]).file_name().context("a program has a name")?;
        command.args(&task.command[1..]).env("MALLOC_TRACE", task.output).env("BENCH_MTRACE", name);
        Ok(command)
    }

    fn preloads(&self) -> Option<&'static str> {
        Some(LIBRARY)
    }

    fn answer(&self, task: &Task<'_>, _: &str) -> Result<Option<Answer>> {
        let trace = File::open(task.output).context("mtrace wrote nothing")?;
        let mut live = Live::default();
        for line in BufReader::new(trace).lines() {
            live.apply(&line.context("cannot read mtrace's trace")?);
        }
        Ok(Some(live.answer()))
    }
}

/// Blocks by address, with their callers and sizes.
#[derive(Default)]
struct Live(HashMap<String, (String, u64)>);

impl Live {
    /// `@ CALLER + ADDRESS SIZE`, `@ CALLER - ADDRESS`, and for realloc `<` with the old address, then `>` with the new.
    fn apply(&mut self, line: &str) {
        let mut words = line.strip_prefix("@ ").unwrap_or_default().split(' ');
        let (Some(caller), Some(what), Some(address)) = (words.next(), words.next(), words.next()) else { return };
        match what {
            "+" | ">" => {
                let size = words.next().and_then(|size| u64::from_str_radix(size.trim_start_matches("0x"), 16).ok());
                self.0.insert(address.to_owned(), (caller.to_owned(), size.unwrap_or_default()));
            }
            "-" | "<" => {
                self.0.remove(address);
            }
            _ => {}
        }
    }

    fn answer(self) -> Answer {
        let mut sums: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        for (caller, size) in self.0.into_values() {
            let sum = sums.entry(caller).or_default();
            *sum = (sum.0 + size, sum.1 + 1);
        }
        let stacks = sums.into_values().map(|(bytes, blocks)| Found { bytes, blocks: Some(blocks), frames: 1 });
        Answer { stacks: stacks.collect(), lost: None, cost_percent: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_replayed() {
        let mut live = Live::default();
        for line in
            ["= Start", "@ a:[0x1] + 0x10 0x40", "@ a:[0x2] + 0x20 0x8", "@ a:[0x3] < 0x20", "@ a:[0x3] > 0x30 0x9"]
        {
            live.apply(line);
        }
        live.apply("@ a:[0x1] - 0x10");
        let found = Found { bytes: 9, blocks: Some(1), frames: 1 };
        assert_eq!(live.answer(), Answer { stacks: vec![found], lost: None, cost_percent: None });
    }
}
