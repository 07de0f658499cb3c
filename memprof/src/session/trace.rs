//! Traced calls on their way to the reader: put in order, named, written.

use std::{
    collections::HashMap,
    io::{self, Write},
    rc::Rc,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;

use super::{options::Trace, output::Reader, time_of_day::TimeOfDay};
use crate::{
    model::{Caller, Object, ObjectId, ProfileFrame, Timestamp, Told, TraceEvent, TracedCall},
    render::{self, Style},
    symbols::Symbolizer,
    trace::Order,
};

/// How long an event may wait before it is written.
pub(super) const PERIOD: Duration = Duration::from_millis(50);

/// So many bytes are written together.
const BLOCK_BYTES: usize = 1 << 16;

/// What is known of where a call came from, by the one who knows the processes.
pub(super) struct Whence {
    pub(super) caller: ProfileFrame,
    /// Whether the caller has that name all the time.
    pub(super) is_lasting: bool,
    pub(super) stack: Option<Vec<ProfileFrame>>,
}

/// A trace that is being written.
pub(super) struct Tracer {
    order: Order,
    trace: render::Trace,
    symbolizer: Symbolizer,
    /// By object and offset.
    callers: HashMap<(ObjectId, u64), Rc<Caller>>,
    wants_stacks: bool,
    started: Timestamp,
    time_of_day: TimeOfDay,
    writer: Box<dyn Write>,
    waiting: Vec<u8>,
    reader: Reader,
}

impl Tracer {
    /// Begins a trace. `now` is the moment on the programs' clock.
    pub(super) fn begin(trace: &Trace, style: &Style, now: Timestamp, writer: Box<dyn Write>) -> anyhow::Result<Self> {
        let mut tracer = Self {
            order: Order::default(),
            trace: render::Trace::new(trace.format, style),
            symbolizer: Symbolizer::apart(),
            callers: HashMap::new(),
            wants_stacks: trace.stacks,
            started: now,
            time_of_day: TimeOfDay::read(now),
            writer,
            waiting: Vec::new(),
            reader: Reader::Present,
        };
        tracer.trace.begin(&mut tracer.waiting)?;
        tracer.flush()?;
        Ok(tracer)
    }

    /// Whether whole stacks are told of.
    pub(super) fn wants_stacks(&self) -> bool {
        self.wants_stacks
    }

    /// Whether somebody still reads.
    pub(super) fn reader(&self) -> Reader {
        self.reader
    }

    /// Takes in what was told until `now`, and writes what can be said by then.
    pub(super) fn take(
        &mut self,
        now: Timestamp,
        told: impl IntoIterator<Item = Told>,
        whence: impl Fn(&TracedCall) -> Option<Whence>,
        object: impl Fn(ObjectId) -> Option<Arc<Object>>,
    ) -> anyhow::Result<()> {
        self.time_of_day.follow(now);
        let mut order = std::mem::take(&mut self.order);
        let written = told.into_iter().try_for_each(|told| {
            let mut written = Ok(());
            order.take(told, |call| {
                written = std::mem::replace(&mut written, Ok(())).and(self.call(&call, &whence, &object))
            });
            written
        });
        self.order = order;
        written.and_then(|()| self.flush())
    }

    /// Writes what is left, and what comes at the end.
    pub(super) fn end(
        &mut self,
        remarks: &[String],
        whence: impl Fn(&TracedCall) -> Option<Whence>,
        object: impl Fn(ObjectId) -> Option<Arc<Object>>,
    ) -> anyhow::Result<()> {
        let mut left = Vec::new();
        self.order.finish(|call| left.push(call));
        left.iter().try_for_each(|call| self.call(call, &whence, &object))?;
        self.trace.end(remarks, &mut self.waiting)?;
        self.flush()
    }

    fn call(
        &mut self,
        call: &TracedCall,
        whence: &impl Fn(&TracedCall) -> Option<Whence>,
        object: &impl Fn(ObjectId) -> Option<Arc<Object>>,
    ) -> anyhow::Result<()> {
        let Some(whence) = whence(call) else { return Ok(()) };
        let event = TraceEvent {
            time: self.time_of_day.of(call.time),
            elapsed: call.time.since(self.started),
            thread: call.thread,
            deed: call.deed,
            caller: self.caller(&whence, object),
            stack: whence.stack.map(|frames| self.symbolizer.name(frames, object)),
        };
        self.trace.event(&event, &mut self.waiting)?;
        if self.waiting.len() < BLOCK_BYTES { Ok(()) } else { self.flush() }
    }

    fn caller(&mut self, whence: &Whence, object: impl Fn(ObjectId) -> Option<Arc<Object>>) -> Rc<Caller> {
        let place = whence.caller.raw.place.filter(|_| whence.is_lasting);
        if let Some(known) = place.and_then(|place| self.callers.get(&place)) {
            return Rc::clone(known);
        }
        let caller = Rc::new(self.symbolizer.caller(&whence.caller, object));
        if let Some(place) = place {
            self.callers.insert(place, Rc::clone(&caller));
        }
        caller
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        if self.reader == Reader::Gone || waiting.is_empty() {
            return Ok(());
        }
        match self.writer.write_all(&waiting).and_then(|()| self.writer.flush()) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => self.reader = Reader::Gone,
            written => written.context("cannot write the trace")?,
        }
        self.waiting = waiting;
        self.waiting.clear();
        Ok(())
    }
}
