//! The live table: which blocks of one image are outstanding, and what each stack holds. Pure: no I/O, and time comes
//! in with the events.
//!
//! Where only some blocks are taken, sums are estimates (`estimate.rs`).
//!
//! Sums are modulo 2^64, so that no size that a target makes up can stop the profiler: what is added is taken away
//! again to the unit.

mod block_groups;
mod blocks;
mod chunks;
mod estimate;
mod index;
#[cfg(test)]
mod model_test;
#[cfg(test)]
mod sampling_test;
mod select;
mod sums;
#[cfg(test)]
mod tests;

use blocks::{Block, Blocks};
use estimate::Weighed;
use sums::{StackSums, Sum};

use crate::model::{Allocation, Free, Outstanding, Sampling, StackId, StandardError, Timestamp, Totals};

pub use select::SelectedStacks;

/// When most was outstanding.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HeapPeak {
    /// What was.
    pub outstanding: Outstanding,
    /// At which [`Heap::settle`].
    pub time: Timestamp,
}

/// The heap of one image ([`crate::model::ImageId`]).
///
/// Apply a drained batch of allocations first, then the frees that were read after it, then call
/// [`Heap::settle`]. It takes at most 48 bytes for each live block, however many came and went, besides what it keeps
/// of each distinct stack that holds something.
#[derive(Debug, Default)]
pub struct Heap {
    sampling: Sampling,
    blocks: Blocks,
    stacks: StackSums,
    all: Sum,
    freed: Totals,
    peak: HeapPeak,
}

impl Heap {
    /// An empty heap.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty heap, of which some blocks are taken only.
    pub fn sampled(sampling: Sampling) -> Self {
        Self { sampling, ..Self::default() }
    }

    /// Forgets all blocks, which are going to be told anew: neither growth nor peak ends here.
    pub fn begin_again(&mut self) {
        self.blocks = Blocks::default();
        self.all.clear();
        self.stacks.clear();
    }

    /// Drops what it keeps of stacks that hold nothing, and held nothing when growth began to be counted, or at the peak. Returns
    /// how many lasting blocks came to each.
    pub fn forget_idle_stacks(&mut self) -> Vec<(StackId, i64)> {
        self.stacks.forget_idle()
    }

    /// Takes in a block that was allocated and had not been freed when the kernel side let go of it.
    ///
    /// A pointer that is handed out again was freed, whether or not anybody saw it: of two allocations of one address
    /// the one that came earlier counts as freed, in whichever order they arrive.
    pub fn allocate(&mut self, allocation: Allocation) {
        match self.blocks.get_mut(allocation.address) {
            Some(block) if block.time > allocation.time.0 => {
                let stack = self.stacks.index_of(allocation.stack);
                self.stacks.arrive(stack);
                count_free(&mut self.freed, allocation.size);
            }
            Some(block) => {
                let fresh = Block::new(&allocation, self.stacks.index_of(allocation.stack));
                let replaced = std::mem::replace(block, fresh);
                self.count_release(replaced);
                self.count_allocation(fresh);
            }
            None => {
                let fresh = Block::new(&allocation, self.stacks.index_of(allocation.stack));
                self.blocks.insert(fresh);
                self.count_allocation(fresh);
            }
        }
    }

    /// Removes the block at `address` if it was allocated before `time`; a block of that time or later was handed out
    /// after this free. Returns whether a block was removed: `false` for a pointer that is not known.
    pub fn free(&mut self, address: u64, time: Timestamp) -> bool {
        self.release(address, time).is_some()
    }

    /// Applies frees as [`Self::free`] does, in less time where there are millions of blocks, and takes in which blocks were not lasting.
    /// Some tens of them at a time are best.
    pub fn free_all(&mut self, frees: &[Free]) {
        self.blocks.prefetch(frees.iter().map(|free| free.address));
        for free in frees {
            let released = self.release(free.address, free.time);
            // It may have been replaced before: then it came here, too. Another block there was another thread's.
            if let Some(newest) = free.newest
                && released.is_none_or(|block| block.time == newest.time.0)
            {
                self.stacks.take_back(newest.stack);
            }
        }
    }

    /// Tells that a drained batch and the frees that go with it have been applied. Only then is what is outstanding the
    /// truth of one moment, and counts for the peak: halfway, freed blocks are still in.
    pub fn settle(&mut self, time: Timestamp) {
        let outstanding = self.all.outstanding();
        if outstanding.bytes > self.peak.outstanding.bytes {
            self.peak = HeapPeak { outstanding, time };
            self.stacks.begin_peak();
        }
    }

    /// Starts a new interval: growth is counted from here on.
    pub fn mark_reported(&mut self) {
        self.all.mark();
        self.stacks.mark();
    }

    /// What is outstanding.
    pub fn outstanding(&self) -> Outstanding {
        self.all.outstanding()
    }

    /// Of [`Self::outstanding`].
    pub fn standard_error(&self) -> StandardError {
        self.all.estimate.standard_error()
    }

    /// What each stack holds that holds something, in the order in which the stacks were first seen.
    pub fn outstanding_by_stack(&self) -> impl Iterator<Item = (StackId, Outstanding)> {
        let holding = self.stacks.iter().filter(|stack| !stack.sum.estimate.is_nothing());
        holding.map(|stack| (stack.id, stack.sum.outstanding()))
    }

    /// The stacks of which it keeps something, be it that they hold nothing any more.
    pub fn stacks(&self) -> impl Iterator<Item = StackId> {
        self.stacks.ids()
    }

    /// Change of the outstanding bytes since [`Heap::mark_reported`], or since the start.
    pub fn growth_bytes(&self) -> i64 {
        self.all.growth_bytes()
    }

    /// The most that was outstanding at any [`Heap::settle`].
    pub fn peak(&self) -> HeapPeak {
        self.peak
    }

    /// How many blocks came to each stack that were not freed by their thread before that allocated again. While sampling, a block comes
    /// at each drain.
    pub fn lasting(&self) -> impl Iterator<Item = (StackId, i64)> {
        self.stacks.iter().map(|stack| (stack.id, stack.lasting))
    }

    /// The frees that were applied here. The allocations, and the frees of blocks that never got here, are counted by
    /// the kernel side: those fields are zero, so that the two can be added.
    pub fn freed(&self) -> Totals {
        self.freed
    }

    fn release(&mut self, address: u64, time: Timestamp) -> Option<Block> {
        let removed = self.blocks.remove_if(address, |block| block.time < time.0)?;
        self.count_release(removed);
        Some(removed)
    }

    fn weigh(&self, size: u64) -> Weighed {
        Weighed { size, weight: self.sampling.weight(size) }
    }

    fn count_allocation(&mut self, block: Block) {
        let weighed = self.weigh(block.size);
        self.all.estimate.add(weighed);
        self.stacks.arrive(block.stack).add(weighed);
    }

    fn count_release(&mut self, block: Block) {
        let weighed = self.weigh(block.size);
        self.all.estimate.remove(weighed);
        self.stacks.change(block.stack).remove(weighed);
        count_free(&mut self.freed, block.size);
    }
}

fn count_free(freed: &mut Totals, bytes: u64) {
    freed.frees += 1;
    freed.freed_bytes = freed.freed_bytes.wrapping_add(bytes);
}
