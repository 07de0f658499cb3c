//! A line for each call: when, who, what, how much, where, and from where.

use std::io;

use jiff::tz::TimeZone;

use crate::{
    model::{Caller, Deed, Frame, TraceEvent},
    wording::frames::{function, location},
};

/// Tells the time of day. Most events are within the second of the one before.
#[derive(Debug)]
pub(super) struct Clock {
    time_zone: TimeZone,
    second: i64,
    text: String,
}

impl Clock {
    pub(super) fn new(time_zone: TimeZone) -> Self {
        Self { time_zone, second: i64::MIN, text: String::new() }
    }

    /// To the second.
    fn tell(&mut self, time: jiff::Timestamp) -> &str {
        if time.as_second() != self.second {
            self.second = time.as_second();
            self.text = time.to_zoned(self.time_zone.clone()).strftime("%H:%M:%S").to_string();
        }
        &self.text
    }
}

/// Writes one event.
pub(super) fn event(event: &TraceEvent, clock: &mut Clock, output: &mut dyn io::Write) -> io::Result<()> {
    let TraceEvent { time, thread, deed, caller, stack, .. } = event;
    let microseconds = time.subsec_nanosecond() / 1000;
    write!(output, "{}.{microseconds:06} {}/{} ", clock.tell(*time), thread.pid, thread.tid)?;
    match deed {
        Deed::Allocated { address, size } => write!(output, "alloc   {size:>9} B  {address:#014x}")?,
        Deed::Freed { address } => write!(output, "free    {:>9}    {address:#014x}", "")?,
        Deed::Resized { old, new, size } => write!(output, "realloc {size:>9} B  {new:#014x} was {old:#014x}")?,
        Deed::NotResized { address, size } => write!(output, "realloc {size:>9} B  failed, still {address:#014x}")?,
    }
    match stack {
        Some(stack) if !stack.is_empty() => stack.iter().try_for_each(|frame| {
            let gap = "\n        ";
            write!(output, "{gap}{}  {}", function(frame), location(frame))
        })?,
        _ => from(caller, output)?,
    }
    writeln!(output)
}

/// The innermost function at the caller's place, be it inlined.
fn from(caller: &Caller, output: &mut dyn io::Write) -> io::Result<()> {
    let unknown = Frame { address: caller.address, ..Frame::default() };
    let frame = caller.frames.first().unwrap_or(&unknown);
    write!(output, "  {}  {}", function(frame), location(frame))
}
