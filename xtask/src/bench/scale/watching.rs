//! A memprof that is attached, asked for reports, and looked at from outside.

use std::{
    fs,
    io::{BufRead as _, BufReader, PipeReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// What it says on standard error when its probes are in.
const ATTACHED: &str = "attached to process";

pub(super) struct Watching {
    child: Child,
    /// Its reports, and what it logs.
    output: BufReader<PipeReader>,
    /// From its start until its probes were in.
    pub(super) attached_after: Duration,
}

impl Watching {
    /// Starts it, and waits until its probes are in. It reports in JSON.
    pub(super) fn start(memprof: Command, pid: u32) -> Result<Self> {
        Self::start_with(memprof, pid, &["--format", "json"])
    }

    /// Starts it likewise, with these options for where it reports, and how.
    pub(super) fn start_with(mut memprof: Command, pid: u32, output: &[&str]) -> Result<Self> {
        let (reader, writer) = std::io::pipe().context("cannot make a pipe")?;
        memprof.args(["--verbose", "--interval", "1h", "--pid", &pid.to_string()]).args(output);
        memprof.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
        let start = Instant::now();
        let child = memprof.spawn().context("cannot start memprof")?;
        // Lest our own ends of the pipe keep it open.
        drop(memprof);
        let mut watching = Self { child, output: BufReader::new(reader), attached_after: Duration::ZERO };
        watching.hear(|line| line.contains(ATTACHED).then_some(()))?;
        watching.attached_after = start.elapsed();
        Ok(watching)
    }

    /// A report of now, in JSON, and how long it took.
    pub(super) fn report(&mut self) -> Result<(Value, Duration)> {
        let (line, took) = self.first_line_of_report()?;
        Ok((serde_json::from_str(&line).context("memprof's report")?, took))
    }

    /// How a report of now begins, in JSON or as text, and how long it took: it is made before it is written, and files are written before
    /// standard output is.
    pub(super) fn first_line_of_report(&mut self) -> Result<(String, Duration)> {
        let start = Instant::now();
        self.signal(Signal::USR1)?;
        let begins = |line: &str| line.starts_with('{') || line.contains("  outstanding ");
        let line = self.hear(|line| begins(line).then(|| line.to_owned()))?;
        Ok((line, start.elapsed()))
    }

    /// Processor time that it has used, to a hundredth of a second.
    pub(super) fn cpu(&self) -> Result<Duration> {
        let stat = self.read("stat")?;
        let (_, fields) = stat.rsplit_once(')').context("/proc/PID/stat")?;
        // See proc(5): utime and stime are the fields 14 and 15, and the name is the second.
        let ticks: u64 = fields.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
    }

    /// The most memory that was resident so far.
    pub(super) fn peak_bytes(&self) -> Result<u64> {
        let status = self.read("status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("/proc/PID/status")?;
        Ok(line.trim_end_matches("kB").trim().parse::<u64>().context("VmHWM")? * 1024)
    }

    fn read(&self, file: &str) -> Result<String> {
        fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).context("memprof has ended")
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).context("memprof has ended")
    }

    fn hear<T>(&mut self, find: impl Fn(&str) -> Option<T>) -> Result<T> {
        let mut heard = String::new();
        loop {
            let start = heard.len();
            if self.output.read_line(&mut heard).context("cannot read what memprof prints")? == 0 {
                anyhow::bail!("memprof ended: {heard}");
            }
            if let Some(found) = find(&heard[start..]) {
                return Ok(found);
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.signal(Signal::INT);
        // What it says last may be more than the pipe holds.
        while self.output.skip_until(b'\n').is_ok_and(|read| read > 0) {}
        let _ = self.child.wait();
    }
}
