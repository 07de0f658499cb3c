//! From the live table to the stacks that are shown.
//!
//! One pass over the blocks sums up what is selected, by stack; the stacks are put in order and cut; a second pass
//! picks up the ages of the blocks of the stacks that are left, and the blocks if they are to be listed. So a report
//! costs time in proportion to the live blocks, whatever the number of stacks, and memory only for what it shows.

use std::{cmp::Reverse, collections::HashMap, time::Duration};

use super::{
    Heap,
    block_groups::BlockGroups,
    blocks::Block,
    estimate::{Estimate, Weighed},
};
use crate::model::{
    Ages, LiveAllocation, Moment, Selection, Sort, StackId, StackSnapshot, StackTotals, Timestamp, Trend, Truncation,
    WEIGHT_OF_ONE,
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
    at_peak: Estimate,
    totals: StackTotals,
    oldest: Duration,
}

impl Holding {
    fn add(&mut self, block: Weighed, age: Duration) {
        self.estimate.add(block);
        self.oldest = self.oldest.max(age);
    }

    /// What it holds at the moment that is shown.
    fn shown(&self, moment: Moment) -> Estimate {
        match moment {
            Moment::Now => self.estimate,
            Moment::Peak => self.at_peak,
        }
    }

    fn is_selected(&self, selection: &Selection) -> bool {
        let holds_something = !self.shown(selection.moment).is_nothing();
        let has_held_something = self.totals.allocations > 0 || !self.at_peak.is_nothing();
        holds_something || selection.shows_idle_stacks() && has_held_something
    }

    /// Greatest first.
    fn rank(&self, selection: &Selection) -> i128 {
        let shown = self.shown(selection.moment).outstanding();
        match selection.sort {
            Sort::Bytes => shown.bytes.into(),
            Sort::Allocations => shown.allocations.into(),
            Sort::Age => self.oldest.as_nanos().cast_signed(),
            Sort::Growth => self.growth_bytes.into(),
            Sort::Churn => self.totals.allocations.into(),
            Sort::Temporary => self.totals.temporary.unwrap_or_default().into(),
            Sort::Peak => self.at_peak.outstanding().bytes.into(),
        }
    }
}

