//! Where reports go.
//!
//! Text and JSON follow one another, and of a report that cannot be written nothing is left. Of every other format a file holds one
//! report: each replaces the file as a whole, so that whatever happens the file is that of the last report. What is no regular file gets
//! the last one only.

use std::{
    fs::{self, File},
    io::{self, IsTerminal as _, Seek as _, SeekFrom, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, bail};
use jiff::tz::TimeZone;

use super::Destination;
use crate::{
    model::{Difference, Frame, Growth, Report, Selection},
    privileges::{WRITING, raise},
    render::{Format, Style},
    saved::select,
    wording::allows_colours,
};

/// All files that reports go to, or standard output.
pub(super) struct Outputs {
    outputs: Vec<Output>,
    /// Whether a report is made with all that any of them wants, and each takes its part.
    are_parts: bool,
}

/// A file or standard output, with the format that fits it.
struct Output {
    sink: Sink,
    /// The file that a stream leads to.
    file: Option<File>,
    format: Format,
    selection: Selection,
    style: Style,
}

enum Sink {
    /// Reports follow one another.
    Stream(Box<dyn Write>),
    /// The last report counts; it is kept until the end.
    Last(Box<dyn Write>, Vec<u8>),
    /// A file that each report replaces.
    Replaced(PathBuf),
}

/// Whether somebody still reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    Present,
    /// The pipe was closed: there is nobody to report to, which is no error.
    Gone,
}

impl Outputs {
    /// Opens the files, or takes standard output.
    pub(super) fn open(destinations: &[Destination]) -> anyhow::Result<Self> {
        let outputs = destinations.iter().map(Output::open).collect::<anyhow::Result<_>>()?;
        let are_parts = destinations.iter().any(|destination| destination.format.wants_all_stacks());
        Ok(Self { outputs, are_parts })
    }

    /// Likewise for reports that have all stacks.
    pub(super) fn of_whole_reports(destinations: &[Destination]) -> anyhow::Result<Self> {
        Ok(Self { are_parts: true, ..Self::open(destinations)? })
    }

    /// Whether a report is to have everything, of which each takes its part.
    pub(super) fn want_whole_reports(&self) -> bool {
        self.are_parts
    }

    /// What a report has to have for all of them, where `asked` is what the user wants to see.
    pub(super) fn selection(&self, asked: &Selection) -> Selection {
        if !self.are_parts {
            return *asked;
        }
        let show_allocations = self.outputs.iter().any(|output| output.selection.show_allocations);
        Selection { top: None, show_groups: true, show_allocations, ..Selection::default() }
    }

    /// How calls look among the reports of an output, and another way to where these go: both write at the same place of a file.
    pub(super) fn for_trace(&self, output: usize) -> anyhow::Result<(&Style, Box<dyn Write>)> {
        let output = &self.outputs[output];
        Ok((&output.style, output.another_writer()?))
    }

    /// Writes one report.
    pub(super) fn write(&mut self, report: &Report) -> anyhow::Result<Reader> {
        let are_parts = self.are_parts;
        self.write_each(|of, output| {
            let part = are_parts.then(|| select(report, of.selection));
            of.format.write(part.as_ref().unwrap_or(report), of.style, output)
        })
    }

    /// Writes a difference.
    pub(super) fn write_difference(&mut self, difference: &Difference) -> anyhow::Result<Reader> {
        self.write_each(|of, output| of.format.write_difference(difference, of.style, output))
    }

    /// Writes one report of growth.
    pub(super) fn write_growth(&mut self, report: &Growth<Frame>) -> anyhow::Result<Reader> {
        self.write_each(|of, output| of.format.write_growth(report, of.style, output))
    }

    /// Writes what was kept until the end.
    pub(super) fn finish(&mut self) -> anyhow::Result<()> {
        for output in &mut self.outputs {
            if let Sink::Last(writer, report) = &mut output.sink {
                let report = std::mem::take(report);
                said(writer.write_all(&report).and_then(|()| writer.flush()))?;
            }
        }
        Ok(())
    }

    fn write_each(
        &mut self,
        mut write: impl FnMut(&OutputStyle<'_>, &mut dyn Write) -> io::Result<()>,
    ) -> anyhow::Result<Reader> {
        let mut failure = None;
        self.outputs.retain_mut(|output| match output.write(&mut write) {
            Ok(reader) => reader == Reader::Present,
            Err(error) => {
                failure.get_or_insert(error);
                true
            }
        });
        match failure {
            Some(error) => Err(error),
            None if self.outputs.is_empty() => Ok(Reader::Gone),
            None => Ok(Reader::Present),
        }
    }
}

/// What a report is written by.
struct OutputStyle<'a> {
    format: Format,
    selection: &'a Selection,
    style: &'a Style,
}

