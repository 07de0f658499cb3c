//! The live table against models of it: its rules written naively, and the truth that they are to reproduce.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use clap::ValueEnum as _;
use proptest::prelude::*;

use super::*;
use crate::model::{
    Ages, BlockGroup, Free, LiveAllocation, Moment, Newest, RawFrame, Selection, Sort, StackSnapshot, StackTotals,
};

#[derive(Clone, Debug)]
enum Operation {
    Allocate(Allocation),
    Free(Free),
    Report,
    Settle,
}

fn operation() -> impl Strategy<Value = Operation> {
    let time = || (0..60u64).prop_map(Timestamp);
    let allocation = (0..40u64, 0..5000u64, 0..8u64, time()).prop_map(|(address, size, stack, time)| {
        Operation::Allocate(Allocation { address: address * 16, size, stack: StackId(stack), time })
    });
    let newest = prop::option::of((0..8u64, time()).prop_map(|(stack, time)| Newest { stack: StackId(stack), time }));
    let free = (0..40u64, time(), newest)
        .prop_map(|(address, time, newest)| Operation::Free(Free { address: address * 16, time, newest }));
    prop_oneof![5 => allocation, 3 => free, 1 => Just(Operation::Report), 1 => Just(Operation::Settle)]
}

fn selection() -> impl Strategy<Value = Selection> {
    let sort = prop::sample::select(Sort::value_variants().to_vec());
    let moment = prop_oneof![3 => Just(Moment::Now), 1 => Just(Moment::Peak)];
    let size = || prop::option::of(0..5000u64);
    let older = prop::option::of((0..60u64).prop_map(std::time::Duration::from_nanos));
    (prop::option::of(0..9usize), sort, older, size(), size(), any::<[bool; 2]>(), moment).prop_map(
        |(top, sort, older, min_size, max_size, [show_allocations, show_groups], moment)| Selection {
            top,
            sort,
            older,
            min_size,
            max_size,
            show_allocations,
            show_groups,
            moment,
        },
    )
}

/// The rules, each as it is said.
#[derive(Default)]
struct Model {
    live: BTreeMap<u64, Allocation>,
    freed: Totals,
    reported: HashMap<StackId, i64>,
    lasting: BTreeMap<StackId, i64>,
    peak: (Outstanding, BTreeMap<StackId, Outstanding>),
}

