//! What is done when the kernel side's table of stacks fills up. A program can have any number of stacks, and most are soon of no
//! use: nothing is held there any more. So the programs are made to forget all that they know. Stacks that are in use are told
//! anew; of the others those stay that hold blocks.

use std::collections::HashSet;

use super::Recorder;
use crate::{
    heap::Heap,
    model::{StackCounts, StackId},
};

impl Recorder {
    /// Takes the counts of all stacks out of the kernel side's table if it fills up. What the rest of a drain brings is enough to
    /// know whether a stack is held: all blocks that were allocated before have left the nursery by then.
    pub(super) fn take_stack_totals(&mut self) -> anyhow::Result<Option<Vec<(StackId, StackCounts)>>> {
        if !self.kernel.stacks_are_filling() {
            return Ok(None);
        }
        self.stacks.begin_turn();
        let mut totals = Vec::new();
        self.kernel.take_stack_totals(|stack, counts| totals.push((stack, counts)))?;
        Ok(Some(totals))
    }

    /// Keeps these counts, if the kernel side's table fills up, and only those stacks that hold something, have growth or a peak to tell
    /// of, were told since it did, or are among the busiest.
    pub(super) fn forget_idle_stacks(&mut self, totals: Vec<(StackId, StackCounts)>) {
        let (all, known) = (totals.len(), self.stacks.len());
        totals.into_iter().for_each(|(stack, counts)| self.stacks.count(stack, counts));
        if self.growth.is_some() {
            // Whatever has touched memory is reported.
            return;
        }
        for (stack, lasting) in self.heaps.values_mut().flat_map(Heap::forget_idle_stacks) {
            self.stacks.count(stack, StackCounts { lasting, ..StackCounts::default() });
        }
        let held = self.heaps.values().flat_map(Heap::stacks);
        self.stacks.forget_idle(&held.collect::<HashSet<_>>());
        log::debug!("stacks taken out of the kernel: {all}; of {known} that are known, {} are kept", self.stacks.len());
    }
}
