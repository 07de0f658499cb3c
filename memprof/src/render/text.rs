//! A report for people. All names are made visible before they are written ([`crate::wording::escape`]).

use std::io;

use anstyle::{AnsiColor, Style as Paint};

use super::{
    Style,
    escape::visible,
    figures::{
        bytes, change_of_bytes, count, duration, estimated_bytes, estimated_count, exact_bytes, percent, separated,
    },
    growth_text, log_text, losses, ranking_text, verdict,
    whose::whose,
};
use crate::{
    model::{
        Ages, Course, Frame, LiveAllocation, Moment, Outstanding, Peak, ProcessSnapshot, Ranking, Report,
        ScaledFigures, StackSnapshot, StackTotals, StandardError, Suppressed, Totals,
    },
    wording::frames::{function, location},
};

/// Longest function name, in characters, that the column of source locations makes room for.
const WIDEST_FUNCTION: usize = 60;

/// More processes are only shown one by one if they hold something.
const MOST_IDLE: usize = 8;

/// Writes the report, an empty line after each process and one after the warnings.
pub(super) fn write(report: &Report, style: &Style, output: &mut dyn io::Write) -> io::Result<()> {
    let time = report.time.to_zoned(style.time_zone.clone()).strftime("[%H:%M:%S]").to_string();
    Text { report, style, time, palette: Palette::new(style.colour), output }.write()
}

/// Paint by meaning; none of it without colours.
#[derive(Default)]
pub(super) struct Palette {
    pub(super) name: Paint,
    pub(super) figure: Paint,
    pub(super) good: Paint,
    pub(super) bad: Paint,
    pub(super) faint: Paint,
}

impl Palette {
    pub(super) fn new(colour: bool) -> Self {
        if !colour {
            return Self::default();
        }
        Self {
            name: Paint::new().bold(),
            figure: AnsiColor::Cyan.on_default().bold(),
            good: AnsiColor::Green.on_default(),
            bad: AnsiColor::Red.on_default().bold(),
            faint: Paint::new().dimmed(),
        }
    }
}

struct Text<'a> {
    report: &'a Report,
    style: &'a Style,
    /// Of day, in brackets.
    time: String,
    palette: Palette,
    output: &'a mut dyn io::Write,
}