impl Model {
    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Allocate(allocation) => self.allocate(*allocation),
            Operation::Free(free) => self.free(free),
            Operation::Report => self.reported = self.bytes_by_stack(),
            Operation::Settle => {
                let outstanding = self.outstanding();
                if outstanding.bytes > self.peak.0.bytes {
                    self.peak = (outstanding, self.by_stack());
                }
            }
        }
    }

    fn allocate(&mut self, allocation: Allocation) {
        *self.lasting.entry(allocation.stack).or_default() += 1;
        let Some(known) = self.live.get(&allocation.address).copied() else {
            self.live.insert(allocation.address, allocation);
            return;
        };
        let (later, earlier) = if allocation.time >= known.time { (allocation, known) } else { (known, allocation) };
        self.live.insert(allocation.address, later);
        self.freed += Totals { frees: 1, freed_bytes: earlier.size, ..Totals::default() };
    }

    fn free(&mut self, free: &Free) {
        let known = self.live.get(&free.address).copied().filter(|known| known.time < free.time);
        if let Some(block) = known {
            self.live.remove(&free.address);
            self.freed += Totals { frees: 1, freed_bytes: block.size, ..Totals::default() };
        }
        if let Some(newest) = free.newest
            && known.is_none_or(|block| block.time == newest.time)
        {
            *self.lasting.entry(newest.stack).or_default() -= 1;
        }
    }

    fn bytes_by_stack(&self) -> HashMap<StackId, i64> {
        let mut bytes = HashMap::new();
        self.live.values().for_each(|block| *bytes.entry(block.stack).or_default() += block.size.cast_signed());
        bytes
    }

    fn by_stack(&self) -> BTreeMap<StackId, Outstanding> {
        let mut sums = BTreeMap::<_, Outstanding>::new();
        for block in self.live.values() {
            let sum = sums.entry(block.stack).or_default();
            *sum = Outstanding { bytes: sum.bytes + block.size, allocations: sum.allocations + 1 };
        }
        sums
    }

    fn outstanding(&self) -> Outstanding {
        Outstanding { bytes: self.live.values().map(|block| block.size).sum(), allocations: self.live.len() as u64 }
    }

    fn select(&self, selection: &Selection, now: Timestamp) -> SelectedStacks<RawFrame> {
        let mut stacks: Vec<_> = (0..8).filter_map(|id| self.snapshot(StackId(id), selection, now)).collect();
        stacks.sort_by_key(|stack| stack.id);
        stacks.sort_by_key(|stack| Reverse(stack.outstanding.bytes));
        match selection.sort {
            Sort::Bytes => {}
            Sort::Allocations => stacks.sort_by_key(|stack| Reverse(stack.outstanding.allocations)),
            Sort::Age => stacks.sort_by_key(|stack| Reverse(stack.ages.oldest)),
            Sort::Growth => stacks.sort_by_key(|stack| Reverse(stack.growth_bytes)),
            Sort::Churn => stacks.sort_by_key(|stack| Reverse(stack.totals.allocations)),
            Sort::Temporary => stacks.sort_by_key(|stack| Reverse(stack.totals.temporary)),
            Sort::Peak => stacks.sort_by_key(|stack| Reverse(stack.at_peak.bytes)),
        }
        let selected = stacks.len();
        stacks.truncate(selection.top.unwrap_or(selected));
        SelectedStacks { shown: stacks, selected }
    }

    fn snapshot(&self, id: StackId, selection: &Selection, now: Timestamp) -> Option<StackSnapshot<RawFrame>> {
        let of_stack = self.live.values().filter(|block| block.stack == id);
        let mut blocks: Vec<_> = of_stack
            .map(|block| LiveAllocation { address: block.address, size: block.size, age: now.since(block.time) })
            .filter(|block| selection.admits(block.size, block.age))
            .collect();
        blocks.sort_by_key(|block| Reverse(block.age));
        let held = Outstanding { bytes: blocks.iter().map(|block| block.size).sum(), allocations: blocks.len() as u64 };
        let at_peak = self.peak.1.get(&id).copied().unwrap_or_default();
        let outstanding = if selection.moment == Moment::Now { held } else { at_peak };
        let totals = totals_of(id);
        let was_there = totals.allocations > 0 || at_peak.allocations > 0;
        let is_selected = outstanding.allocations > 0 || selection.shows_idle_stacks() && was_there;
        is_selected.then(|| StackSnapshot {
            outstanding,
            growth_bytes: self.bytes_by_stack().get(&id).unwrap_or(&0) - self.reported.get(&id).unwrap_or(&0),
            totals,
            at_peak,
            ages: ages(&blocks).unwrap_or_default(),
            groups: if selection.show_groups { groups(&blocks) } else { Vec::new() },
            allocations: if selection.show_allocations { blocks } else { Vec::new() },
            ..StackSnapshot::empty(id, Vec::new())
        })
    }
}

/// Every second stack has allocated something, whatever is known of its blocks.
fn totals_of(stack: StackId) -> StackTotals {
    match stack.0 % 2 {
        0 => StackTotals::default(),
        _ => StackTotals { allocations: stack.0, allocated_bytes: 9, temporary: Some(8 - stack.0) },
    }
}

/// Ages are below a hundred nanoseconds here, two digits.
fn groups(blocks: &[LiveAllocation]) -> Vec<BlockGroup> {
    let mut groups = BTreeMap::<_, Outstanding>::new();
    for block in blocks {
        *groups.entry((block.size, block.age)).or_default() += Outstanding { bytes: block.size, allocations: 1 };
    }
    groups.into_iter().map(|((size, age), outstanding)| BlockGroup { size, age, outstanding }).collect()
}

/// Of blocks in the order of their ages.
fn ages(blocks: &[LiveAllocation]) -> Option<Ages> {
    let (oldest, youngest) = (blocks.first()?.age, blocks.last()?.age);
    // The upper one of two, to the precision that is kept.
    let median = Duration::from_secs_f32(blocks[(blocks.len() - 1) / 2].age.as_secs_f32());
    Some(Ages { youngest, median: median.clamp(youngest, oldest), oldest })
}

fn apply(heap: &mut Heap, operation: &Operation) {
    match operation {
        Operation::Allocate(allocation) => heap.allocate(*allocation),
        Operation::Free(free) => heap.free_all(&[*free]),
        Operation::Report => heap.mark_reported(),
        Operation::Settle => heap.settle(Timestamp(1)),
    }
}

