//! From a report to bytes. One format, one file; pure functions of the report and the style.

mod difference_flamegraph;
mod difference_folded;
mod difference_json;
#[cfg(test)]
mod difference_tests;
mod difference_text;
mod failure;
mod flamegraph;
mod folded;
mod growth_json;
#[cfg(test)]
mod growth_tests;
mod growth_text;
mod html;
mod json;
mod json_line;
mod log_text;
mod pprof;
mod ranking_json;
mod ranking_text;
#[cfg(test)]
mod tests;
mod text;
mod trace;
mod whose;

use std::{
    ffi::OsStr,
    io::{self, Write as _},
    path::Path,
};

use jiff::tz::TimeZone;

pub use self::{
    failure::{explain, explain_doubts},
    trace::{Trace, TraceFormat},
};
use crate::{
    model::{Difference, Frame, Growth, Report},
    wording::{escape, figures, losses, verdict},
};

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a report, one a line.
    Json,
    /// Folded stacks, as flamegraph.pl reads them.
    Folded,
    /// A flame graph, as an SVG file.
    Flamegraph,
    /// A page for a browser, which needs no other file.
    Html,
    /// A profile for `go tool pprof` and its like, and for `memprof report`.
    Pprof,
    /// In place of reports, the log of calls that glibc's mtrace(3) writes, for its script and for `memprof report`.
    Mtrace,
}

/// What a renderer cannot know from the report.
#[derive(Clone, Debug)]
pub struct Style {
    /// Whether the output is a terminal that shows colours.
    pub colour: bool,
    /// Where the reader is: times of day are local to it.
    pub time_zone: TimeZone,
}

impl Format {
    /// What is written to a file of that name, unless something else is asked for.
    pub fn of_file_name(path: &Path) -> Self {
        match path.extension().and_then(OsStr::to_str) {
            Some("txt") => Self::Text,
            Some("json" | "jsonl") => Self::Json,
            Some("folded") => Self::Folded,
            Some("svg") => Self::Flamegraph,
            Some("html" | "htm") => Self::Html,
            Some("mtrace") => Self::Mtrace,
            _ => Self::Pprof,
        }
    }

    /// Whether it is of use only with all stacks in it.
    pub fn wants_all_stacks(self) -> bool {
        matches!(self, Self::Folded | Self::Flamegraph | Self::Html | Self::Pprof)
    }

    /// Whether a file holds several reports, one after the other.
    pub fn is_appended(self) -> bool {
        matches!(self, Self::Text | Self::Json | Self::Mtrace)
    }

    /// Whether it is not for terminals.
    pub fn is_binary(self) -> bool {
        matches!(self, Self::Pprof)
    }

    /// Writes one report and flushes it. Reports can follow one another.
    ///
    /// # Errors
    /// Those of `output`.
    pub fn write(self, report: &Report, style: &Style, output: &mut dyn io::Write) -> io::Result<()> {
        let mut output = io::BufWriter::new(output);
        match self {
            Self::Text => text::write(report, style, &mut output)?,
            Self::Json => json::write(report, &mut output)?,
            Self::Folded => folded::write(report, &mut output)?,
            Self::Flamegraph => flamegraph::write(report, style, &mut output)?,
            Self::Html => html::write(report, style, &mut output)?,
            Self::Pprof => pprof::write(report, &mut output)?,
            // It is of calls, and has no reports.
            Self::Mtrace => {}
        }
        output.flush()
    }

    /// Writes a difference and flushes it.
    ///
    /// # Errors
    /// Those of `output`; and differences are not written in every format.
    pub fn write_difference(
        self,
        difference: &Difference,
        style: &Style,
        output: &mut dyn io::Write,
    ) -> io::Result<()> {
        let mut output = io::BufWriter::new(output);
        match self {
            Self::Folded => difference_folded::write(difference, &mut output)?,
            Self::Flamegraph => difference_flamegraph::write(difference, style, &mut output)?,
            Self::Html => return Err(unsupported("a difference is no page; it can be a flamegraph")),
            Self::Text => difference_text::write(difference, style, &mut output)?,
            Self::Json => difference_json::write(difference, &mut output)?,
            Self::Pprof => pprof::write_difference(difference, &mut output)?,
            Self::Mtrace => return Err(io::ErrorKind::Unsupported.into()),
        }
        output.flush()
    }

    /// Writes one report of growth and flushes it. Reports can follow one another.
    ///
    /// # Errors
    /// Those of `output`; and growth is written as text and as JSON only.
    pub fn write_growth(self, report: &Growth<Frame>, style: &Style, output: &mut dyn io::Write) -> io::Result<()> {
        let mut output = io::BufWriter::new(output);
        match self {
            Self::Text => growth_text::write(report, style, &mut output)?,
            Self::Json => growth_json::write(report, &mut output)?,
            Self::Folded | Self::Flamegraph | Self::Html | Self::Pprof | Self::Mtrace => {
                return Err(unsupported("growth is written as text and as JSON only"));
            }
        }
        output.flush()
    }
}

fn unsupported(reason: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::Unsupported, reason)
}