impl Text<'_> {
    fn write(&mut self) -> io::Result<()> {
        let report = self.report;
        if report.is_of_log() {
            log_text::write(report, self.style, self.output)?;
            return self.warnings();
        }
        if let Some(ranking) = &report.ranking {
            write!(self.output, "{} {}", self.time, ranking_text::shown(ranking))?;
            self.growth_of_suspects(ranking)?;
        } else if report.processes.is_empty() {
            let (time, losses) = (&self.time, self.losses());
            writeln!(self.output, "{time} nothing is observed  {losses}\n")?;
        }
        let are_many = report.processes.len() > MOST_IDLE;
        let (idle, shown): (Vec<_>, Vec<_>) =
            report.processes.iter().partition(|process| are_many && holds_nothing(process));
        for process in shown {
            self.header(process)?;
            self.totals(process)?;
            self.sampling()?;
            self.scaled(process)?;
            self.process_verdict(process)?;
            self.stacks(process)?;
            writeln!(self.output)?;
        }
        self.idle(&idle)?;
        self.ended()?;
        self.warnings()
    }

    /// Processes of which there is nothing to say, among many.
    fn idle(&mut self, processes: &[&ProcessSnapshot<Frame>]) -> io::Result<()> {
        let names: Vec<_> =
            processes.iter().map(|process| format!("{} ({})", visible(&process.command), process.pid)).collect();
        if names.is_empty() {
            return Ok(());
        }
        let number = match names.len() {
            1 => "1 process holds".to_owned(),
            many => format!("{} processes hold", separated(many as u64)),
        };
        let (time, losses) = (&self.time, self.losses());
        writeln!(self.output, "{time} {number} nothing and did not grow  {losses}: {}\n", names.join(", "))
    }

    /// Where they have touched new memory while they were watched.
    fn growth_of_suspects(&mut self, ranking: &Ranking) -> io::Result<()> {
        match &ranking.growth {
            Some(growth) if !growth.processes.is_empty() => growth_text::write(growth, self.style, self.output),
            _ => Ok(()),
        }
    }

    /// Processes that were followed and are over.
    fn ended(&mut self) -> io::Result<()> {
        let ended = self.report.ended;
        if ended.processes == 0 {
            return Ok(());
        }
        let held = |bytes, allocations| self.held(Outstanding { bytes, allocations }, StandardError::default());
        writeln!(
            self.output,
            "{} followed, and ended: {} more  outstanding {}; allocated {}\n",
            self.time,
            separated(ended.processes),
            held(ended.outstanding.bytes, ended.outstanding.allocations),
            held(ended.totals.allocated_bytes, ended.totals.allocations),
        )
    }

    fn warnings(&mut self) -> io::Result<()> {
        let bad = self.palette.bad;
        for warning in &self.report.warnings {
            writeln!(self.output, "{bad}warning:{bad:#} {}", visible(&warning.to_string()))?;
        }
        if self.report.warnings.is_empty() { Ok(()) } else { writeln!(self.output) }
    }

    fn header(&mut self, process: &ProcessSnapshot<Frame>) -> io::Result<()> {
        let name = self.palette.name;
        let (time, losses) = (&self.time, self.losses());
        let exited = if process.exited { ", exited" } else { "" };
        writeln!(
            self.output,
            "{time} {name}{}{name:#} ({}{exited}{})  outstanding {}  ({} in {})  {}  {losses}",
            visible(&process.command),
            process.pid,
            whose(&process.identity),
            self.held(process.outstanding, process.standard_error),
            change_of_bytes(process.growth_bytes),
            duration(self.report.since_previous),
            self.overhead(process),
        )
    }

    /// What observing it has cost, of the processor time that the process has used meanwhile.
    fn overhead(&self, process: &ProcessSnapshot<Frame>) -> String {
        let share = process.overhead.and_then(|overhead| overhead.share());
        let cost = share.map_or_else(|| "unknown".to_owned(), |share| format!("~{}", percent(share)));
        let limit = self.report.max_overhead.map(|limit| format!(" (limit {})", percent(limit.share())));
        format!("cost {cost} of its CPU time{}", limit.unwrap_or_default())
    }

    /// What was observed in windows only, scaled to the whole time.
    fn scaled(&mut self, process: &ProcessSnapshot<Frame>) -> io::Result<()> {
        let Some(scaled) = &process.scaled else { return Ok(()) };
        let faint = self.palette.faint;
        let Totals { allocations, allocated_bytes, .. } = scaled.totals;
        let allocated = Outstanding { bytes: allocated_bytes, allocations };
        writeln!(
            self.output,
            "  {faint}observed: allocations within {} at random, {} of {}, and every free of these: figures are exact for \
             them, ~ is scaled to all of the time{faint:#}",
            count(scaled.windows as u64, "window"),
            duration(scaled.observed),
            duration(scaled.elapsed),
        )?;
        let figures = held_in_all(&scaled.figures);
        let allocated =
            held_in_all(&ScaledFigures { outstanding: allocated, standard_error: scaled.totals_standard_error });
        writeln!(self.output, "  {faint}scaled: outstanding {figures}; allocated {allocated}{faint:#}")
    }

    /// Bytes and allocations; with their standard errors if they are estimates.
    fn held(&self, outstanding: Outstanding, error: StandardError) -> String {
        let figure = self.palette.figure;
        let Outstanding { bytes: size, allocations } = outstanding;
        let (size, allocations) = match self.report.sample_bytes {
            None => (bytes(size), count(allocations, "allocation")),
            Some(_) => {
                (estimated_bytes(size, error.bytes), estimated_count(allocations, error.allocations, "allocation"))
            }
        };
        format!("{figure}{size}{figure:#} in {allocations}")
    }

    fn sampling(&mut self) -> io::Result<()> {
        let Some(rate) = self.report.sample_bytes else { return Ok(()) };
        let (faint, rate) = (self.palette.faint, bytes(rate));
        writeln!(
            self.output,
            "  {faint}sampled: one point in {rate} on average, and all blocks of at least {rate}; ~ is an estimate, ± its \
             standard error{faint:#}"
        )
    }

    /// What was lost, or that nothing was. Losses are those of the whole report, so that with several processes it has
    /// to be said.
    fn losses(&self) -> String {
        let Palette { good, bad, .. } = self.palette;
        let paint = if self.report.losses.is_none() { good } else { bad };
        format!("{paint}{}{paint:#}", losses::said(self.report))
    }

    fn totals(&mut self, process: &ProcessSnapshot<Frame>) -> io::Result<()> {
        let faint = self.palette.faint;
        let Totals { allocations, allocated_bytes, frees, freed_bytes } = process.totals;
        let about = if self.report.sample_bytes.is_some() { "~" } else { "" };
        writeln!(
            self.output,
            "  {faint}in {}: allocated {} in {}, freed {about}{} in {about}{}, peak {about}{} after {}{faint:#}",
            duration(self.report.elapsed),
            bytes(allocated_bytes),
            count(allocations, "allocation"),
            bytes(freed_bytes),
            count(frees, "free"),
            bytes(process.peak.outstanding.bytes),
            duration(process.peak.elapsed),
        )
    }

    fn stacks(&mut self, process: &ProcessSnapshot<Frame>) -> io::Result<()> {
        if self.report.moment == Moment::Peak {
            let Peak { outstanding, elapsed } = process.peak;
            let held = self.held(outstanding, StandardError::default());
            writeln!(self.output, "  at the peak, after {}: outstanding {held}", duration(elapsed))?;
        }
        for (place, stack) in process.stacks.iter().enumerate() {
            self.stack(place + 1, stack)?;
        }
        let hidden = process.selected_stacks.saturating_sub(process.stacks.len());
        if hidden > 0 {
            writeln!(self.output, "  {}", count(hidden as u64, "more stack"))?;
        }
        let suppressed = process.suppressed.as_ref().filter(|suppressed| suppressed.stacks > 0);
        if let Some(Suppressed { stacks, outstanding, .. }) = suppressed {
            let held = self.held(*outstanding, StandardError::default());
            writeln!(self.output, "  suppressed: {}, {held}", count(*stacks as u64, "stack"))?;
        } else if process.selected_stacks == 0 && process.outstanding.allocations > 0 {
            writeln!(self.output, "  none of these allocations is selected")?;
        }
        if process.truncated_stacks > 0 {
            writeln!(self.output, "  {} may lack callers", count(process.truncated_stacks as u64, "stack"))?;
        }
        Ok(())
    }

    fn stack(&mut self, place: usize, stack: &StackSnapshot<Frame>) -> io::Result<()> {
        writeln!(
            self.output,
            "  #{place}  {}{}{}{}",
            self.held(stack.outstanding, stack.standard_error),
            stack.scaled.as_ref().map(|scaled| format!(", scaled {}", held_in_all(scaled))).unwrap_or_default(),
            self.ages(stack),
            self.verdict(stack),
        )?;
        self.turnover(stack)?;
        frames(&stack.frames, &self.palette, self.output)?;
        if let Some(reason) = stack.truncated {
            let bad = self.palette.bad;
            writeln!(self.output, "        {bad}[callers may be missing: {reason}]{bad:#}")?;
        }
        self.allocations(&stack.allocations)
    }

    /// How old it is: not known of the peak.
    fn ages(&self, stack: &StackSnapshot<Frame>) -> String {
        match self.report.moment {
            Moment::Now if stack.outstanding.allocations > 0 => format!(", {}", ages(stack)),
            Moment::Now | Moment::Peak => String::new(),
        }
    }

    /// What has gone by there, where that is not what is shown already.
    fn turnover(&mut self, stack: &StackSnapshot<Frame>) -> io::Result<()> {
        let StackTotals { allocations, allocated_bytes, temporary } = stack.totals;
        let faint = self.palette.faint;
        if allocations <= stack.outstanding.allocations && stack.at_peak == stack.outstanding {
            return Ok(());
        }
        let about = if self.report.sample_bytes.is_some() { "~" } else { "" };
        let (allocated, allocations) = (bytes(allocated_bytes), count(allocations, "allocation"));
        let temporary = temporary.map(|temporary| format!(", {} temporary", separated(temporary)));
        writeln!(
            self.output,
            "        {faint}in all {about}{allocated} in {about}{allocations}{}; {about}{} at the peak{faint:#}",
            temporary.unwrap_or_default(),
            bytes(stack.at_peak.bytes),
        )
    }

    /// In a word, and what has changed since the previous report.
    fn verdict(&self, stack: &StackSnapshot<Frame>) -> String {
        let Palette { good, bad, .. } = self.palette;
        let paint = match stack.trend.course {
            Course::Grows => bad,
            Course::Plateaued | Course::OneOff | Course::Level | Course::Shrinks => good,
            Course::Churn | Course::TooShort => Paint::new(),
        };
        let change = match stack.growth_bytes {
            0 => String::new(),
            change => format!(" ({})", change_of_bytes(change)),
        };
        format!(", {paint}{}{paint:#}{change}", verdict::of_stack(&stack.trend))
    }

    fn process_verdict(&mut self, process: &ProcessSnapshot<Frame>) -> io::Result<()> {
        writeln!(self.output, "  verdict: {}", verdict::of_process(&process.verdict))
    }

    fn allocations(&mut self, allocations: &[LiveAllocation]) -> io::Result<()> {
        for LiveAllocation { address, size, age } in allocations {
            let (size, age) = (exact_bytes(*size), duration(*age));
            writeln!(self.output, "        at {address:#014x}  {size:>13}  age {age}")?;
        }
        Ok(())
    }
}

