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
///
/// What it held at the peak is not copied when there is a new one, which may be at every drain, and for every stack: it is put
/// aside at the first change after that.
#[derive(Clone, Copy, Debug)]
pub(super) struct StackSum {
    pub(super) id: StackId,
    pub(super) sum: Sum,
    /// All blocks that came here, less those of which [`StackSums::take_back`] says that they do not count.
    pub(super) lasting: i64,
    /// What was put aside.
    at_peak: Estimate,
    /// At which peak. If that is not the last, nothing has changed since the last.
    peak: u64,
}

impl StackSum {
    fn new(id: StackId, peak: u64) -> Self {
        Self { id, sum: Sum::default(), lasting: 0, at_peak: Estimate::default(), peak }
    }

    /// What it held at the last of so many peaks.
    fn at_peak(&self, peaks: u64) -> Estimate {
        if self.peak == peaks { self.at_peak } else { self.sum.estimate }
    }

    fn put_aside(&mut self, peaks: u64) {
        if self.peak != peaks {
            self.at_peak = self.sum.estimate;
            self.peak = peaks;
        }
    }
}

/// The sums of all stacks, each of which has an index that fits in four bytes of a block.
#[derive(Debug, Default)]
pub(super) struct StackSums {
    sums: Vec<StackSum>,
    indices: HashMap<StackId, u32>,
    /// Indices of sums that are nobody's: nothing is in them.
    free: Vec<u32>,
    /// How many peaks there were.
    peaks: u64,
}

impl StackSums {
    /// The index of a stack, which it keeps until it is forgotten.
    ///
    /// # Panics
    /// At 2^32 stacks.
    pub(super) fn index_of(&mut self, id: StackId) -> u32 {
        let Self { sums, indices, free, peaks } = self;
        *indices.entry(id).or_insert_with(|| {
            let fresh = StackSum::new(id, *peaks);
            if let Some(index) = free.pop() {
                sums[index as usize] = fresh;
                return index;
            }
            sums.push(fresh);
            u32::try_from(sums.len() - 1).expect("fewer than 2^32 stacks")
        })
    }

    /// Forgets the stacks that have nothing, and neither growth nor a part of the peak to tell of: which, and how many
    /// lasting blocks came there.
    pub(super) fn forget_idle(&mut self) -> Vec<(StackId, i64)> {
        let Self { sums, indices, free, peaks } = self;
        let mut forgotten = Vec::new();
        indices.retain(|id, index| {
            let stack = &mut sums[*index as usize];
            let is_idle = stack.sum.is_idle() && stack.at_peak(*peaks).is_nothing();
            if is_idle {
                free.push(*index);
                forgotten.push((*id, std::mem::take(&mut stack.lasting)));
            }
            !is_idle
        });
        forgotten
    }

    /// All stacks that have a sum.
    pub(super) fn ids(&self) -> impl Iterator<Item = StackId> {
        self.indices.keys().copied()
    }

    /// To add a block that came to the stack with this index.
    pub(super) fn arrive(&mut self, index: u32) -> &mut Estimate {
        self.sums[index as usize].lasting += 1;
        self.change(index)
    }

    /// A block that came to this stack was freed by its thread before that allocated again.
    pub(super) fn take_back(&mut self, id: StackId) {
        let index = self.index_of(id);
        self.sums[index as usize].lasting -= 1;
    }

    /// To change what the stack with this index holds.
    pub(super) fn change(&mut self, index: u32) -> &mut Estimate {
        let stack = &mut self.sums[index as usize];
        stack.put_aside(self.peaks);
        &mut stack.sum.estimate
    }

    /// All sums, by index; also those that are nobody's.
    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &StackSum> {
        self.sums.iter()
    }

    /// What a stack held at the last peak; nothing before there was one.
    pub(super) fn at_peak(&self, stack: &StackSum) -> Estimate {
        stack.at_peak(self.peaks)
    }

    /// What is held now is the most so far.
    pub(super) fn begin_peak(&mut self) {
        self.peaks += 1;
    }

    /// Takes everything out of each.
    pub(super) fn clear(&mut self) {
        for stack in &mut self.sums {
            stack.put_aside(self.peaks);
            stack.sum.clear();
        }
    }

    /// Lets the growth of each stack count from here on.
    pub(super) fn mark(&mut self) {
        self.sums.iter_mut().for_each(|stack| stack.sum.mark());
    }
}
