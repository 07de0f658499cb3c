//! `memprof report`.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, error::ErrorKind};

use super::{checking::CheckingOptions, refuse, reporting::Reporting};
use crate::{
    model::Sort,
    session::{Showing, show},
};

const AFTERWORD: &str = "\
Files are those that memprof wrote with -o, heap profiles of other tools, in the format of pprof, and logs of mtrace, glibc's too.";

#[derive(Args, Debug)]
#[command(after_help = AFTERWORD)]
pub(super) struct Report {
    /// Saved profiles, shown one after the other
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    reporting: Reporting,
    #[command(flatten)]
    checking: CheckingOptions,
    #[command(flatten)]
    naming: Naming,
}

/// Names for what has none.
#[derive(Args, Debug)]
pub(super) struct Naming {
    /// Name functions and lines from files with debug information below this directory, such as those of objcopy --only-keep-debug, found
    /// by build id; can be given several times
    #[arg(long, value_name = "DIR")]
    pub(super) debug_dir: Vec<PathBuf>,
}

impl Report {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        self.reporting.refuse_contradictions();
        self.reporting.refuse_log();
        let outputs = self.reporting.destinations(Sort::Bytes);
        if self.files.len() > 1 && outputs.iter().any(|output| !output.format.is_appended()) {
            refuse(
                ErrorKind::TooManyValues,
                "several profiles can be shown as text and as JSON only: another format holds one",
            );
        }
        show(&Showing {
            files: self.files,
            debug_directories: self.naming.debug_dir,
            outputs,
            selection: self.reporting.selection(Sort::Bytes),
            checking: self.checking.into_checking(),
        })
    }
}
