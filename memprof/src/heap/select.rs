//! From the live table to the stacks that are shown.
//!
//! One pass over the blocks sums up what is selected, by stack; the stacks are put in order and cut; a second pass
//! picks up the ages of the blocks of the stacks that are left, and the blocks if they are to be listed. So a report
//! costs time in proportion to the live blocks, whatever the number of stacks, and memory only for what it shows.

use std::{cmp::Reverse, collections::HashMap, time::Duration};

use super::{
    Heap,
    blocks::Block,
    estimate::{Estimate, Weighed},
};
use crate::model::{
    Ages, LiveAllocation, Selection, Sort, StackId, StackSnapshot, Timestamp, Trend, Truncation, WEIGHT_OF_ONE,
};

/// The outcome of a [`Selection`].
#[derive(Clone, Debug, PartialEq)]
pub struct SelectedStacks<F> {
    /// The first of the selected stacks, in the order asked for.
    pub shown: Vec<StackSnapshot<F>>,
    /// How many stacks were selected, shown or not.
    pub selected: usize,
}

/// What a stack holds, of the blocks selected.
#[derive(Clone, Copy)]
struct Holding {
    /// Among all holdings.
    index: usize,
    id: StackId,
    growth_bytes: i64,
    estimate: Estimate,
    oldest: Duration,
}

impl Holding {
    fn add(&mut self, block: Weighed, age: Duration) {
        self.estimate.add(block);
        self.oldest = self.oldest.max(age);
    }

    /// Greatest first.
    fn rank(&self, sort: Sort) -> i128 {
        match sort {
            Sort::Bytes => self.estimate.outstanding().bytes.into(),
            Sort::Allocations => self.estimate.outstanding().allocations.into(),
            Sort::Age => self.oldest.as_nanos().cast_signed(),
            Sort::Growth => self.growth_bytes.into(),
        }
    }
}

impl Heap {
    /// The stacks that hold blocks which the selection admits at the time `now`, sorted and cut as it says. Of stacks
    /// of equal rank the one with more bytes comes first, then the one with the lower id.
    ///
    /// Stacks with the same `name` are one. `total_allocations` tells how many allocations a stack has made, freed
    /// since or not; `frames` tells its frames, and why some may be missing; it is asked only for the stacks that are
    /// shown.
    pub fn select<F>(
        &self,
        selection: &Selection,
        now: Timestamp,
        name: impl Fn(StackId) -> StackId,
        total_allocations: impl Fn(StackId) -> u64,
        mut frames: impl FnMut(StackId) -> (Vec<F>, Option<Truncation>),
    ) -> SelectedStacks<F> {
        let groups = Groups::new(self.stacks.iter().map(|stack| name(stack.id)));
        let mut holdings = self.holdings(&groups, selection, now);
        let selected = holdings.len();
        sort_and_cut(&mut holdings, selection);
        let mut listed = self.list(&holdings, &groups, selection, now);
        let shown = holdings
            .iter()
            .zip(&mut listed)
            .map(|(holding, listed)| {
                let (frames, truncated) = frames(holding.id);
                StackSnapshot {
                    id: holding.id,
                    outstanding: holding.estimate.outstanding(),
                    standard_error: holding.estimate.standard_error(),
                    scaled: None,
                    growth_bytes: holding.growth_bytes,
                    total_allocations: total_allocations(holding.id),
                    ages: listed.ages(holding.oldest),
                    trend: Trend::NONE,
                    frames,
                    truncated,
                    allocations: std::mem::take(&mut listed.allocations),
                }
            })
            .collect();
        SelectedStacks { shown, selected }
    }