/// A stack, one frame a line.
pub(super) fn frames(frames: &[Frame], palette: &Palette, output: &mut dyn io::Write) -> io::Result<()> {
    let Palette { bad, faint, .. } = palette;
    if frames.is_empty() {
        writeln!(output, "        {bad}[stack lost]{bad:#}")?;
    }
    let functions: Vec<_> = frames.iter().map(function).collect();
    let widths = functions.iter().map(|function| function.chars().count());
    let width = widths.filter(|width| *width <= WIDEST_FUNCTION).max().unwrap_or(0);
    for (function, frame) in functions.iter().zip(frames) {
        writeln!(output, "        {function:width$}  {faint}{}{faint:#}", location(frame))?;
    }
    Ok(())
}

fn holds_nothing(process: &ProcessSnapshot<Frame>) -> bool {
    process.outstanding.allocations == 0 && process.growth_bytes == 0
}

/// Of the oldest block, and where there are several, of those in the middle and at the end.
pub(super) fn ages(stack: &StackSnapshot<Frame>) -> String {
    let Ages { youngest, median, oldest } = stack.ages;
    let oldest = format!("oldest {}", duration(oldest));
    match stack.outstanding.allocations {
        ..2 => oldest,
        _ => format!("{oldest} (median {}, youngest {})", duration(median), duration(youngest)),
    }
}

/// An estimate of what is held, with its standard error as far as that is known.
fn held_in_all(scaled: &ScaledFigures) -> String {
    let Outstanding { bytes: size, allocations } = scaled.outstanding;
    match scaled.standard_error {
        Some(error) => format!(
            "{} in {}",
            estimated_bytes(size, error.bytes),
            estimated_count(allocations, error.allocations, "allocation")
        ),
        None => format!("~{} in ~{}, ± unknown", bytes(size), count(allocations, "allocation")),
    }
}
