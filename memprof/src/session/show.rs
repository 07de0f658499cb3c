//! `memprof report` and `memprof diff`: profiles that were saved, shown. Needs neither root nor the programs.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;

use super::{
    Checking, Destination,
    checks::{Checks, status_of_judgement},
    output::{Outputs, Reader},
};
use crate::{
    model::{Caller, DifferenceSelection, Report, Selection, Snapshot},
    saved::{Saved, difference, read},
    symbols::{Isolation, LateSymbolizer, LoggedCallers},
    wording::escape::visible_path,
};

/// What to show, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Showing {
    /// The profiles.
    pub files: Vec<PathBuf>,
    /// Where files with debug information may be.
    pub debug_directories: Vec<PathBuf>,
    /// Where it goes.
    pub outputs: Vec<Destination>,
    /// What is judged of it.
    pub selection: Selection,
    /// What decides the exit status.
    pub checking: Checking,
}

/// Shows profiles one after the other. Each of them is judged.
///
/// # Errors
/// One line each.
pub fn show(showing: &Showing) -> anyhow::Result<ExitCode> {
    let mut reading = Reading::new(&showing.debug_directories)?;
    // A file that cannot be read must not cost an older report its file.
    let mut outputs = None;
    let mut passes = true;
    for path in &showing.files {
        let mut report = reading.read(path)?;
        let mut checks = Checks::new(&showing.checking, showing.selection);
        checks.take(&mut report, true);
        let outputs = match &mut outputs {
            Some(outputs) => outputs,
            none => none.insert(Outputs::of_whole_reports(&showing.outputs)?),
        };
        let reader = outputs.write(&report)?;
        passes &= checks.conclude();
        if reader == Reader::Gone && !checks.judge() {
            break;
        }
    }
    outputs.map_or(Ok(()), |mut outputs| outputs.finish())?;
    reading.conclude();
    Ok(status_of_judgement(passes))
}

/// Shows what has changed between two profiles.
///
/// # Errors
/// One line each.
pub fn show_difference(
    before: &Path,
    after: &Path,
    debug_directories: &[PathBuf],
    destinations: &[(Destination, DifferenceSelection)],
) -> anyhow::Result<ExitCode> {
    let mut reading = Reading::new(debug_directories)?;
    let [first, second] = [reading.read(before)?, reading.read(after)?];
    let [before, after] = [before, after].map(|path| path.display().to_string());
    for (destination, selection) in destinations {
        let mut output = Outputs::open(std::slice::from_ref(destination))?;
        output.write_difference(&difference((&before, &first), (&after, &second), selection))?;
        output.finish()?;
    }
    reading.conclude();
    Ok(ExitCode::SUCCESS)
}

/// Reads files, and names what has no names.
struct Reading(Option<LateSymbolizer>);

impl Reading {
    fn new(debug_directories: &[PathBuf]) -> anyhow::Result<Self> {
        let symbolizer = || LateSymbolizer::new(debug_directories.to_vec(), Isolation::Apart).context("--debug-dir");
        Ok(Self((!debug_directories.is_empty()).then(symbolizer).transpose()?))
    }

    fn read(&mut self, path: &Path) -> anyhow::Result<Report> {
        let report = match read(path).with_context(|| format!("cannot show {}", path.display()))? {
            Saved::Report(report) => report,
            Saved::Log(log) => named(path, log),
        };
        Ok(match &mut self.0 {
            Some(symbolizer) => report.map_frames(|frames| symbolizer.name(frames)),
            None => report,
        })
    }

    /// Says for which objects names were looked for in vain.
    fn conclude(&self) {
        let missing = self.0.iter().flat_map(LateSymbolizer::missing);
        let missing: Vec<_> = missing.map(|(module, id)| format!("{} ({id})", visible_path(module))).collect();
        if !missing.is_empty() {
            log::warn!("no file in --debug-dir has names for {}", missing.join(", nor for "));
        }
    }
}

/// A log's callers, named by what is on this machine.
fn named(path: &Path, log: Snapshot<Caller>) -> Report {
    let stacks = log.processes.iter().flat_map(|process| &process.stacks);
    let callers = stacks.flat_map(|stack| &stack.frames);
    let mut named = LoggedCallers::new(path.parent().unwrap_or(Path::new(".")), callers);
    log.map_frames(|callers| callers.iter().flat_map(|caller| named.name(caller)).collect())
}
