//! What is outstanding in all and by stack, kept up to date with each event.

use hashbrown::HashMap;

use super::estimate::Estimate;
use crate::model::{Outstanding, StackId};

/// A running sum of live blocks, and what it was at the previous report.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sum {
    pub(super) estimate: Estimate,
    reported_bytes: u64,
}

impl Sum {
    /// What is in it.
    pub(super) fn outstanding(&self) -> Outstanding {
        self.estimate.outstanding()
    }

    /// Whether nothing is in it, nor was at the previous report.
    fn is_idle(&self) -> bool {
        self.estimate.is_nothing() && self.reported_bytes == 0
    }

    /// Takes everything out. Growth still counts from the previous report.
    pub(super) fn clear(&mut self) {
        self.estimate = Estimate::default();
    }

    /// Lets growth count from here on.
    pub(super) fn mark(&mut self) {
        self.reported_bytes = self.outstanding().bytes;
    }

    /// Change of the outstanding bytes since [`Sum::mark`].
    pub(super) fn growth_bytes(&self) -> i64 {
        self.outstanding().bytes.wrapping_sub(self.reported_bytes).cast_signed()
    }
}

/// The sum of one stack.
#[derive(Clone, Copy, Debug)]
pub(super) struct StackSum {
    pub(super) id: StackId,
    pub(super) sum: Sum,
}

/// The sums of all stacks, each of which has an index that fits in four bytes of a block.
#[derive(Debug, Default)]
pub(super) struct StackSums {
    sums: Vec<StackSum>,
    indices: HashMap<StackId, u32>,
    /// Indices of sums that are nobody's: nothing is in them.
    free: Vec<u32>,
}

impl StackSums {
    /// The index of a stack, which it keeps until it is forgotten.
    ///
    /// # Panics
    /// At 2^32 stacks.
    pub(super) fn index_of(&mut self, id: StackId) -> u32 {
        let Self { sums, indices, free } = self;
        *indices.entry(id).or_insert_with(|| {
            let fresh = StackSum { id, sum: Sum::default() };
            if let Some(index) = free.pop() {
                sums[index as usize] = fresh;
                return index;
            }
            sums.push(fresh);
            u32::try_from(sums.len() - 1).expect("fewer than 2^32 stacks")
        })
    }

    /// Forgets the stacks that have nothing, and no growth to tell of.
    pub(super) fn forget_idle(&mut self) {
        let Self { sums, indices, free } = self;
        indices.retain(|_, index| {
            let is_idle = sums[*index as usize].sum.is_idle();
            free.extend(is_idle.then_some(*index));
            !is_idle
        });
    }

    /// All stacks that have a sum.
    pub(super) fn ids(&self) -> impl Iterator<Item = StackId> {
        self.indices.keys().copied()
    }

    /// The sum of the stack with this index.
    pub(super) fn sum_mut(&mut self, index: u32) -> &mut Sum {
        &mut self.sums[index as usize].sum
    }

    /// All sums, by index; also those that are nobody's.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &StackSum> {
        self.sums.iter()
    }

    /// Takes everything out of each.
    pub(super) fn clear(&mut self) {
        self.sums.iter_mut().for_each(|stack| stack.sum.clear());
    }

    /// Lets the growth of each stack count from here on.
    pub(super) fn mark(&mut self) {
        self.sums.iter_mut().for_each(|stack| stack.sum.mark());
    }
}
