//! What the exit status says of a report: what is suppressed in it, and what it fails for.

use std::{ffi::OsStr, fs, path::Path, process::ExitCode};

use super::Checking;
use crate::{
    gate::judge,
    model::{FailWhen, Judgement, Report, Selection},
    render::{explain, explain_doubts},
    saved::select,
    suppress::Suppressions,
};

/// What memprof exits with when the last report fails.
const FAILED: u8 = 100;

/// Reads a file of suppressions.
///
/// # Errors
/// One line, which names the file, and the line where that is what is wrong.
pub fn read_suppressions(path: impl AsRef<OsStr>) -> Result<Suppressions, String> {
    let path = Path::new(path.as_ref());
    let bytes = fs::read(path).map_err(|error| format!("cannot read it: {error}"))?;
    Suppressions::parse(&String::from_utf8_lossy(&bytes)).map_err(|error| error.to_string())
}

/// Judges one report after the other. The last one counts.
pub(super) struct Checks<'a> {
    checking: &'a Checking,
    /// What is shown.
    asked: Selection,
    judgement: Judgement,
    unused: Vec<String>,
}

impl<'a> Checks<'a> {
    pub(super) fn new(checking: &'a Checking, asked: Selection) -> Self {
        Self { checking, asked, judgement: Judgement::default(), unused: Vec::new() }
    }

    /// Whether reports can fail, so that somebody waits for the last one.
    pub(super) fn judge(&self) -> bool {
        self.checking.fail_when != FailWhen::default()
    }

    /// What has to be in a report: all stacks if anything is to be done with them, and else what is wanted.
    pub(super) fn selection(&self, wanted: Selection) -> Selection {
        let top = if *self.checking == Checking::default() { wanted.top } else { None };
        Selection { top, ..wanted }
    }

    /// Leaves out what is suppressed and judges the rest, of a report that has everything or of one that has what was selected. The latter
    /// is cut to what is shown.
    pub(super) fn take(&mut self, report: &mut Report, is_whole: bool) {
        let Checking { suppressions, fail_when } = self.checking;
        if let Some(suppressions) = suppressions {
            suppressions.apply(report);
            self.unused = suppressions.unused(report).map(str::to_owned).collect();
        }
        let part = (is_whole && self.judge()).then(|| select(report, &Selection { top: None, ..self.asked }));
        self.judgement = judge(part.as_ref().unwrap_or(report), fail_when);
        if let Some(top) = self.asked.top.filter(|_| !is_whole) {
            report.processes.iter_mut().for_each(|process| process.stacks.truncate(top));
        }
    }

    /// Says what has become of the last report, on standard error, and whether it passes.
    pub(super) fn conclude(&self) -> bool {
        for pattern in &self.unused {
            log::debug!("the suppression leak:{pattern} matched nothing in the last report");
        }
        for failure in &self.judgement.failures {
            log::error!("{}", explain(failure));
        }
        if !self.judgement.doubts.is_empty() {
            log::warn!("{}", explain_doubts(&self.judgement.doubts));
        }
        self.judgement.failures.is_empty()
    }
}

/// What to exit with.
pub(super) fn status_of_judgement(passes: bool) -> ExitCode {
    if passes { ExitCode::SUCCESS } else { FAILED.into() }
}
