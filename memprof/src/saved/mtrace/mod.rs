//! Logs of `mtrace`: glibc's, and memprof's. What was not freed, by the place that allocated it.
//!
//! A line is `@ WHERE + 0xPOINTER 0xSIZE`, with `-` for a free, `<` and `>` for the two halves of a `realloc`, `!` for one that failed;
//! `@ WHERE` may be missing, and so may parts of it: `module:(symbol+0xoffset)[0xaddress]`.

mod line;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, rc::Rc, time::Duration};

use line::{Event, Kind, caller, event, lines};

use super::SavedError;
use crate::model::{
    BlockGroup, Caller, LiveAllocation, Outstanding, Peak, ProcessSnapshot, Snapshot, StackId, StackSnapshot,
    StackTotals, Totals, Warning,
};

/// So many remarks in a log are passed on, and so much of each.
const MOST_REMARKS: usize = 16;
const MOST_REMARK_BYTES: usize = 400;

/// So many lines that are in doubt are told of one by one.
const MOST_EXAMPLES: usize = 3;

/// Whether it begins as a log begins, or goes on with one.
pub(super) fn looks_like_log(bytes: &[u8]) -> bool {
    let first_line = lines(bytes).next().unwrap_or_default();
    first_line == b"= Start" || event(first_line).is_some()
}

/// What a log says. Frames are callers, to be named by those who have the modules.
pub(super) fn read(bytes: &[u8]) -> Result<Snapshot<Caller>, SavedError> {
    let mut log = Log::default();
    for (index, line) in lines(bytes).enumerate() {
        log.take(index + 1, line);
    }
    if log.events == 0 && !log.has_start {
        return Err(SavedError::Mtrace("no line of it tells of a call".to_owned()));
    }
    let at_peak = held_after(bytes, log.peak_line);
    Ok(log.into_snapshot(&at_peak))
}

/// What each stack held after so many lines: those come in the same order again.
fn held_after(bytes: &[u8], count: usize) -> Vec<Outstanding> {
    let mut log = Log::default();
    for (index, line) in lines(bytes).take(count).enumerate() {
        log.take(index + 1, line);
    }
    Held::by_stack(&log.blocks, log.stacks.len()).iter().map(Held::outstanding).collect()
}

/// What has been read so far.
#[derive(Default)]
struct Log {
    has_start: bool,
    events: u64,
    places: HashMap<Rc<[u8]>, usize>,
    stacks: Vec<Stack>,
    /// By address: size, and the stack's number.
    blocks: HashMap<u64, (u64, u32)>,
    totals: Totals,
    outstanding: u64,
    peak: Outstanding,
    /// The line that it was reached at.
    peak_line: usize,
    remarks: Vec<String>,
    unknown_frees: Doubtful,
    duplicates: Doubtful,
    unreadable: Doubtful,
}

struct Stack {
    caller: Caller,
    totals: StackTotals,
}

/// Lines in doubt: how many, and the first of them.
#[derive(Default)]
struct Doubtful {
    count: u64,
    examples: Vec<String>,
}

impl Doubtful {
    fn add(&mut self, line: usize, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.examples.len() < MOST_EXAMPLES {
            self.examples.push(format!("line {line}{}", what()));
        }
    }

    fn into_warning(self, warning: impl FnOnce(u64, String) -> Warning) -> Option<Warning> {
        let more = if self.count > self.examples.len() as u64 { ", …" } else { "" };
        (self.count > 0).then(|| warning(self.count, self.examples.join(", ") + more))
    }
}

impl Log {
    fn take(&mut self, number: usize, line: &[u8]) {
        match event(line) {
            Some(event) => {
                self.events += 1;
                self.apply(number, event);
            }
            None if line == b"= Start" => self.has_start = true,
            None if line.is_empty() || line == b"= End" => {}
            None if line.starts_with(b"#") => self.remark(line),
            None => self.unreadable.add(number, String::new),
        }
    }

    fn remark(&mut self, line: &[u8]) {
        if self.remarks.len() < MOST_REMARKS {
            let text = String::from_utf8_lossy(&line[1..line.len().min(MOST_REMARK_BYTES)]);
            self.remarks.push(text.trim().to_owned());
        }
    }

    fn apply(&mut self, number: usize, event: Event<'_>) {
        match event.kind {
            Kind::Allocated { size } => self.allocated(number, event, size),
            Kind::Freed => {
                if !self.release(event.address) {
                    let told = || format!(" ({:#x}{})", event.address, from(event.place));
                    self.unknown_frees.add(number, told);
                }
            }
            Kind::Failed => {}
        }
    }

    fn allocated(&mut self, number: usize, event: Event<'_>, size: u64) {
        let Ok(stack) = u32::try_from(self.stack(event.place)) else { return };
        // A pointer that is handed out again was freed.
        if self.release(event.address) {
            self.duplicates.add(number, || format!(" ({:#x}{})", event.address, from(event.place)));
        }
        self.blocks.insert(event.address, (size, stack));
        let totals = &mut self.stacks[stack as usize].totals;
        totals.allocations += 1;
        totals.allocated_bytes = totals.allocated_bytes.saturating_add(size);
        self.totals.allocations += 1;
        self.totals.allocated_bytes = self.totals.allocated_bytes.saturating_add(size);
        self.outstanding = self.outstanding.saturating_add(size);
        if self.outstanding > self.peak.bytes {
            self.peak = Outstanding { bytes: self.outstanding, allocations: self.blocks.len() as u64 };
            self.peak_line = number;
        }
    }

