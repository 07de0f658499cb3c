//! Growth for people. All names are made visible before they are written ([`crate::wording::escape`]).

use std::io;

use super::{
    Style,
    escape::visible,
    figures::{bytes, change_of_bytes, count, duration, estimated_bytes},
    text::{Palette, frames},
};
use crate::model::{AnonymousMemory, Frame, Growth, GrowthOfProcess, GrowthOfStack, Touched};

/// Writes the report, an empty line after each process and one after the warnings.
pub(super) fn write(report: &Growth<Frame>, style: &Style, output: &mut dyn io::Write) -> io::Result<()> {
    let time = report.time.to_zoned(style.time_zone.clone()).strftime("[%H:%M:%S]").to_string();
    Text { report, time, palette: Palette::new(style.colour), output }.write()
}

struct Text<'a> {
    report: &'a Growth<Frame>,
    /// Of day, in brackets.
    time: String,
    palette: Palette,
    output: &'a mut dyn io::Write,
}

impl Text<'_> {
    fn write(&mut self) -> io::Result<()> {
        let report = self.report;
        if report.processes.is_empty() {
            writeln!(
                self.output,
                "{} no memory has grown ({} watched)  {}\n",
                self.time,
                report.watched,
                self.losses()
            )?;
        }
        for process in &report.processes {
            self.header(process)?;
            self.explanation(process)?;
            self.stacks(process)?;
            writeln!(self.output)?;
        }
        let bad = self.palette.bad;
        for warning in &report.warnings {
            writeln!(self.output, "{bad}warning:{bad:#} {}", visible(&warning.to_string()))?;
        }
        if report.warnings.is_empty() { Ok(()) } else { writeln!(self.output) }
    }

    fn header(&mut self, process: &GrowthOfProcess<Frame>) -> io::Result<()> {
        let (name, losses) = (self.palette.name, self.losses());
        writeln!(
            self.output,
            "{} {name}{}{name:#} ({}{})  touched {} of new anonymous memory in {}  {losses}",
            self.time,
            visible(&process.command),
            process.pid,
            if process.exited { ", exited" } else { "" },
            self.touched(process.touched),
            duration(self.report.elapsed),
        )
    }

    /// What the kernel says, beside it.
    fn explanation(&mut self, process: &GrowthOfProcess<Frame>) -> io::Result<()> {
        let faint = self.palette.faint;
        let resident = match process.anonymous {
            Some(memory) => {
                let AnonymousMemory { before, now } = memory;
                format!("RssAnon {} ({} to {})", change_of_bytes(memory.change()), bytes(before), bytes(now))
            }
            None => "RssAnon is not known any more".to_owned(),
        };
        let read = match process.only_read.bytes() {
            0 => String::new(),
            _ => format!("; {} were only read", self.figure(process.only_read)),
        };
        writeln!(self.output, "  {faint}{resident}{read}{faint:#}")
    }

    fn stacks(&mut self, process: &GrowthOfProcess<Frame>) -> io::Result<()> {
        for (place, stack) in process.stacks.iter().enumerate() {
            self.stack(place + 1, stack, process)?;
        }
        let hidden = process.all_stacks.saturating_sub(process.stacks.len());
        if hidden > 0 {
            writeln!(self.output, "  {}", count(hidden as u64, "more stack"))?;
        }
        if process.without_stack.samples > 0 {
            writeln!(self.output, "  {} without a stack", self.figure(process.without_stack))?;
        }
        if process.truncated_stacks > 0 {
            writeln!(self.output, "  {} may lack callers", count(process.truncated_stacks as u64, "stack"))?;
        }
        Ok(())
    }

    fn stack(&mut self, place: usize, stack: &GrowthOfStack<Frame>, of: &GrowthOfProcess<Frame>) -> io::Result<()> {
        let share = 100.0 * stack.touched.bytes() as f64 / of.touched.bytes() as f64;
        writeln!(self.output, "  #{place}  {}, {share:.0} %", self.touched(stack.touched))?;
        frames(&stack.frames, &self.palette, self.output)?;
        if let Some(reason) = stack.truncated {
            let bad = self.palette.bad;
            writeln!(self.output, "        {bad}[callers may be missing: {reason}]{bad:#}")?;
        }
        Ok(())
    }

    fn losses(&self) -> String {
        let Palette { good, bad, .. } = self.palette;
        let losses = &self.report.losses;
        if self.report.is_complete() {
            return format!("{good}nothing lost{good:#}");
        }
        let whose = if self.report.processes.len() > 1 { " in all processes" } else { "" };
        let kinds = [(losses.faults_unresolved + self.report.missed, "page fault"), (losses.stacks(), "stack")];
        let occurred = kinds.into_iter().filter(|(number, _)| *number > 0);
        let lost = occurred.map(|(number, noun)| count(number, noun)).collect::<Vec<_>>().join(", ");
        format!("{bad}LOST {lost}{whose}{bad:#}")
    }

    /// Bytes and huge pages among them, in colour.
    fn touched(&self, touched: Touched) -> String {
        let figure = self.palette.figure;
        let huge_pages = match touched.huge_pages {
            0 => String::new(),
            pages => format!(" ({})", count(pages, "huge page")),
        };
        format!("{figure}{}{figure:#}{huge_pages}", self.figure(touched))
    }

    fn figure(&self, touched: Touched) -> String {
        if self.report.period == 1 {
            bytes(touched.bytes())
        } else {
            estimated_bytes(touched.bytes(), touched.standard_error())
        }
    }
}
