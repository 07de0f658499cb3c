//! What the guest said, and what it amounts to.

use std::{
    fmt,
    io::BufRead,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::suite::Tests;

/// What came of the tests on one kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    package: String,
    /// As `uname -r` has it; empty if the guest did not get as far.
    release: String,
    expected: Tests,
    passed: u32,
    failed: u32,
    /// Of the script; none if the guest did not get to its end.
    status: Option<u32>,
    /// For how long the guest ran.
    time: Duration,
}

impl Verdict {
    /// Reads the guest's console to its end. What the tests print is passed on, behind the kernel's version and the time since the
    /// start, and what came before them only if they do not begin.
    pub(super) fn read(version: &str, package: &str, expected: Tests, console: impl BufRead) -> Result<Self> {
        let start = Instant::now();
        let mut verdict = Self { package: package.to_owned(), expected, ..Self::default() };
        let mut boot = Vec::new();
        for line in console.split(b'\n') {
            let line = line.context("cannot read the guest's console")?;
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\r');
            verdict.hear(line);
            let line = format!("{version} {:>3}s | {line}", start.elapsed().as_secs());
            if verdict.release.is_empty() { boot.push(line) } else { eprintln!("{line}") }
        }
        if verdict.release.is_empty() {
            boot.iter().for_each(|line| eprintln!("{line}"));
        }
        verdict.time = start.elapsed();
        Ok(verdict)
    }

    fn hear(&mut self, line: &str) {
        if let Some(release) = line.strip_prefix("vm-test: kernel ") {
            self.release = release.to_owned();
        } else if let Some(status) = line.strip_prefix("vm-test: status ") {
            self.status = status.parse().ok();
        } else if line.starts_with("test result: ") {
            self.passed += count(line, "passed");
            self.failed += count(line, "failed");
        }
    }

    /// Whether all tests passed, and all were run.
    pub(super) fn is_good(&self) -> bool {
        let all_were_run = match self.expected {
            Tests::Exactly(number) => self.passed == number,
            Tests::AtLeastOne => self.passed > 0,
        };
        self.status == Some(0) && self.failed == 0 && all_were_run
    }
}

/// The number before a word, in `test result: ok. 12 passed; 0 failed; …`.
fn count(line: &str, word: &str) -> u32 {
    let words: Vec<_> = line.split([' ', ';']).filter(|word| !word.is_empty()).collect();
    words.windows(2).find(|pair| pair[1] == word).and_then(|pair| pair[0].parse().ok()).unwrap_or_default()
}

/// As cargo's test executables end, so that whoever sums their results finds it.
impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { package, release, expected, passed, failed, status, time } = self;
        let name = if release.is_empty() { package } else { release };
        let result = if self.is_good() { "ok" } else { "FAILED" };
        write!(formatter, "test result: {result}. {passed} passed; {failed} failed")?;
        match expected {
            Tests::Exactly(number) if *number != passed + failed => write!(formatter, "; {number} were to be run")?,
            _ => {}
        }
        match status {
            None => write!(formatter, "; it did not get to the end")?,
            Some(0) => {}
            Some(status) => write!(formatter, "; status {status}")?,
        }
        write!(formatter, "; on {name}, finished in {}s", time.as_secs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(console: &str, expected: Tests) -> (bool, String) {
        let mut verdict = Verdict::read("6.1", "linux-image", expected, console.as_bytes()).unwrap_or_default();
        verdict.time = Duration::from_millis(7300);
        (verdict.is_good(), verdict.to_string())
    }

    const SEVEN: &str = "vm-test: kernel 6.1.0\r\ntest result: ok. 3 passed; 0 failed; 1 ignored\r\n\
                         test result: ok. 4 passed; 0 failed; 0 ignored\r\nvm-test: status 0\r\n";

    #[test]
    fn results_are_summed() {
        let good = (true, "test result: ok. 7 passed; 0 failed; on 6.1.0, finished in 7s".into());
        assert_eq!(read(SEVEN, Tests::AtLeastOne), good);
        assert_eq!(read(SEVEN, Tests::Exactly(7)), good);
    }

    #[test]
    fn a_test_that_was_not_run_has_not_passed() {
        let said = "test result: FAILED. 7 passed; 0 failed; 8 were to be run; on 6.1.0, finished in 7s";
        assert_eq!(read(SEVEN, Tests::Exactly(8)), (false, said.into()));
        assert!(!read("vm-test: kernel 6.1.0\nvm-test: status 0\n", Tests::AtLeastOne).0);
    }

    #[test]
    fn a_failure_is_none_of_the_good() {
        let console = "vm-test: kernel 6.1.0\ntest result: FAILED. 3 passed; 2 failed; 0 ignored\nvm-test: status 1\n";
        let said = "test result: FAILED. 3 passed; 2 failed; status 1; on 6.1.0, finished in 7s";
        assert_eq!(read(console, Tests::AtLeastOne), (false, said.into()));
    }

    #[test]
    fn a_guest_that_ends_early_has_failed() {
        let said = read("vm-test: kernel 6.1.0\ntest result: ok. 3 passed; 0 failed; 0 ignored\n", Tests::AtLeastOne);
        let early = "it did not get to the end; on";
        let expected = format!("test result: FAILED. 3 passed; 0 failed; {early} 6.1.0, finished in 7s");
        assert_eq!(said, (false, expected));
        let expected = format!("test result: FAILED. 0 passed; 0 failed; {early} linux-image, finished in 7s");
        assert_eq!(read("Kernel panic", Tests::AtLeastOne), (false, expected));
    }
}
