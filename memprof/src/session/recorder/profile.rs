//! What is reported: profiles, with what was lost and what is in doubt.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use super::{Recorder, now};
use crate::{
    heap::{Heap, HeapPeak},
    model::{
        Losses, Outstanding, Peak, ProcessSnapshot, ProcessVerdict, Profile, ProfileFrame, RawFrame, ScaledFigures,
        ScaledProcess, Selection, Snapshot, StackCounts, StackId, StackSnapshot, StackTotals, Timestamp, Totals,
        Truncation, Warning,
    },
    session::{histories::scaled, meter::Meter, observed::Observed, stacks::Counted},
};

impl Recorder {
    /// What is outstanding now, and starts a new interval for growth.
    pub(in crate::session) fn profile(&mut self, selection: &Selection) -> anyhow::Result<Profile> {
        let totals = self.drain_with_totals()?;
        self.read_meters()?;
        self.unwind_copies(Duration::ZERO);
        self.look();
        let now = now();
        self.processes.iter_mut().for_each(|process| process.jit.read(now));
        let mut losses = self.past_losses;
        let mut processes = Vec::new();
        for index in 0..self.processes.len() {
            let (process, process_losses) = self.snapshot(index, selection, now, &totals)?;
            processes.push(process);
            losses += process_losses;
        }
        let profile = Snapshot {
            time: jiff::Timestamp::now(),
            elapsed: now.since(self.started),
            since_previous: now.since(self.reported),
            sample_bytes: self.sample_bytes,
            max_overhead: self.limit,
            losses,
            warnings: self.warnings(&losses)?,
            moment: selection.moment,
            ranking: None,
            processes,
            ended: self.ended,
        };
        self.heaps.values_mut().for_each(Heap::mark_reported);
        self.reported = now;
        Ok(profile)
    }

    /// Drains, and has what was allocated at each stack before: so no block counts as one that is gone which is still to come.
    fn drain_with_totals(&mut self) -> anyhow::Result<Counted> {
        let (before, turn) = (self.stack_counts(), self.stacks.turn());
        self.drain()?;
        let is_current = self.stacks.turn() == turn;
        let counts = if is_current { before } else { self.stack_counts() };
        let lasting = self.heaps.values().flat_map(Heap::lasting);
        Ok(self.stacks.totals(&counts, lasting))
    }

    /// What the kernel side has counted at each stack that it knows.
    pub(super) fn stack_counts(&self) -> HashMap<StackId, StackCounts> {
        let mut all: HashMap<_, StackCounts> = HashMap::new();
        self.kernel.stack_totals(|stack, counts| *all.entry(stack).or_default() += counts);
        all
    }

    fn snapshot(
        &self,
        index: usize,
        selection: &Selection,
        now: Timestamp,
        counted: &Counted,
    ) -> anyhow::Result<(ProcessSnapshot<ProfileFrame>, Losses)> {
        let process = &self.processes[index];
        let (mut totals, losses) = self.kernel.totals(process.image)?;
        let nothing = Heap::new();
        let heap = self.heaps.get(&process.image).unwrap_or(&nothing);
        match self.sampling.bytes() {
            None => totals += heap.freed(),
            Some(_) => estimate_frees(&mut totals, heap.outstanding()),
        }
        let stack_totals = self.stack_totals(counted.get(&process.image), &totals, &losses);
        let name = |stack| self.stacks.name(stack);
        let mut selected = heap.select(selection, now, name, &stack_totals, |stack| self.frames(process, stack));
        let scaled =
            process.meter.as_ref().and_then(|meter| scale(meter, heap, selection, now, name, &mut selected.shown));
        let verdict = self.judge(process, heap, scaled.as_ref(), &mut selected.shown);
        let holding: HashSet<_> = heap.outstanding_by_stack().map(|(stack, _)| name(stack)).collect();
        let snapshot = ProcessSnapshot {
            pid: process.pid,
            command: process.command.clone(),
            identity: process.identity.clone(),
            exited: process.has_ended(),
            outstanding: heap.outstanding(),
            standard_error: heap.standard_error(),
            scaled,
            overhead: process.meter.as_ref().and_then(Meter::overhead),
            verdict,
            growth_bytes: heap.growth_bytes(),
            peak: self.peak(heap),
            history: self.histories.points(process.image, self.started),
            totals,
            stacks: selected.shown,
            selected_stacks: selected.selected,
            suppressed: None,
            truncated_stacks: holding.into_iter().filter(|stack| self.is_truncated(process, *stack)).count(),
        };
        Ok((snapshot, losses))
    }

    fn peak(&self, heap: &Heap) -> Peak {
        let HeapPeak { outstanding, time } = heap.peak();
        Peak { outstanding, elapsed: time.since(self.started) }
    }

