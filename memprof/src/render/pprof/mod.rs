//! A report as a pprof profile ([`crate::pprof`]): one sample for each process, stack, and group of blocks of one size and age.
//!
//! What was allocated in all is with the first sample of its stack, so that sums are right. What belongs to no stack that is kept, and what
//! processes held that are not told one by one, are samples of their own, whose only frame says so.

mod builder;
mod places;

use std::{borrow::Cow, io};

use self::builder::{Builder, LabelValue};
use crate::{
    model::{
        BlockGroup, Difference, EndedProcesses, Frame, Held, Moment, Outstanding, ProcessDifference, ProcessSnapshot,
        Report, StackSnapshot, Totals,
    },
    pprof::{Notes, encode, label, pseudo},
};

/// Writes the report, compressed.
pub(super) fn write(report: &Report, output: &mut dyn io::Write) -> io::Result<()> {
    let mut builder = Builder::new(report.sample_bytes);
    for (place, process) in report.processes.iter().enumerate() {
        let is_second = report.processes[..place].iter().any(|other| other.pid == process.pid);
        Writer { builder: &mut builder, process, place: is_second.then_some(place as u64) }.write();
    }
    ended(&mut builder, &report.ended);
    builder.observed(report.time, report.elapsed);
    comments(&mut builder, report);
    let (mut profile, sources) = builder.finish();
    let notes = Notes { sums: Notes::sums_of(&profile), sources, report: Cow::Borrowed(report) };
    let index = profile.string_table.len() as i64;
    profile.string_table.push(notes.to_comment().map_err(io::Error::other)?.into_bytes());
    profile.comment.push(index);
    encode(&profile, output)
}

/// Writes what has changed, compressed: figures have a sign. It has no notes, as it is no report.
pub(super) fn write_difference(difference: &Difference, output: &mut dyn io::Write) -> io::Result<()> {
    let mut builder = Builder::new(difference.after.sample_bytes);
    for process in &difference.processes {
        for stack in &process.stacks {
            let (before, after) = (values_of(&stack.before), values_of(&stack.after));
            let values = [0, 1, 2, 3].map(|place| after[place].saturating_sub(before[place]));
            builder.sample(&shown(&stack.frames), values, &labels_of(process));
        }
    }
    let (before, after) = (&difference.before, &difference.after);
    builder.observed(after.time, after.elapsed);
    builder.comment(&format!("memprof {}: what changed from {} to {}", version(), before.name, after.name));
    difference.warnings.iter().for_each(|warning| builder.comment(&format!("warning: {warning}")));
    encode(&builder.finish().0, output)
}

fn labels_of(process: &ProcessDifference) -> Vec<(&'static str, LabelValue)> {
    let pid = process.pids_after.last().map(|pid| (label::PID, LabelValue::Number(u64::from(*pid), "")));
    [(label::COMMAND, LabelValue::Text(process.command.clone()))].into_iter().chain(pid).collect()
}

fn values_of(held: &Held) -> [i64; 4] {
    values(held.allocated, held.outstanding)
}

/// In the order of the sample types.
fn values(allocated: Outstanding, outstanding: Outstanding) -> [i64; 4] {
    let figures = [allocated.allocations, allocated.bytes, outstanding.allocations, outstanding.bytes];
    figures.map(|figure| i64::try_from(figure).unwrap_or(i64::MAX))
}

fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// A stack without frames has one that says why.
fn shown(frames: &[Frame]) -> Cow<'_, [Frame]> {
    if frames.is_empty() { Cow::Owned(vec![nameless(pseudo::LOST)]) } else { Cow::Borrowed(frames) }
}

fn nameless(function: &str) -> Frame {
    Frame { function: Some(function.to_owned()), ..Frame::default() }
}

/// One process.
struct Writer<'a> {
    builder: &'a mut Builder,
    process: &'a ProcessSnapshot<Frame>,
    /// Among all, if it is not the first of its pid.
    place: Option<u64>,
}

impl Writer<'_> {
    fn write(&mut self) {
        let mut known = Outstanding::default();
        for stack in &self.process.stacks {
            self.stack(stack);
            known.bytes = known.bytes.saturating_add(stack.totals.allocated_bytes);
            known.allocations = known.allocations.saturating_add(stack.totals.allocations);
        }
        let Totals { allocations, allocated_bytes, .. } = self.process.totals;
        let rest = Outstanding {
            bytes: allocated_bytes.saturating_sub(known.bytes),
            allocations: allocations.saturating_sub(known.allocations),
        };
        if rest != Outstanding::default() {
            let values = values(rest, Outstanding::default());
            self.builder.sample(&[nameless(pseudo::NOT_KEPT)], values, &self.labels());
        }
    }

    fn stack(&mut self, stack: &StackSnapshot<Frame>) {
        let mut labels = self.labels();
        labels.push((label::STACK, LabelValue::Text(format!("{:#018x}", stack.id.0))));
        let frames = shown(&stack.frames);
        let mut allocated = Outstanding { bytes: stack.totals.allocated_bytes, allocations: stack.totals.allocations };
        if stack.groups.is_empty() {
            return self.builder.sample(&frames, values(allocated, stack.outstanding), &labels);
        }
        for BlockGroup { size, age, outstanding } in &stack.groups {
            let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
            let of_blocks = [
                (label::BYTES, LabelValue::Number(*size, "bytes")),
                (label::AGE, LabelValue::Number(age, "nanoseconds")),
            ];
            let labels: Vec<_> = labels.iter().cloned().chain(of_blocks).collect();
            self.builder.sample(&frames, values(std::mem::take(&mut allocated), *outstanding), &labels);
        }
    }

    fn labels(&self) -> Vec<(&'static str, LabelValue)> {
        let pid = (label::PID, LabelValue::Number(self.process.pid.into(), ""));
        let command = (label::COMMAND, LabelValue::Text(self.process.command.clone()));
        let place = self.place.map(|place| (label::PROCESS, LabelValue::Number(place, "")));
        [pid, command].into_iter().chain(place).collect()
    }
}

fn ended(builder: &mut Builder, ended: &EndedProcesses) {
    if ended.processes > 0 {
        let Totals { allocations, allocated_bytes, .. } = ended.totals;
        let allocated = Outstanding { bytes: allocated_bytes, allocations };
        builder.sample(&[nameless(pseudo::ENDED)], values(allocated, ended.outstanding), &[]);
    }
}

/// What a person should know who sees it elsewhere.
fn comments(builder: &mut Builder, report: &Report) {
    builder.comment(&format!("memprof {}", version()));
    let losses = &report.losses;
    builder.comment(&if losses.is_none() {
        "nothing lost".to_owned()
    } else {
        format!("lost: {} allocations, {} frees, {} stacks", losses.allocations(), losses.frees(), losses.stacks())
    });
    if let Some(rate) = report.sample_bytes {
        builder.comment(&format!("figures are estimates: one point in {rate} allocated bytes was sampled, on average"));
    }
    if report.moment == Moment::Peak {
        builder.comment("inuse figures are of the moment at which each process held most");
    }
    if report.processes.iter().any(|process| process.scaled.is_some()) {
        builder.comment("figures are of what was allocated within the windows of time that were observed");
    }
    report.warnings.iter().for_each(|warning| builder.comment(&format!("warning: {warning}")));
}