    fn release(&mut self, address: u64) -> bool {
        let Some((size, _)) = self.blocks.remove(&address) else { return false };
        self.totals.frees += 1;
        self.totals.freed_bytes = self.totals.freed_bytes.saturating_add(size);
        self.outstanding = self.outstanding.saturating_sub(size);
        true
    }

    fn stack(&mut self, place: &[u8]) -> usize {
        if let Some(known) = self.places.get(place) {
            return *known;
        }
        self.stacks.push(Stack { caller: caller(place), totals: StackTotals::default() });
        self.places.insert(place.into(), self.stacks.len() - 1);
        self.stacks.len() - 1
    }

    fn into_snapshot(self, at_peak: &[Outstanding]) -> Snapshot<Caller> {
        let held = Held::by_stack(&self.blocks, self.stacks.len());
        let command = program(&self.stacks);
        let outstanding = Outstanding { bytes: self.outstanding, allocations: self.blocks.len() as u64 };
        let at_peak = at_peak.iter().copied().chain(std::iter::repeat(Outstanding::default()));
        let stacks = self.stacks.into_iter().zip(held).zip(at_peak);
        let snapshot = |(id, ((stack, held), at_peak)): (u64, ((Stack, Held), Outstanding))| {
            stack.into_snapshot(id, &held, at_peak)
        };
        let stacks: Vec<_> = (1..).zip(stacks).map(snapshot).collect();
        let process = ProcessSnapshot {
            outstanding,
            peak: Peak { outstanding: self.peak, elapsed: Duration::ZERO },
            totals: self.totals,
            selected_stacks: stacks.iter().filter(|stack| stack.outstanding.allocations > 0).count(),
            stacks,
            ..ProcessSnapshot::empty(0, command)
        };
        let doubts = [
            self.unknown_frees.into_warning(|count, lines| Warning::LogFreesUnknown { count, lines }),
            self.duplicates.into_warning(|count, lines| Warning::LogRepeats { count, lines }),
            self.unreadable.into_warning(|count, lines| Warning::LogUnreadable { count, lines }),
        ];
        let remarks = self.remarks.into_iter().map(Warning::LogRemark);
        let warnings = [Warning::Log].into_iter().chain(remarks).chain(doubts.into_iter().flatten()).collect();
        Snapshot { warnings, processes: vec![process], ..Snapshot::empty(jiff::Timestamp::default()) }
    }
}

/// Blocks that were not freed, of one stack.
#[derive(Clone, Default)]
struct Held(Vec<(u64, u64)>);

impl Held {
    fn by_stack(blocks: &HashMap<u64, (u64, u32)>, stacks: usize) -> Vec<Self> {
        let mut held = vec![Self::default(); stacks];
        blocks.iter().for_each(|(address, (size, stack))| held[*stack as usize].0.push((*address, *size)));
        held.iter_mut().for_each(|held| held.0.sort_unstable());
        held
    }

    fn outstanding(&self) -> Outstanding {
        let bytes = self.0.iter().fold(0_u64, |sum, (_, size)| sum.saturating_add(*size));
        Outstanding { bytes, allocations: self.0.len() as u64 }
    }

    fn groups(&self) -> Vec<BlockGroup> {
        let mut groups: HashMap<u64, u64> = HashMap::new();
        self.0.iter().for_each(|(_, size)| *groups.entry(*size).or_default() += 1);
        let mut groups: Vec<_> = groups.into_iter().collect();
        groups.sort_unstable();
        let group = |(size, allocations): (u64, u64)| BlockGroup {
            size,
            age: Duration::ZERO,
            outstanding: Outstanding { bytes: size.saturating_mul(allocations), allocations },
        };
        groups.into_iter().map(group).collect()
    }
}

impl Stack {
    fn into_snapshot(self, id: u64, held: &Held, at_peak: Outstanding) -> StackSnapshot<Caller> {
        let allocation = |&(address, size): &(u64, u64)| LiveAllocation { address, size, age: Duration::ZERO };
        StackSnapshot {
            outstanding: held.outstanding(),
            totals: self.totals,
            at_peak,
            allocations: held.0.iter().map(allocation).collect(),
            groups: held.groups(),
            ..StackSnapshot::empty(StackId(id), vec![self.caller])
        }
    }
}

fn from(place: &[u8]) -> String {
    if place.is_empty() { String::new() } else { format!(" at {}", String::from_utf8_lossy(place)) }
}

/// The program's name, which no line tells: that of the first module that is no library.
fn program(stacks: &[Stack]) -> String {
    let modules = || stacks.iter().filter_map(|stack| stack.caller.module.as_deref()?.file_name()?.to_str());
    let first = modules().find(|name| !name.contains(".so")).or_else(|| modules().next());
    first.map_or_else(|| "[unknown]".to_owned(), str::to_owned)
}
