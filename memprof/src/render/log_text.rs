//! What a log of calls comes to, for people. A log tells neither ages nor the course of anything.

use std::io;

use super::{
    Style,
    escape::visible,
    figures::{bytes, count, exact_bytes},
    text::{Palette, frames},
};
use crate::model::{Frame, Outstanding, ProcessSnapshot, Report, StackSnapshot, Totals};

/// Writes the report, an empty line after each process.
pub(super) fn write(report: &Report, style: &Style, output: &mut dyn io::Write) -> io::Result<()> {
    let palette = Palette::new(style.colour);
    for process in &report.processes {
        header(process, &palette, output)?;
        for (place, of) in (1..).zip(&process.stacks) {
            stack(place, of, &palette, output)?;
        }
        let hidden = process.selected_stacks.saturating_sub(process.stacks.len());
        if hidden > 0 {
            writeln!(output, "  {}", count(hidden as u64, "more place"))?;
        }
        if let Some(suppressed) = process.suppressed.as_ref().filter(|suppressed| suppressed.stacks > 0) {
            let (places, held) = (count(suppressed.stacks as u64, "place"), held_in(suppressed.outstanding, &palette));
            writeln!(output, "  suppressed: {places}, {held}")?;
        }
        writeln!(output)?;
    }
    Ok(())
}

fn header(process: &ProcessSnapshot<Frame>, palette: &Palette, output: &mut dyn io::Write) -> io::Result<()> {
    let Palette { name, faint, good, .. } = palette;
    let Totals { allocations, allocated_bytes, frees, freed_bytes } = process.totals;
    let command = visible(&process.command);
    match process.outstanding {
        Outstanding { allocations: 0, .. } => {
            writeln!(output, "{name}{command}{name:#}  {good}All memory freed{good:#}")?
        }
        held => writeln!(output, "{name}{command}{name:#}  Memory not freed: {}", held_in(held, palette))?,
    }
    writeln!(
        output,
        "  {faint}allocated {} in {}, freed {} in {}, peak {}{faint:#}",
        bytes(allocated_bytes),
        count(allocations, "allocation"),
        bytes(freed_bytes),
        count(frees, "free"),
        bytes(process.peak.outstanding.bytes),
    )
}

fn stack(place: usize, stack: &StackSnapshot<Frame>, palette: &Palette, output: &mut dyn io::Write) -> io::Result<()> {
    let allocated = Outstanding { bytes: stack.totals.allocated_bytes, allocations: stack.totals.allocations };
    let of_all = if allocated == stack.outstanding {
        String::new()
    } else {
        format!(" of {} in all", count(allocated.allocations, "allocation"))
    };
    writeln!(output, "  #{place}  {}{of_all}", held_in(stack.outstanding, palette))?;
    frames(&stack.frames, palette, output)?;
    for block in &stack.allocations {
        writeln!(output, "        at {:#014x}  {:>13}", block.address, exact_bytes(block.size))?;
    }
    Ok(())
}

fn held_in(held: Outstanding, palette: &Palette) -> String {
    let figure = palette.figure;
    format!("{figure}{}{figure:#} in {}", bytes(held.bytes), count(held.allocations, "allocation"))
}
