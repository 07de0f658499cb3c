//! The programs whose memory grows, held back until they are watched, and the memprof that watches.

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::bench::{Arguments, builds::Builds};

/// Becomes the command when it is told to.
const HOLD: &str = r#"echo ready; read line; exec "$@""#;

/// Pages, for `touch.c`.
const PAGES: u64 = 1_000_000;

/// Python's, with as many strings as the argument says.
const STRINGS: &str = "import sys; strings = [str(number) * 8 for number in range(int(sys.argv[1]))]";

/// What it says on standard error when page faults are counted.
const WATCHING: &str = "watching where memory grows";

pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    command: Vec<OsString>,
}

impl Workload {
    /// Those whose programs are there.
    pub(super) fn all(arguments: &Arguments, builds: &Builds) -> Result<Vec<Self>> {
        let number = |standard: u64| OsString::from(arguments.scaled(standard).to_string());
        let compiler = Command::new("g++").arg("-print-prog-name=cc1plus").output().context("cannot run g++")?;
        let compiler = String::from_utf8(compiler.stdout).context("the path of cc1plus")?;
        let templates = builds.program("templates.ii").into_os_string();
        let strings = ["python3", "-c", STRINGS].map(OsString::from).into_iter();
        let compile = [compiler.trim().into(), "-quiet".into(), "-O2".into(), templates];
        let compile = compile.into_iter().chain(["-o", "/dev/null"].map(OsString::from));
        Ok(vec![
            Self {
                name: "touch",
                what: "new pages, as fast as it can",
                command: vec![builds.program("touch").into(), number(PAGES)],
            },
            Self { name: "compile", what: "a C++ file, by cc1plus -O2", command: compile.collect() },
            Self { name: "strings", what: "a list in python3", command: strings.chain([number(2_000_000)]).collect() },
        ])
    }

    /// Starts it, up to where it waits.
    pub(super) fn hold(&self) -> Result<Held> {
        let mut command = Command::new("sh");
        command.args(["-c", HOLD, "sh"]).args(&self.command).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start sh")?;
        let mut ready = [0; 6];
        child.stdout.as_mut().context("standard output is a pipe")?.read_exact(&mut ready).context("sh")?;
        Ok(Held { child })
    }
}

pub(super) struct Held {
    child: Child,
}

impl Held {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it run, and says how long it did.
    pub(super) fn release_and_wait(&mut self) -> Result<Duration> {
        let start = Instant::now();
        let mut input = self.child.stdin.take().context("standard input is a pipe")?;
        writeln!(input, "go").context("sh has ended")?;
        let status = self.child.wait().context("cannot wait for the workload")?;
        if !status.success() {
            bail!("the workload failed ({status})");
        }
        Ok(start.elapsed())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        // Nothing happens to one that was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A `memprof growth`.
pub(super) struct Watching {
    child: Child,
}

impl Watching {
    /// Starts it, and waits until it counts.
    pub(super) fn start(mut memprof: Command, pid: u32, options: &[&str]) -> Result<Self> {
        memprof.args(["growth", "--format", "json", "--interval", "1h", "--pid", &pid.to_string()]).args(options);
        memprof.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = memprof.spawn().context("cannot start memprof")?;
        let stderr = child.stderr.take().context("standard error is a pipe")?;
        let watching = Self { child };
        let mut lines = BufReader::new(stderr).lines();
        let mut heard = String::new();
        for line in lines.by_ref() {
            let line = line.context("cannot read what memprof says")?;
            if line.contains(WATCHING) {
                std::thread::spawn(move || lines.for_each(drop));
                return Ok(watching);
            }
            heard += &line;
        }
        bail!("memprof ended: {heard}")
    }

    /// Ends it, if it has not ended with the workload, and takes its last report.
    pub(super) fn finish(mut self) -> Result<Value> {
        let _ = kill_process(Pid::from_child(&self.child), Signal::INT);
        let mut reports = String::new();
        self.child.stdout.take().context("standard output is a pipe")?.read_to_string(&mut reports)?;
        self.child.wait().context("cannot wait for memprof")?;
        let last = reports.lines().last().context("memprof has reported nothing")?;
        serde_json::from_str(last).context("memprof's report")
    }
}
