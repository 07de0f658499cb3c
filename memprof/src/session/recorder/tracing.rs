//! Tracing: calls are taken out of the ring with everything else, and handed on once it is known what was mapped when they were made.

use std::{cell::RefCell, collections::HashMap, time::Duration};

use super::{Frees, Recorder, mapped_code, now};
use crate::{
    elf,
    model::{Allocation, Deed, ObjectId, ProfileFrame, RawFrame, Told, TracedCall},
    session::{
        observed::Observed,
        options::Trace,
        output::{Outputs, Reader},
        trace::{PERIOD, Tracer, Whence},
    },
};

/// What has been read and not been handed on.
#[derive(Default)]
pub(super) struct Tracing {
    is_on: bool,
    is_over: bool,
    tracer: Option<Tracer>,
    waiting: Vec<Told>,
    /// Whether objects with an allocator are libraries, of those that were asked for.
    libraries: RefCell<HashMap<ObjectId, bool>>,
}

impl Tracing {
    pub(super) fn new(is_on: bool) -> Self {
        Self { is_on, ..Self::default() }
    }

    /// Whether the programs tell of each call, so that all blocks come to their heap.
    pub(super) fn is_on(&self) -> bool {
        self.is_on
    }

    /// Takes in what was told; of blocks, the heap is told at once.
    pub(super) fn take(&mut self, told: Told, frees: &mut Frees<'_>) {
        let told = match told {
            Told::Call(call) => Told::Call(TracedCall { is_of_unknown: !apply(&call, frees), ..call }),
            other => other,
        };
        if !self.is_over {
            self.waiting.push(told);
        }
    }
}

/// Says whether the block that it frees was known, if it frees one. Its time makes sure that a block stays which another thread was given
/// before this was told.
fn apply(call: &TracedCall, frees: &mut Frees<'_>) -> bool {
    let TracedCall { image, time, deed, resized, stack, .. } = *call;
    let freed_at = resized.map_or(time, |(_, since)| since);
    let is_known = deed.freed_block().is_none_or(|address| frees.free(image, address, freed_at));
    if let (Deed::Allocated { size, .. } | Deed::Resized { size, .. }, Some(address)) = (deed, deed.new_block()) {
        frees.allocate(image, Allocation { address, size, stack, time });
    }
    is_known
}

impl Recorder {
    /// From now on, calls are written as they happen. The programs must have been loaded for that.
    pub(in crate::session) fn begin_trace(&mut self, trace: &Trace, outputs: &Outputs) -> anyhow::Result<()> {
        let (style, writer) = outputs.for_trace(trace.output)?;
        let tracer = Tracer::begin(trace, style, now(), writer)?;
        self.tracing.tracer = Some(tracer);
        Ok(())
    }

    /// Whether nobody reads the trace any more.
    pub(in crate::session) fn trace_is_unread(&self) -> bool {
        self.tracing.tracer.as_ref().is_some_and(|tracer| tracer.reader() == Reader::Gone)
    }

    /// How long calls may wait before they are written; nothing if none are.
    pub(in crate::session) fn trace_period(&self) -> Option<Duration> {
        self.tracing.is_on().then_some(PERIOD)
    }

    /// Hands on what has been read. Where more is to be read first, calls of processes that are not known wait for that.
    pub(super) fn trace_calls(&mut self, is_all: bool) -> anyhow::Result<()> {
        let Some(mut tracer) = self.tracing.tracer.take() else { return Ok(()) };
        if tracer.wants_stacks() {
            self.unwind_copies(mapped_code::PATIENCE);
        }
        let mut waiting = std::mem::take(&mut self.tracing.waiting);
        let is_known = |told: &Told| self.process_of(told).is_some();
        let count = if is_all { waiting.len() } else { waiting.iter().take_while(|told| is_known(told)).count() };
        let wants_stacks = tracer.wants_stacks();
        let whence = |call: &TracedCall| self.whence(call, wants_stacks);
        let taken = tracer.take(now(), waiting.drain(..count), whence, |id| self.objects.get(id).cloned());
        (self.tracing.tracer, self.tracing.waiting) = (Some(tracer), waiting);
        taken
    }

    /// Ends the trace, with what its reader should know.
    pub(in crate::session) fn end_trace(&mut self, remarks: &[String]) -> anyhow::Result<()> {
        self.tracing.is_over = true;
        let Some(mut tracer) = self.tracing.tracer.take() else { return Ok(()) };
        let wants_stacks = tracer.wants_stacks();
        tracer.end(remarks, |call| self.whence(call, wants_stacks), |id| self.objects.get(id).cloned())
    }

    /// The process that a call was made in, or one that runs in its memory.
    fn process_of(&self, told: &Told) -> Option<&Observed> {
        let by_image = self.processes.iter().find(|process| process.image == told.image());
        by_image.or_else(|| self.processes.iter().find(|process| process.pid == told.thread().pid))
    }

    /// Nothing if the call is the allocator's own: what a thread leaves of freed blocks in its cache, glibc frees once more when it ends.
    fn whence(&self, call: &TracedCall, wants_stacks: bool) -> Option<Whence> {
        let raw = RawFrame { address: call.caller, place: None };
        let Some(process) = self.process_of(&Told::Call(*call)) else {
            return Some(Whence { caller: raw.into(), is_lasting: false, stack: None });
        };
        let raw = RawFrame { place: process.space.find_return_address(call.caller, call.time), ..raw };
        if call.is_of_unknown && raw.place.is_some_and(|(object, _)| self.is_library_of_allocator(object)) {
            return None;
        }
        let jit_function = process.jit.name(&raw, call.time, |id| self.objects.get(id));
        let allocates = call.deed.new_block().is_some();
        let stack = (wants_stacks && allocates).then(|| self.frames(process, self.stacks.name(call.stack)).0);
        Some(Whence { is_lasting: jit_function.is_none(), caller: ProfileFrame { raw, jit_function }, stack })
    }

    fn is_library_of_allocator(&self, object: ObjectId) -> bool {
        let is_allocator = self.plans.get(&object).is_some_and(|plan| !plan.sites.is_empty());
        is_allocator && *self.tracing.libraries.borrow_mut().entry(object).or_insert_with(|| self.is_library(object))
    }

    fn is_library(&self, object: ObjectId) -> bool {
        let file = self.objects.get(object).and_then(|object| object.file.clone());
        file.is_some_and(|file| elf::is_named_library(&file).unwrap_or(false))
    }
}
