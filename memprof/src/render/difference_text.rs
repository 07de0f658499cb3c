//! A difference for people. All names are made visible before they are written ([`super::escape`]).

use std::io;

use super::{
    Style,
    escape::visible,
    figures::{bytes, change_of_bytes, change_of_count, count, duration},
    text::{Palette, frames},
};
use crate::model::{Change, Difference, Held, ProcessDifference, Side, StackDifference};

/// Writes what has changed, an empty line after each process and one after the warnings.
pub(super) fn write(difference: &Difference, style: &Style, output: &mut dyn io::Write) -> io::Result<()> {
    Text { difference, style, palette: Palette::new(style.colour), output }.write()
}

struct Text<'a> {
    difference: &'a Difference,
    style: &'a Style,
    palette: Palette,
    output: &'a mut dyn io::Write,
}

impl Text<'_> {
    fn write(&mut self) -> io::Result<()> {
        let (before, after) = (&self.difference.before, &self.difference.after);
        writeln!(self.output, "from {}\n  to {}\n", self.side(before), self.side(after))?;
        for process in &self.difference.processes {
            self.process(process)?;
            writeln!(self.output)?;
        }
        let bad = self.palette.bad;
        for warning in &self.difference.warnings {
            writeln!(self.output, "{bad}warning:{bad:#} {}", visible(&warning.to_string()))?;
        }
        if self.difference.warnings.is_empty() { Ok(()) } else { writeln!(self.output) }
    }

    /// Which, and when.
    fn side(&self, side: &Side) -> String {
        let time = side.time.to_zoned(self.style.time_zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string();
        format!("{} ({time}, after {})", visible(&side.name), duration(side.elapsed))
    }

    fn process(&mut self, process: &ProcessDifference) -> io::Result<()> {
        let name = self.palette.name;
        writeln!(
            self.output,
            "{name}{}{name:#} ({})  outstanding {}",
            visible(&process.command),
            pids(process),
            self.change(&process.change(), &process.before, &process.after),
        )?;
        let (faint, change) = (self.palette.faint, process.change());
        writeln!(
            self.output,
            "  {faint}allocated in all: {} in {}{faint:#}",
            change_of_bytes(change.allocated_bytes),
            change_of_count(change.allocations_made, "allocation"),
        )?;
        for (place, stack) in process.stacks.iter().enumerate() {
            self.stack(place + 1, stack)?;
        }
        let hidden = process.changed_stacks.saturating_sub(process.stacks.len());
        match (hidden, process.changed_stacks) {
            (_, 0) => writeln!(self.output, "  no stack has changed"),
            (0, _) => Ok(()),
            (hidden, _) => writeln!(self.output, "  {} changed", count(hidden as u64, "more stack")),
        }
    }

    fn stack(&mut self, place: usize, stack: &StackDifference) -> io::Result<()> {
        let change = stack.change();
        let made = match change.allocations_made {
            0 => String::new(),
            made => format!("; {} made there", change_of_count(made, "allocation")),
        };
        let change = self.change(&change, &stack.before, &stack.after);
        writeln!(self.output, "  #{place}  {change}{made}")?;
        frames(&stack.frames, &self.palette, self.output)
    }

    /// What came or went, and what it was and is.
    fn change(&self, change: &Change, before: &Held, after: &Held) -> String {
        let Palette { good, bad, .. } = self.palette;
        let paint = match change.bytes {
            ..0 => good,
            0 => anstyle::Style::new(),
            1.. => bad,
        };
        format!(
            "{paint}{}{paint:#} in {}  ({} in {} -> {} in {})",
            change_of_bytes(change.bytes),
            change_of_count(change.allocations, "allocation"),
            bytes(before.outstanding.bytes),
            before.outstanding.allocations,
            bytes(after.outstanding.bytes),
            after.outstanding.allocations,
        )
    }
}

/// `12`, `12 -> 15`, or how many where they are several.
fn pids(process: &ProcessDifference) -> String {
    let side = |pids: &[u32]| match pids {
        [] => "none".to_owned(),
        [pid] => pid.to_string(),
        several => format!("{} processes", several.len()),
    };
    let (before, after) = (side(&process.pids_before), side(&process.pids_after));
    if before == after { before } else { format!("{before} -> {after}") }
}
