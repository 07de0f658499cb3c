//! What the guest said, and what it amounts to.

use std::{fmt, io::BufRead};

use anyhow::{Context as _, Result};

/// What came of the tests on one kernel.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    package: String,
    /// As `uname -r` has it; empty if the guest did not get as far.
    release: String,
    passed: u32,
    failed: u32,
    /// Of the script; none if the guest did not get to its end.
    status: Option<u32>,
}

impl Verdict {
    /// Reads the guest's console to its end. What the tests print is passed on, and what came before them only if they
    /// do not begin.
    pub(super) fn read(package: &str, console: impl BufRead) -> Result<Self> {
        let mut verdict = Self { package: package.to_owned(), ..Self::default() };
        let mut boot = String::new();
        for line in console.split(b'\n') {
            let line = line.context("cannot read the guest's console")?;
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\r');
            verdict.hear(line);
            if verdict.release.is_empty() {
                boot += &format!("{line}\n");
            } else {
                eprintln!("{line}");
            }
        }
        if verdict.release.is_empty() {
            eprint!("{boot}");
        }
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

    /// Whether all tests passed, and there were some.
    pub(super) fn is_good(&self) -> bool {
        self.status == Some(0) && self.failed == 0 && self.passed > 0
    }
}

/// The number before a word, in `test result: ok. 12 passed; 0 failed; …`.
fn count(line: &str, word: &str) -> u32 {
    let words: Vec<_> = line.split([' ', ';']).filter(|word| !word.is_empty()).collect();
    words.windows(2).find(|pair| pair[1] == word).and_then(|pair| pair[0].parse().ok()).unwrap_or_default()
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { package, release, passed, failed, status } = self;
        let name = if release.is_empty() { package } else { release };
        write!(formatter, "{name}: {passed} passed, {failed} failed")?;
        match status {
            None => write!(formatter, ", and it did not get to the end"),
            Some(0) => Ok(()),
            Some(status) => write!(formatter, " (status {status})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(console: &str) -> (bool, String) {
        let verdict = Verdict::read("linux-image", console.as_bytes()).unwrap_or_default();
        (verdict.is_good(), verdict.to_string())
    }

    #[test]
    fn results_are_summed() {
        let console = "vm-test: kernel 6.1.0\r\ntest result: ok. 3 passed; 0 failed; 1 ignored\r\n\
                       test result: ok. 4 passed; 0 failed; 0 ignored\r\nvm-test: status 0\r\n";
        assert_eq!(read(console), (true, "6.1.0: 7 passed, 0 failed".into()));
    }

    #[test]
    fn a_failure_is_none_of_the_good() {
        let console = "vm-test: kernel 6.1.0\ntest result: FAILED. 3 passed; 2 failed; 0 ignored\nvm-test: status 1\n";
        assert_eq!(read(console), (false, "6.1.0: 3 passed, 2 failed (status 1)".into()));
    }

    #[test]
    fn a_guest_that_ends_early_has_failed() {
        let said = read("vm-test: kernel 6.1.0\ntest result: ok. 3 passed; 0 failed; 0 ignored\n");
        assert_eq!(said, (false, "6.1.0: 3 passed, 0 failed, and it did not get to the end".into()));
        assert_eq!(
            read("Kernel panic"),
            (false, "linux-image: 0 passed, 0 failed, and it did not get to the end".into())
        );
        assert!(!read("vm-test: kernel 6.1.0\nvm-test: status 0\n").0);
    }
}
