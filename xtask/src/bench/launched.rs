//! A workload that runs, by itself or under a tool: started, listened to, and accounted for when it ends.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    os::unix::process::ExitStatusExt as _,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// What a workload says of itself when its work is done (`xtask/bench/clock.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Work {
    pub(super) elapsed_nanoseconds: u64,
    /// Processor time of the whole process.
    pub(super) cpu_nanoseconds: u64,
}

/// What a process and those that it waited for have used.
#[derive(Clone, Copy, Debug)]
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

    /// Closes its standard input, lets it end, and says what it used.
    pub(super) fn finish(mut self) -> Result<Usage> {
        drop(self.child.stdin.take());
        self.output.read_to_end(&mut Vec::new()).context("cannot read what it prints")?;
        self.is_waited_for = true;
        let (status, usage) = wait(self.child.id() as libc::pid_t)?;
        if !status.success() {
            bail!("{} failed ({status})", self.name);
        }
        Ok(usage)
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

/// The standard library's `wait` does not say what was used.
fn wait(pid: libc::pid_t) -> Result<(ExitStatus, Usage)> {
    let mut status = 0;
    // SAFETY: all zeroes is a value of this structure of numbers.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the pointers are to what the call fills in.
    if unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) } != pid {
        return Err(std::io::Error::last_os_error()).context("cannot wait for what was started");
    }
    let nanoseconds = |time: libc::timeval| time.tv_sec as u64 * 1_000_000_000 + time.tv_usec as u64 * 1000;
    let cpu_nanoseconds = nanoseconds(usage.ru_utime) + nanoseconds(usage.ru_stime);
    Ok((ExitStatus::from_raw(status), Usage { cpu_nanoseconds, peak_bytes: usage.ru_maxrss as u64 * 1024 }))
}

impl Work {
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace().skip_while(|word| *word != "worked_ns");
        let elapsed_nanoseconds = words.nth(1)?.parse().ok()?;
        let cpu_nanoseconds = words.nth(1)?.parse().ok()?;
        Some(Self { elapsed_nanoseconds, cpu_nanoseconds })
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
}
