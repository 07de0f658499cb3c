//! `memprof diff`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;

use super::{report::Naming, writing::Writing};
use crate::{
    model::{DifferenceSelection, DifferenceSort, Selection},
    session::{Destination, show_difference},
};

const AFTERWORD: &str = "\
Stacks are the same if their functions are, and their lines where both profiles are of the same build. Processes are compared by command \
name where there are several.";

#[derive(Args, Debug)]
#[command(after_help = AFTERWORD)]
pub(super) struct Diff {
    /// Saved profile of the earlier state
    before: PathBuf,
    /// Saved profile of the later state
    after: PathBuf,
    /// Stacks to show of each process; 0 for all [default: 10 in text and JSON; all in other formats]
    #[arg(short, long, value_name = "N", help_heading = "Report")]
    top: Option<usize>,
    /// Order of the stacks: what grew most comes first
    #[arg(long, value_enum, default_value_t, help_heading = "Report")]
    sort: DifferenceSort,
    #[command(flatten)]
    writing: Writing,
    #[command(flatten)]
    naming: Naming,
}

impl Diff {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        self.writing.refuse_repetition();
        self.writing.refuse_log();
        let files = self.writing.files();
        let outputs = files.into_iter().map(|(path, format)| {
            let top = self.top.unwrap_or(if format.wants_all_stacks() { 0 } else { 10 });
            let unchanged = format.wants_all_stacks();
            let selection = DifferenceSelection { top: (top > 0).then_some(top), sort: self.sort, unchanged };
            (Destination { path, format, selection: Selection::default() }, selection)
        });
        show_difference(&self.before, &self.after, &self.naming.debug_dir, &outputs.collect::<Vec<_>>())
    }
}