    /// What each stack of an image has allocated, by own name. What has no stack is what remains of the image's totals.
    fn stack_totals(
        &self,
        counted: Option<&HashMap<StackId, StackCounts>>,
        totals: &Totals,
        losses: &Losses,
    ) -> HashMap<StackId, StackTotals> {
        let of_stack = |counts: &StackCounts| {
            let allocations = self.sampling.allocations(counts.units);
            let can_tell = self.sampling.bytes().is_none() && !self.tracing.is_on();
            let temporary = can_tell.then(|| allocations.saturating_sub(counts.lasting.max(0).cast_unsigned()));
            StackTotals { allocations, allocated_bytes: counts.bytes, temporary }
        };
        let known = counted.into_iter().flatten();
        let mut all: HashMap<_, _> = known.map(|(stack, counts)| (*stack, of_stack(counts))).collect();
        if losses.stacks() > 0 {
            let known = all.values().fold(0_u64, |sum, stack| sum.wrapping_add(stack.allocated_bytes));
            let allocated_bytes = totals.allocated_bytes.saturating_sub(known);
            all.insert(
                StackId::UNKNOWN,
                StackTotals { allocations: losses.stacks(), allocated_bytes, temporary: None },
            );
        }
        all
    }

    /// The frames of a stack, and why some may be missing. What the unwinder had not been told of is looked up now.
    pub(super) fn frames(&self, process: &Observed, stack: StackId) -> (Vec<ProfileFrame>, Option<Truncation>) {
        let Some(stack) = self.stacks.get(process.image, stack) else { return (Vec::new(), None) };
        let late = |address| process.space.find_return_address(address, stack.time);
        let object = |id| self.objects.get(id);
        let frame = |frame: &RawFrame| {
            let raw = RawFrame { place: frame.place.or_else(|| late(frame.address)), ..*frame };
            ProfileFrame { raw, jit_function: process.jit.name(&raw, stack.time, object) }
        };
        (stack.frames.iter().map(frame).collect(), stack.truncated)
    }

    /// What the process comes to; and each stack shown.
    fn judge<F>(
        &self,
        process: &Observed,
        heap: &Heap,
        whole: Option<&ScaledProcess>,
        stacks: &mut [StackSnapshot<F>],
    ) -> ProcessVerdict {
        // Of each byte that is observed, so many are outstanding of the whole time.
        let stands_for = |observed: Outstanding, whole: Option<&ScaledFigures>| {
            let whole = whole.filter(|_| observed.bytes > 0).map(|whole| whole.outstanding.bytes);
            whole.map_or(1.0, |whole| whole as f64 / observed.bytes as f64)
        };
        for stack in stacks {
            let trend = self.histories.trend_of_stack(process.image, stack.id);
            stack.trend = scaled(trend, stands_for(stack.outstanding, stack.scaled.as_ref()));
        }
        let whole = whole.map(|whole| &whole.figures);
        self.histories.verdict(process.image, stands_for(heap.outstanding(), whole))
    }

    pub(super) fn is_truncated(&self, process: &Observed, stack: StackId) -> bool {
        self.stacks.get(process.image, stack).is_some_and(|stack| stack.truncated.is_some())
    }

    fn warnings(&mut self, losses: &Losses) -> anyhow::Result<Vec<Warning>> {
        for warning in self.objects.take_warnings() {
            self.warn(warning);
        }
        let mut warnings: Vec<_> = Warning::of_losses(losses, self.sample_bytes.is_some()).collect();
        warnings.extend(self.warnings.iter().cloned());
        warnings.extend((self.mappings_lost > 0).then_some(Warning::MappingsLost(self.mappings_lost)));
        warnings.extend(self.warnings_of_following()?);
        let asked_for = self.processes.iter().filter(|process| !process.is_followed);
        warnings.extend(asked_for.filter_map(|process| self.without_allocator(process)));
        Ok(warnings)
    }

    fn without_allocator(&self, process: &Observed) -> Option<Warning> {
        let has_sites = |object| self.plans.get(&object).is_some_and(|plan| !plan.sites.is_empty());
        let is_bare = !process.is_about_to_start && !process.space.objects().into_iter().any(has_sites);
        is_bare.then(|| Warning::NoAllocator { pid: process.pid, command: process.command.clone() })
    }
}

/// Scales what is outstanding in all, and of each stack shown, to the whole time. Nothing if all of it was observed.
fn scale<F>(
    meter: &Meter,
    heap: &Heap,
    selection: &Selection,
    now: Timestamp,
    name: impl Fn(StackId) -> StackId,
    stacks: &mut [StackSnapshot<F>],
) -> Option<ScaledProcess> {
    let all = Selection::default();
    let blocks = heap.observed(&all, now).map(|(_, bytes, allocations, time)| (bytes, allocations, time));
    let figures = meter.scale(blocks, heap.standard_error())?;
    let mut by_stack: HashMap<StackId, Vec<_>> = HashMap::new();
    for (stack, bytes, allocations, time) in heap.observed(selection, now) {
        by_stack.entry(name(stack)).or_default().push((bytes, allocations, time));
    }
    for stack in stacks {
        let blocks = by_stack.remove(&stack.id).unwrap_or_default();
        stack.scaled = meter.scale(blocks.into_iter(), stack.standard_error);
    }
    Some(meter.scaled(figures))
}

/// While sampling, most frees are of blocks that nobody knows. But all allocations are counted, and what is not outstanding was
/// freed: that is as certain as what is outstanding, however many were freed.
fn estimate_frees(totals: &mut Totals, outstanding: Outstanding) {
    totals.frees = totals.allocations.saturating_sub(outstanding.allocations);
    totals.freed_bytes = totals.allocated_bytes.saturating_sub(outstanding.bytes);
}