impl Heap {
    /// The stacks that hold blocks which the selection admits at the time `now`, sorted and cut as it says; where it shows
    /// [idle stacks](Selection::shows_idle_stacks), those that hold nothing too. Of stacks of equal rank the one with more bytes
    /// comes first, then the one with the lower id.
    ///
    /// Stacks with the same `name` are one. `totals` has what each stack has allocated, freed since or not, by that name; `frames`
    /// tells its frames, and why some may be missing; it is asked only for the stacks that are shown.
    pub fn select<F>(
        &self,
        selection: &Selection,
        now: Timestamp,
        name: impl Fn(StackId) -> StackId,
        totals: &HashMap<StackId, StackTotals>,
        mut frames: impl FnMut(StackId) -> (Vec<F>, Option<Truncation>),
    ) -> SelectedStacks<F> {
        let mut groups = Groups::new(self.stacks.iter().map(|stack| name(stack.id)));
        if selection.shows_idle_stacks() {
            groups.extend(totals.keys().copied());
        }
        let mut holdings = self.holdings(&groups, selection, now, totals);
        let selected = holdings.len();
        sort_and_cut(&mut holdings, selection);
        let listed = self.list(&holdings, &groups, selection, now);
        let shown = holdings.iter().zip(listed).map(|(holding, listed)| {
            let (frames, truncated) = frames(holding.id);
            snapshot(holding, listed, selection.moment, frames, truncated)
        });
        SelectedStacks { shown: shown.collect(), selected }
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

    /// What each stack holds, for those that are selected.
    fn holdings(
        &self,
        groups: &Groups,
        selection: &Selection,
        now: Timestamp,
        totals: &HashMap<StackId, StackTotals>,
    ) -> Vec<Holding> {
        let nothing = |(index, id): (usize, &StackId)| Holding {
            index,
            id: *id,
            growth_bytes: 0,
            estimate: Estimate::default(),
            at_peak: Estimate::default(),
            totals: totals.get(id).copied().unwrap_or_default(),
            oldest: Duration::ZERO,
        };
        let mut holdings: Vec<_> = groups.names.iter().enumerate().map(nothing).collect();
        for (stack, group) in self.stacks.iter().zip(&groups.of_stack) {
            let holding = &mut holdings[*group];
            holding.growth_bytes += stack.sum.growth_bytes();
            holding.at_peak.merge(&self.stacks.at_peak(stack));
        }
        for (block, age) in self.admitted(selection, now) {
            holdings[groups.of_stack[block.stack as usize]].add(self.weigh(block.size), age);
        }
        holdings.retain(|holding| holding.is_selected(selection));
        holdings
    }

    /// The ages of the blocks of each of these stacks, and if the selection asks for them, the blocks, oldest first, and their
    /// groups.
    fn list(&self, holdings: &[Holding], groups: &Groups, selection: &Selection, now: Timestamp) -> Vec<Listed> {
        let mut lists: Vec<Listed> = holdings.iter().map(|_| Listed::default()).collect();
        let mut place_of_group = vec![None; groups.names.len()];
        for (place, holding) in holdings.iter().enumerate() {
            place_of_group[holding.index] = Some(place);
        }
        for (block, age) in self.admitted(selection, now) {
            if let Some(place) = place_of_group[groups.of_stack[block.stack as usize]] {
                lists[place].add(block, age, selection);
                if selection.show_groups {
                    lists[place].groups.add(self.weigh(block.size), age);
                }
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

fn snapshot<F>(
    holding: &Holding,
    mut listed: Listed,
    moment: Moment,
    frames: Vec<F>,
    truncated: Option<Truncation>,
) -> StackSnapshot<F> {
    let shown = holding.shown(moment);
    StackSnapshot {
        id: holding.id,
        outstanding: shown.outstanding(),
        standard_error: shown.standard_error(),
        scaled: None,
        growth_bytes: holding.growth_bytes,
        totals: holding.totals,
        at_peak: holding.at_peak.outstanding(),
        ages: listed.ages(holding.oldest),
        trend: Trend::NONE,
        frames,
        truncated,
        allocations: listed.allocations,
        groups: listed.groups.into_groups(),
    }
}

/// What is told of the blocks of a stack that is shown.
#[derive(Default)]
struct Listed {
    youngest: Option<Duration>,
    /// In seconds: four bytes for each block are enough.
    ages: Vec<f32>,
    allocations: Vec<LiveAllocation>,
    groups: BlockGroups,
}

impl Listed {
    fn add(&mut self, block: &Block, age: Duration, selection: &Selection) {
        self.youngest = Some(self.youngest.map_or(age, |youngest| youngest.min(age)));
        self.ages.push(age.as_secs_f32());
        if selection.show_allocations {
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
#[derive(Default)]
struct Groups {
    /// The group of each stack, in the order of the heap's sums.
    of_stack: Vec<usize>,
    /// The name of each group.
    names: Vec<StackId>,
    /// By name.
    known: HashMap<StackId, usize>,
}

impl Groups {
    fn new(names_of_stacks: impl Iterator<Item = StackId>) -> Self {
        let mut groups = Self::default();
        groups.of_stack = names_of_stacks.map(|name| groups.group(name)).collect();
        groups
    }

    /// Adds groups that no sum belongs to, where they are not known.
    fn extend(&mut self, names: impl Iterator<Item = StackId>) {
        names.for_each(|name| {
            self.group(name);
        });
    }

    fn group(&mut self, name: StackId) -> usize {
        *self.known.entry(name).or_insert_with(|| {
            self.names.push(name);
            self.names.len() - 1
        })
    }
}

fn sort_and_cut(holdings: &mut Vec<Holding>, selection: &Selection) {
    holdings.sort_unstable_by_key(|holding| {
        (Reverse(holding.rank(selection)), Reverse(holding.shown(selection.moment).outstanding().bytes), holding.id)
    });
    holdings.truncate(selection.top.unwrap_or(usize::MAX));
}
