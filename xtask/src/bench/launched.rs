//! A workload that runs, by itself or under a tool: started, listened to, and accounted for when it ends.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

/// What a workload says of itself when its work is done (`xtask/bench/clock.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) elapsed_nanoseconds: u64,
    /// Processor time of the whole process.
    pub(super) cpu_nanoseconds: u64,
}

/// What a process and those that it waited for have used, as `xtask/bench/account.c` prints it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) cpu_nanoseconds: u64,
    /// The most of any of them.
    pub(super) peak_bytes: u64,
}

pub(super) struct Launched {
    name: String,
    child: Child,
    output: BufReader<ChildStdout>,
    is_waited_for: bool,
}

impl Launched {
    /// Starts a command. Where its standard input is a pipe, that stays open, and our workloads with it, until [`Self::finish`].
    pub(super) fn start(command: &mut Command, input: Stdio) -> Result<Self> {
        let name = command.get_program().to_string_lossy().into_owned();
        let child = command.stdin(input).stdout(Stdio::piped()).spawn();
        let mut child = child.with_context(|| format!("cannot start {name}"))?;
        let output = child.stdout.take().context("standard output is a pipe")?;
        Ok(Self { name, child, output: BufReader::new(output), is_waited_for: false })
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the work is done.
    pub(super) fn work(&mut self) -> Result<Work> {
        self.hear(Work::parse)
    }

    /// Waits for a line in which `find` finds something.
    pub(super) fn hear<T>(&mut self, find: impl Fn(&str) -> Option<T>) -> Result<T> {
        loop {
            let mut line = Vec::new();
            if self.output.read_until(b'\n', &mut line).context("cannot read what it prints")? == 0 {
                bail!("{} ended without having said what was waited for", self.name);
            }
            if let Some(found) = find(&String::from_utf8_lossy(&line)) {
                return Ok(found);
            }
        }
    }

    /// Writes a line to its standard input, which must be a pipe.
    pub(super) fn tell(&mut self, line: &str) -> Result<()> {
        let input = self.child.stdin.as_mut().context("standard input is a pipe")?;
        writeln!(input, "{line}").with_context(|| format!("{} has ended", self.name))
    }

    pub(super) fn close_input(&mut self) {
        drop(self.child.stdin.take());
    }

    pub(super) fn interrupt(&self) -> Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::INT).with_context(|| format!("{} has ended", self.name))
    }

    /// Closes its standard input, lets it end, and says what it used, if it is accounted for.
    pub(super) fn finish(self) -> Result<Option<Usage>> {
        Ok(self.rest()?.lines().find_map(Usage::parse))
    }

    /// Closes its standard input, lets it end, and returns what it printed and nobody has heard.
    pub(super) fn rest(mut self) -> Result<String> {
        self.close_input();
        let mut rest = Vec::new();
        self.output.read_to_end(&mut rest).context("cannot read what it prints")?;
        self.is_waited_for = true;
        let status = self.child.wait().with_context(|| format!("cannot wait for {}", self.name))?;
        if !status.success() {
            bail!("{} failed ({status})", self.name);
        }
        Ok(String::from_utf8_lossy(&rest).into_owned())
    }
}

impl Drop for Launched {
    fn drop(&mut self) {
        // Its number may be somebody else's once it was waited for.
        if !self.is_waited_for {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

impl Work {
    fn parse(line: &str) -> Option<Self> {
        let [elapsed_nanoseconds, cpu_nanoseconds] = numbers(line, ["worked_ns", "cpu_ns"])?;
        Some(Self { elapsed_nanoseconds, cpu_nanoseconds })
    }
}

impl Usage {
    /// Of both.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            cpu_nanoseconds: self.cpu_nanoseconds + other.cpu_nanoseconds,
            peak_bytes: self.peak_bytes.max(other.peak_bytes),
        }
    }

    pub(super) fn parse(line: &str) -> Option<Self> {
        let [cpu_nanoseconds, peak_bytes] = numbers(line, ["used_cpu_ns", "peak_bytes"])?;
        Some(Self { cpu_nanoseconds, peak_bytes })
    }
}

/// The numbers in a line of names, each with a number.
fn numbers(line: &str, names: [&str; 2]) -> Option<[u64; 2]> {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words[..] {
        [first, one, second, other] if [first, second] == names => Some([one.parse().ok()?, other.parse().ok()?]),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_says_how_long_it_took() {
        let work = Work { elapsed_nanoseconds: 1500, cpu_nanoseconds: 20 };
        assert_eq!(Work::parse("worked_ns 1500 cpu_ns 20\n"), Some(work));
        assert_eq!(Work::parse("heaptrack stats:\n"), None);
        assert_eq!(Work::parse("worked_ns \n"), None);
    }

    #[test]
    fn processor_time_adds_up_and_the_largest_process_counts() {
        let of = |cpu_nanoseconds, peak_bytes| Usage { cpu_nanoseconds, peak_bytes };
        assert_eq!(of(5, 1024).and(of(7, 512)), of(12, 1024));
    }

    #[test]
    fn what_was_used_is_printed_at_the_end() {
        let usage = Usage { cpu_nanoseconds: 5, peak_bytes: 1024 };
        assert_eq!(Usage::parse("used_cpu_ns 5 peak_bytes 1024\n"), Some(usage));
        assert_eq!(Usage::parse("used_cpu_ns 5 peak_bytes -1\n"), None);
    }
}