    /// The blocks that the selection admits: the stack of each, the bytes and blocks that it stands for, and its time.
    pub fn observed<'a>(
        &'a self,
        selection: &'a Selection,
        now: Timestamp,
    ) -> impl Iterator<Item = (StackId, f64, f64, Timestamp)> + 'a {
        let stacks: Vec<_> = self.stacks.iter().map(|stack| stack.id).collect();
        self.admitted(selection, now).map(move |(block, _)| {
            let blocks = self.weigh(block.size).weight as f64 / WEIGHT_OF_ONE as f64;
            (stacks[block.stack as usize], blocks * block.size as f64, blocks, Timestamp(block.time))
        })
    }

    /// What each stack holds, for those that hold something.
    fn holdings(&self, groups: &Groups, selection: &Selection, now: Timestamp) -> Vec<Holding> {
        let mut holdings: Vec<_> = groups.names.iter().enumerate().map(Holding::from).collect();
        for (stack, group) in self.stacks.iter().zip(&groups.of_stack) {
            holdings[*group].growth_bytes += stack.sum.growth_bytes();
        }
        for (block, age) in self.admitted(selection, now) {
            holdings[groups.of_stack[block.stack as usize]].add(self.weigh(block.size), age);
        }
        holdings.retain(|holding| !holding.estimate.is_nothing());
        holdings
    }

    /// The ages of the blocks of each of these stacks, and if the selection asks for them, the blocks, oldest first.
    fn list(&self, holdings: &[Holding], groups: &Groups, selection: &Selection, now: Timestamp) -> Vec<Listed> {
        let mut lists: Vec<Listed> = holdings.iter().map(|_| Listed::default()).collect();
        let mut place_of_group = vec![None; groups.names.len()];
        holdings.iter().enumerate().for_each(|(place, holding)| place_of_group[holding.index] = Some(place));
        for (block, age) in self.admitted(selection, now) {
            if let Some(place) = place_of_group[groups.of_stack[block.stack as usize]] {
                lists[place].add(block, age, selection.show_allocations);
            }
        }
        let lists_of_blocks = lists.iter_mut().map(|list| &mut list.allocations);
        lists_of_blocks.for_each(|list| list.sort_unstable_by_key(|block| (Reverse(block.age), block.address)));
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

impl From<(usize, &StackId)> for Holding {
    /// Nothing yet of the stacks with this name.
    fn from((index, id): (usize, &StackId)) -> Self {
        Self { index, id: *id, growth_bytes: 0, estimate: Estimate::default(), oldest: Duration::ZERO }
    }
}

/// What is told of the blocks of a stack that is shown.
#[derive(Default)]
struct Listed {
    youngest: Option<Duration>,
    /// In seconds: four bytes for each block are enough.
    ages: Vec<f32>,
    allocations: Vec<LiveAllocation>,
}

impl Listed {
    fn add(&mut self, block: &Block, age: Duration, with_allocation: bool) {
        self.youngest = Some(self.youngest.map_or(age, |youngest| youngest.min(age)));
        self.ages.push(age.as_secs_f32());
        if with_allocation {
            self.allocations.push(LiveAllocation { address: block.address, size: block.size, age });
        }
    }

    fn ages(&mut self, oldest: Duration) -> Ages {
        let middle = self.ages.len() / 2;
        let youngest = self.youngest.unwrap_or_default();
        let median = (middle < self.ages.len()).then(|| *self.ages.select_nth_unstable_by(middle, f32::total_cmp).1);
        let median = median.map(Duration::from_secs_f32).unwrap_or_default();
        Ages { youngest, median: median.clamp(youngest, oldest), oldest }
    }
}

/// Stacks by name.
struct Groups {
    /// The group of each stack, in the order of the heap's sums.
    of_stack: Vec<usize>,
    /// The name of each group.
    names: Vec<StackId>,
}

impl Groups {
    fn new(names_of_stacks: impl Iterator<Item = StackId>) -> Self {
        let mut names = Vec::new();
        let mut known = HashMap::new();
        let group = |name| {
            *known.entry(name).or_insert_with(|| {
                names.push(name);
                names.len() - 1
            })
        };
        let of_stack = names_of_stacks.map(group).collect();
        Self { of_stack, names }
    }
}

fn sort_and_cut(holdings: &mut Vec<Holding>, selection: &Selection) {
    holdings.sort_unstable_by_key(|holding| {
        (Reverse(holding.rank(selection.sort)), Reverse(holding.estimate.outstanding().bytes), holding.id)
    });
    holdings.truncate(selection.top.unwrap_or(usize::MAX));
}
