//! `--output` and `--format`: where something is written, and how.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use clap::{Args, error::ErrorKind};

use super::refuse;
use crate::session::Format;

#[derive(Args, Debug, Default)]
pub(super) struct Writing {
    /// Format of the report [default: by the name of the file: .txt, .json, .folded, .svg, .html, .mtrace, or else pprof; text on standard
    /// output]
    #[arg(short, long, value_enum, help_heading = "Report")]
    format: Option<Format>,
    /// Write to this file; - is standard output; can be given several times
    #[arg(short, long, value_name = "FILE", help_heading = "Report")]
    output: Vec<PathBuf>,
}

impl Writing {
    /// Each file and its format. No file is standard output.
    pub(super) fn files(&self) -> Vec<(Option<PathBuf>, Format)> {
        if self.output.is_empty() {
            return vec![(None, self.format.unwrap_or_default())];
        }
        self.output.iter().map(|path| self.file(path)).collect()
    }

    fn file(&self, path: &Path) -> (Option<PathBuf>, Format) {
        let is_stdout = path == Path::new("-");
        let by_name = || if is_stdout { Format::default() } else { Format::of_file_name(path) };
        ((!is_stdout).then(|| path.to_owned()), self.format.unwrap_or_else(by_name))
    }

    /// Ends the process, as clap does with its own findings, if calls are to be written where none are traced.
    pub(super) fn refuse_log(&self) {
        if self.files().iter().any(|(_, format)| *format == Format::Mtrace) {
            refuse(
                ErrorKind::ArgumentConflict,
                "--format mtrace is the log of a process as it runs: only with one --pid, or a command",
            );
        }
    }

    /// Ends the process likewise if a file is there twice.
    pub(super) fn refuse_repetition(&self) {
        let mut files = HashSet::new();
        if !self.output.iter().all(|path| files.insert(path)) {
            refuse(ErrorKind::ValueValidation, "the same --output is given twice");
        }
    }
}
