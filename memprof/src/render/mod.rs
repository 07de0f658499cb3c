//! From a report to bytes. One format, one file; pure functions of the report and the style.

mod escape;
mod figures;
mod growth_json;
#[cfg(test)]
mod growth_tests;
mod growth_text;
mod json;
mod ranking_json;
mod ranking_text;
#[cfg(test)]
mod tests;
mod text;
mod verdict;
mod whose;

use std::io::{self, Write as _};

use jiff::tz::TimeZone;

use crate::model::{Frame, Growth, Report};

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a report, one a line.
    Json,
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
    /// Writes one report and flushes it. Reports can follow one another.
    ///
    /// # Errors
    /// Those of `output`.
    pub fn write(self, report: &Report, style: &Style, output: &mut dyn io::Write) -> io::Result<()> {
        let mut output = io::BufWriter::new(output);
        match self {
            Self::Text => text::write(report, style, &mut output)?,
            Self::Json => json::write(report, &mut output)?,
        }
        output.flush()
    }

    /// Writes one report of growth and flushes it. Reports can follow one another.
    ///
    /// # Errors
    /// Those of `output`.
    pub fn write_growth(self, report: &Growth<Frame>, style: &Style, output: &mut dyn io::Write) -> io::Result<()> {
        let mut output = io::BufWriter::new(output);
        match self {
            Self::Text => growth_text::write(report, style, &mut output)?,
            Self::Json => growth_json::write(report, &mut output)?,
        }
        output.flush()
    }
}
