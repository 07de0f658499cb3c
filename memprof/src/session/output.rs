//! Where reports go.

use std::{
    fs::File,
    io::{self, IsTerminal as _, Write},
    path::Path,
};

use anyhow::Context as _;
use jiff::tz::TimeZone;

use crate::{
    model::{Frame, Growth, Report},
    render::{Format, Style},
};

/// A file or standard output, with the format that fits it.
pub(super) struct Output {
    writer: Box<dyn Write>,
    format: Format,
    style: Style,
}

/// Whether somebody still reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    Present,
    /// The pipe was closed: there is nobody to report to, which is no error.
    Gone,
}

impl Output {
    /// Opens the file, or takes standard output.
    pub(super) fn open(path: Option<&Path>, format: Format) -> anyhow::Result<Self> {
        let colour = path.is_none() && io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let style = Style { colour, time_zone: TimeZone::system() };
        let writer: Box<dyn Write> = match path {
            Some(path) => Box::new(File::create(path).with_context(|| format!("cannot write {}", path.display()))?),
            None => Box::new(io::stdout()),
        };
        Ok(Self { writer, format, style })
    }

    /// Writes one report.
    pub(super) fn write(&mut self, report: &Report) -> anyhow::Result<Reader> {
        said(self.format.write(report, &self.style, &mut self.writer))
    }

    /// Writes one report of growth.
    pub(super) fn write_growth(&mut self, report: &Growth<Frame>) -> anyhow::Result<Reader> {
        said(self.format.write_growth(report, &self.style, &mut self.writer))
    }
}

fn said(written: io::Result<()>) -> anyhow::Result<Reader> {
    match written {
        Ok(()) => Ok(Reader::Present),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(error).context("cannot write the report"),
    }
}