impl Output {
    fn open(destination: &Destination) -> anyhow::Result<Self> {
        let Destination { path, format, selection } = destination;
        let is_terminal = path.is_none() && io::stdout().is_terminal();
        if is_terminal && format.is_binary() {
            bail!("a profile is not for a terminal: give a file (-o FILE), or pipe it somewhere");
        }
        let colour = is_terminal && allows_colours();
        let style = Style { colour, time_zone: TimeZone::system() };
        let (sink, file) = Sink::open(path.as_deref(), *format)?;
        Ok(Self { sink, file, format: *format, selection: *selection, style })
    }

    fn another_writer(&self) -> anyhow::Result<Box<dyn Write>> {
        Ok(match &self.file {
            Some(file) => Box::new(file.try_clone().context("dup")?),
            None => Box::new(io::stdout()),
        })
    }

    fn write(
        &mut self,
        write: &mut impl FnMut(&OutputStyle<'_>, &mut dyn Write) -> io::Result<()>,
    ) -> anyhow::Result<Reader> {
        let of = OutputStyle { format: self.format, selection: &self.selection, style: &self.style };
        match &mut self.sink {
            Sink::Stream(writer) => said(whole_or_nothing(self.file.as_mut(), || write(&of, writer))),
            Sink::Last(_, report) => {
                report.clear();
                said(write(&of, report))
            }
            Sink::Replaced(path) => replace(path, |file| write(&of, file)).map(|()| Reader::Present),
        }
    }
}

impl Sink {
    fn open(path: Option<&Path>, format: Format) -> anyhow::Result<(Self, Option<File>)> {
        let Some(path) = path else { return Ok((Self::of_stream(Box::new(io::stdout()), format), None)) };
        let context = || format!("cannot write {}", path.display());
        let is_replaced = fs::metadata(path).map_or(true, |metadata| metadata.is_file());
        let _raised = raise(WRITING);
        if format.is_appended() || !is_replaced {
            let file = File::create(path).with_context(context)?;
            let copy = file.try_clone().with_context(context)?;
            return Ok((Self::of_stream(Box::new(file), format), Some(copy)));
        }
        // A link stays, and what it leads to is replaced.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        temporary_beside(&path).with_context(context)?;
        Ok((Self::Replaced(path), None))
    }

    fn of_stream(writer: Box<dyn Write>, format: Format) -> Self {
        if format.is_appended() { Self::Stream(writer) } else { Self::Last(writer, Vec::new()) }
    }
}

/// Writes to where the file is, if it is known. Where that fails, the file is cut again: a part of a report could be taken for one.
fn whole_or_nothing(file: Option<&mut File>, write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let file = file.and_then(|file| Some((file.stream_position().ok()?, file)));
    let written = write();
    if let (Err(_), Some((before, file))) = (&written, file) {
        // What is no regular file cannot be cut, and what it has, it has.
        let _ = file.set_len(before).and_then(|()| file.seek(SeekFrom::Start(before)));
    }
    written
}

/// Gives a file other content, all of it or nothing.
fn replace(path: &Path, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) -> anyhow::Result<()> {
    let context = || format!("cannot write {}", path.display());
    let _raised = raise(WRITING);
    let mut file = temporary_beside(path).with_context(context)?;
    // Not through the temporary file, which would name itself in an error.
    write(file.as_file_mut()).with_context(context)?;
    file.persist(path).map_err(|error| error.error).with_context(context)?;
    Ok(())
}

/// A file in the same directory, which goes unless it is given the name. It may be read by whom the file may that it replaces.
fn temporary_beside(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let create = |path: &Path| File::options().write(true).create_new(true).open(path);
    let file = tempfile::Builder::new().prefix(".memprof-").make_in(directory, create)?;
    if let Ok(metadata) = fs::metadata(path) {
        file.as_file().set_permissions(metadata.permissions())?;
    }
    Ok(file)
}

fn said(written: io::Result<()>) -> anyhow::Result<Reader> {
    match written {
        Ok(()) => Ok(Reader::Present),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Reader::Gone),
        Err(error) => Err(error).context("cannot write the report"),
    }
}
