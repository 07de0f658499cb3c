//! The order of calls.
//!
//! The kernel side tells of a free before the block is free, and of an allocation before its caller has the block; so what it tells is
//! in order, but for one case. A function that resizes is told of when it returns, and its old block may have been another thread's
//! by then. That thread's call is held back, with all that follows, until the other one has been told of: at the latest then it had
//! happened. The new block is no trouble: it was free before the old one was.
//!
//! Nested calls are one. The kernel side sees to that where something is allocated; of frees, the inner one is left out here: it is
//! of the same block and thread as the event before it, or as the resizing that is under way.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use crate::model::{Deed, ImageId, ThreadId, Timestamp, Told, TracedCall};

/// A call that resizes and has not returned after that time never will.
const PATIENCE: Duration = Duration::from_secs(1);

/// No more is held back.
const MOST_HELD: usize = 1 << 16;

/// So many threads are remembered by what they freed last.
const MOST_THREADS: usize = 1 << 14;

/// A block of an image.
type Block = (ImageId, u64);

/// Puts calls in order.
#[derive(Debug, Default)]
pub struct Order {
    /// Blocks that are being resized, by whom, and since when.
    resizing: HashMap<Block, (ThreadId, Timestamp)>,
    /// The block of which it has to be known first what has become of it.
    awaited: Option<Block>,
    held: VecDeque<Told>,
    /// What each thread's last call has freed, and by which function, if that was what it did.
    freed: HashMap<ThreadId, (u64, u32)>,
}

impl Order {
    /// Takes in what was told next, and passes on what can be said to have happened by now.
    pub fn take(&mut self, told: Told, mut pass_on: impl FnMut(TracedCall)) {
        let Some(awaited) = self.awaited else { return self.settle(told, &mut pass_on) };
        if self.is_about(awaited, &told) {
            self.held.push_front(told);
        } else {
            let now = told.time();
            self.held.push_back(told);
            let since = self.resizing.get(&awaited).map_or(now, |(_, since)| *since);
            if now.since(since) < PATIENCE && self.held.len() < MOST_HELD {
                return;
            }
            self.resizing.remove(&awaited);
        }
        self.awaited = None;
        self.release(&mut pass_on);
    }

    /// Passes on all that is held back: nothing more will be told.
    pub fn finish(&mut self, mut pass_on: impl FnMut(TracedCall)) {
        while let Some(awaited) = self.awaited.take() {
            self.resizing.remove(&awaited);
            self.release(&mut pass_on);
        }
    }

    fn release(&mut self, pass_on: &mut impl FnMut(TracedCall)) {
        while self.awaited.is_none()
            && let Some(told) = self.held.pop_front()
        {
            self.settle(told, pass_on);
            self.look_among_held();
        }
    }

    /// What is awaited may have come while something else was.
    fn look_among_held(&mut self) {
        let Some(awaited) = self.awaited else { return };
        let place = self.held.iter().position(|told| self.is_about(awaited, told));
        if let Some(told) = place.and_then(|place| self.held.remove(place)) {
            self.held.push_front(told);
            self.awaited = None;
        }
    }

    fn settle(&mut self, told: Told, pass_on: &mut impl FnMut(TracedCall)) {
        match told {
            Told::Resizing { image, thread, address, time } => {
                self.resizing.insert((image, address), (thread, time));
            }
            Told::Call(call) => {
                self.awaited = self.awaited_by(&call);
                if self.awaited.is_some() {
                    self.held.push_front(told);
                } else if !self.is_nested(&call) {
                    if let Some((address, _)) = call.resized {
                        self.resizing.remove(&(call.image, address));
                    }
                    pass_on(call);
                }
            }
        }
    }

    /// The block that another thread is resizing, whose place this call was given.
    fn awaited_by(&self, call: &TracedCall) -> Option<Block> {
        let block = (call.image, call.deed.new_block()?);
        self.resizing.get(&block).filter(|(thread, _)| *thread != call.thread).map(|_| block)
    }

    /// Whether it is the end of what is being done to a block.
    fn is_about(&self, (image, address): Block, told: &Told) -> bool {
        let Told::Call(call) = told else { return false };
        let is_the_one = call.image == image && call.resized.is_some_and(|(block, _)| block == address);
        is_the_one && self.resizing.get(&(image, address)).is_some_and(|(thread, _)| *thread == call.thread)
    }

    /// Whether it is a free that is part of another call.
    fn is_nested(&mut self, call: &TracedCall) -> bool {
        let last = self.freed.remove(&call.thread);
        let (Deed::Freed { address }, None) = (call.deed, call.resized) else { return false };
        if self.freed.len() >= MOST_THREADS {
            self.freed.clear();
        }
        // Twice by the same function is a mistake of the program, which is to be seen.
        let is_inner = last.is_some_and(|(block, function)| block == address && function != call.function);
        self.freed.insert(call.thread, (address, call.function));
        let resizing = self.resizing.get(&(call.image, address));
        is_inner || resizing.is_some_and(|(thread, _)| *thread == call.thread)
    }
}
