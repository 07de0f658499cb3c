//! A program that does what it is told, and says when it is done (`xtask/bench/scale.c`, `xtask/bench/libraries.c`).

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};

pub(super) struct Target {
    child: Child,
    output: BufReader<ChildStdout>,
}

/// What it has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) count: u64,
    pub(super) elapsed: Duration,
}

impl Target {
    /// Starts it, and waits until it is ready.
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start a target")?;
        let output = BufReader::new(child.stdout.take().context("standard output is a pipe")?);
        let mut target = Self { child, output };
        target.done()?;
        Ok(target)
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Has it begin with something.
    pub(super) fn tell(&mut self, line: &str) -> Result<()> {
        let input = self.child.stdin.as_mut().context("standard input is a pipe")?;
        writeln!(input, "{line}").context("the target has ended")
    }

    /// Waits until it is done with what it was told.
    pub(super) fn done(&mut self) -> Result<Done> {
        let mut line = String::new();
        self.output.read_line(&mut line).context("cannot read what the target prints")?;
        Done::parse(&line).with_context(|| format!("the target said {line:?}"))
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Done {
    fn parse(line: &str) -> Option<Self> {
        let words: Vec<_> = line.split_whitespace().collect();
        let ["done", count, "elapsed_ns", elapsed] = words[..] else { return None };
        Some(Self { count: count.parse().ok()?, elapsed: Duration::from_nanos(elapsed.parse().ok()?) })
    }

    /// How many in a second.
    pub(super) fn rate(self) -> f64 {
        self.count as f64 / self.elapsed.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_says_how_much_it_did() {
        let done = Done { count: 10, elapsed: Duration::from_secs(2) };
        assert_eq!(Done::parse("done 10 elapsed_ns 2000000000\n"), Some(done));
        assert!((done.rate() - 5.0).abs() < 1e-9);
        assert_eq!(Done::parse(""), None);
    }
}
