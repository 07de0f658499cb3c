//! Traced calls to bytes, as they happen. One format, one file; pure functions of the event and of what can be kept between events.

mod json;
mod mtrace;
#[cfg(test)]
mod tests;
mod text;

use std::io;

use super::{Format, Style};
use crate::model::TraceEvent;

/// How traced calls are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TraceFormat {
    /// For people: a line each, and the stack below it if it is known.
    Text,
    /// One JSON object each, one a line.
    Json,
    /// As `mtrace(3)` of glibc writes it.
    Mtrace,
}

impl TraceFormat {
    /// The one of that name, if calls can be written so.
    pub fn of(format: Format) -> Option<Self> {
        match format {
            Format::Text => Some(Self::Text),
            Format::Json => Some(Self::Json),
            Format::Mtrace => Some(Self::Mtrace),
            Format::Folded | Format::Flamegraph | Format::Html | Format::Pprof => None,
        }
    }
}

/// A trace that is being written.
#[derive(Debug)]
pub struct Trace {
    format: TraceFormat,
    clock: text::Clock,
}

impl Trace {
    /// One that has not begun.
    pub fn new(format: TraceFormat, style: &Style) -> Self {
        Self { format, clock: text::Clock::new(style.time_zone.clone()) }
    }

    /// What comes before the first event.
    ///
    /// # Errors
    /// Those of `output`, here and below.
    pub fn begin(&self, output: &mut dyn io::Write) -> io::Result<()> {
        match self.format {
            TraceFormat::Mtrace => mtrace::begin(output),
            TraceFormat::Text | TraceFormat::Json => Ok(()),
        }
    }

    /// One event.
    pub fn event(&mut self, event: &TraceEvent, output: &mut dyn io::Write) -> io::Result<()> {
        match self.format {
            TraceFormat::Text => text::event(event, &mut self.clock, output),
            TraceFormat::Json => json::event(event, output),
            TraceFormat::Mtrace => mtrace::event(event, output),
        }
    }

    /// What comes after the last. `remarks` are what the reader should know, if no report follows that says it.
    pub fn end(&self, remarks: &[String], output: &mut dyn io::Write) -> io::Result<()> {
        match self.format {
            TraceFormat::Mtrace => mtrace::end(remarks, output),
            TraceFormat::Text | TraceFormat::Json => Ok(()),
        }
    }
}