/// What a program does, and when its profiler looks.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Frees what is at this address, or else allocates there.
    Toggle(u64),
    /// The nursery is drained into the heap.
    Drain,
    /// So many frees are read from the ring, after the nursery was drained.
    ReadRing(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..20u64).prop_map(|address| Step::Toggle(address * 16)),
        1 => Just(Step::Drain),
        1 => (0..8usize).prop_map(Step::ReadRing),
    ]
}

/// A program, the kernel side as it is specified, and the heap that is fed by it.
#[derive(Default)]
struct Pipeline {
    clock: u64,
    live: BTreeMap<u64, Allocation>,
    frees: u64,
    nursery: BTreeMap<u64, Allocation>,
    frees_in_nursery: u64,
    newest: Option<Allocation>,
    lasting: BTreeMap<StackId, i64>,
    ring: VecDeque<Free>,
    heap: Heap,
}

impl Pipeline {
    fn take(&mut self, step: Step) {
        self.clock += 1;
        match step {
            Step::Toggle(address) if self.live.contains_key(&address) => self.free(address),
            Step::Toggle(address) => self.allocate(address),
            Step::Drain => self.drain(),
            Step::ReadRing(frees) => self.read_ring(frees),
        }
    }

    fn allocate(&mut self, address: u64) {
        let (size, stack) = (self.clock * 7 % 1000, StackId(self.clock % 5));
        let allocation = Allocation { address, size, stack, time: Timestamp(self.clock) };
        self.live.insert(address, allocation);
        self.nursery.insert(address, allocation);
        self.newest = Some(allocation);
    }

    fn free(&mut self, address: u64) {
        self.frees += 1;
        self.live.remove(&address);
        if self.nursery.remove(&address).is_some() {
            self.frees_in_nursery += 1;
        } else {
            let newest = self.newest.filter(|newest| newest.address == address);
            if let Some(newest) = newest {
                *self.lasting.entry(newest.stack).or_default() -= 1;
            }
            let newest = newest.map(|Allocation { stack, time, .. }| Newest { stack, time });
            self.ring.push_back(Free { address, time: Timestamp(self.clock), newest });
        }
    }

    fn drain(&mut self) {
        for allocation in std::mem::take(&mut self.nursery).into_values() {
            *self.lasting.entry(allocation.stack).or_default() += 1;
            self.heap.allocate(allocation);
        }
    }

    fn read_ring(&mut self, frees: usize) {
        self.drain();
        let frees: Vec<_> = self.ring.drain(..frees.min(self.ring.len())).collect();
        self.heap.free_all(&frees);
    }
}

proptest! {
    #[test]
    fn the_rules_hold_for_any_order_of_events(
        operations in prop::collection::vec(operation(), 0..400),
        selection in selection(),
    ) {
        let (mut heap, mut model) = (Heap::new(), Model::default());
        for operation in &operations {
            apply(&mut heap, operation);
            model.apply(operation);
            prop_assert_eq!(heap.outstanding(), model.outstanding());
            prop_assert_eq!(heap.freed(), model.freed);
        }
        prop_assert_eq!(heap.outstanding_by_stack().collect::<BTreeMap<_, _>>(), model.by_stack());
        prop_assert_eq!(heap.lasting().collect::<BTreeMap<_, _>>(), model.lasting.clone());
        prop_assert_eq!(heap.peak().outstanding, model.peak.0);
        let now = Timestamp(50);
        let totals = (0..8).map(|id| (StackId(id), totals_of(StackId(id)))).collect();
        let selected = heap.select(&selection, now, |id| id, &totals, |_| (Vec::new(), None));
        prop_assert_eq!(selected, model.select(&selection, now));
    }

    #[test]
    fn what_is_left_after_the_last_drain_is_the_truth(steps in prop::collection::vec(step(), 0..600)) {
        let mut pipeline = Pipeline::default();
        steps.iter().for_each(|step| pipeline.take(*step));
        pipeline.read_ring(usize::MAX);
        let truth = Model { live: pipeline.live, ..Model::default() };
        prop_assert_eq!(pipeline.heap.outstanding(), truth.outstanding());
        prop_assert_eq!(pipeline.heap.outstanding_by_stack().collect::<BTreeMap<_, _>>(), truth.by_stack());
        prop_assert_eq!(pipeline.heap.freed().frees + pipeline.frees_in_nursery, pipeline.frees);
        prop_assert_eq!(pipeline.heap.lasting().collect::<BTreeMap<_, _>>(), pipeline.lasting);
    }
}
