//! From the live table to the stacks that are shown.
//!
//! One pass over the blocks sums up what is selected, by stack; the stacks are put in order and cut; if blocks are to
//! be listed, a second pass picks up those of the stacks that are left. So a report costs time in proportion to the
//! live blocks, whatever the number of stacks, and memory only for what it shows.

use std::{cmp::Reverse, time::Duration};

use super::{Heap, blocks::Block};
use crate::model::{LiveAllocation, Outstanding, RawFrame, Selection, Sort, StackId, StackSnapshot, Timestamp, Truncation};

/// The outcome of a [`Selection`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelectedStacks {
    /// The first of the selected stacks, in the order asked for.
    pub shown: Vec<StackSnapshot<RawFrame>>,
    /// How many stacks were selected, shown or not.
    pub selected: usize,
}

/// What a stack holds, of the blocks selected.
#[derive(Clone, Copy)]
struct Holding {
    /// Of the stack, in the heap's sums.
    index: usize,
    id: StackId,
    growth_bytes: i64,
    outstanding: Outstanding,
    oldest: Duration,
}

impl Holding {
    fn add(&mut self, size: u64, age: Duration) {
        self.outstanding.bytes = self.outstanding.bytes.wrapping_add(size);
        self.outstanding.allocations += 1;
        self.oldest = self.oldest.max(age);
    }

    /// Greatest first.
    fn rank(&self, sort: Sort) -> i128 {
        match sort {
            Sort::Bytes => self.outstanding.bytes.into(),
            Sort::Allocations => self.outstanding.allocations.into(),
            Sort::Age => self.oldest.as_nanos().cast_signed(),
            Sort::Growth => self.growth_bytes.into(),
        }
    }
}

impl Heap {
    /// The stacks that hold blocks which the selection admits at the time `now`, sorted and cut as it says. Of stacks
    /// of equal rank the one with more bytes comes first, then the one with the lower id.
    ///
    /// `total_allocations` tells how many allocations a stack has made, freed since or not; `frames` tells its frames,
    /// and why some may be missing; it is asked only for the stacks that are shown.
    pub fn select(
        &self,
        selection: &Selection,
        now: Timestamp,
        total_allocations: impl Fn(StackId) -> u64,
        mut frames: impl FnMut(StackId) -> (Vec<RawFrame>, Option<Truncation>),
    ) -> SelectedStacks {
        let mut holdings = self.holdings(selection, now);
        let selected = holdings.len();
        sort_and_cut(&mut holdings, selection);
        let mut listed = self.list(&holdings, selection, now);
        let shown = holdings
            .iter()
            .zip(&mut listed)
            .map(|(holding, allocations)| {
                let (frames, truncated) = frames(holding.id);
                StackSnapshot {
                    id: holding.id,
                    outstanding: holding.outstanding,
                    growth_bytes: holding.growth_bytes,
                    total_allocations: total_allocations(holding.id),
                    oldest: holding.oldest,
                    frames,
                    truncated,
                    allocations: std::mem::take(allocations),
                }
            })
            .collect();
        SelectedStacks { shown, selected }
    }

    /// What each stack holds, for those that hold something.
    fn holdings(&self, selection: &Selection, now: Timestamp) -> Vec<Holding> {
        let mut holdings: Vec<_> = self.stacks.iter().enumerate().map(Holding::from).collect();
        for (block, age) in self.admitted(selection, now) {
            holdings[block.stack as usize].add(block.size, age);
        }
        holdings.retain(|holding| holding.outstanding.allocations > 0);
        holdings
    }

    /// The blocks of each of these stacks, oldest first, if the selection asks for them; otherwise none of each.
    fn list(&self, holdings: &[Holding], selection: &Selection, now: Timestamp) -> Vec<Vec<LiveAllocation>> {
        let mut lists = vec![Vec::new(); holdings.len()];
        if !selection.show_allocations {
            return lists;
        }
        let mut place_of_stack = vec![None; self.stacks.iter().len()];
        holdings.iter().enumerate().for_each(|(place, holding)| place_of_stack[holding.index] = Some(place));
        for (block, age) in self.admitted(selection, now) {
            if let Some(place) = place_of_stack[block.stack as usize] {
                lists[place].push(LiveAllocation { address: block.address, size: block.size, age });
            }
        }
        lists.iter_mut().for_each(|list| list.sort_unstable_by_key(|block| (Reverse(block.age), block.address)));
        lists
    }

    /// The blocks that the selection admits, with their ages.
    fn admitted(&self, selection: &Selection, now: Timestamp) -> impl Iterator<Item = (&Block, Duration)> {
        self.blocks
            .iter()
            .map(move |block| (block, now.since(Timestamp(block.time))))
            .filter(|(block, age)| selection.admits(block.size, *age))
    }
}

impl From<(usize, &super::sums::StackSum)> for Holding {
    /// Nothing yet of the stack with this index.
    fn from((index, stack): (usize, &super::sums::StackSum)) -> Self {
        Self {
            index,
            id: stack.id,
            growth_bytes: stack.sum.growth_bytes(),
            outstanding: Outstanding::default(),
            oldest: Duration::ZERO,
        }
    }
}

fn sort_and_cut(holdings: &mut Vec<Holding>, selection: &Selection) {
    holdings.sort_unstable_by_key(|holding| {
        (Reverse(holding.rank(selection.sort)), Reverse(holding.outstanding.bytes), holding.id)
    });
    holdings.truncate(selection.top.unwrap_or(usize::MAX));
}
