//! The live table against models of it: its rules written naively, and the truth that they are to reproduce.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap, VecDeque},
    time::Duration,
};

use proptest::prelude::*;

use super::*;
use crate::model::{Ages, LiveAllocation, RawFrame, Selection, Sort, StackSnapshot, StandardError, Trend};

#[derive(Clone, Debug)]
enum Operation {
    Allocate(Allocation),
    Free { address: u64, time: Timestamp },
    Report,
}

fn operation() -> impl Strategy<Value = Operation> {
    let time = || (0..60u64).prop_map(Timestamp);
    let allocation = (0..40u64, 0..5000u64, 0..8u64, time()).prop_map(|(address, size, stack, time)| {
        Operation::Allocate(Allocation { address: address * 16, size, stack: StackId(stack), time })
    });
    let free = (0..40u64, time()).prop_map(|(address, time)| Operation::Free { address: address * 16, time });
    prop_oneof![5 => allocation, 3 => free, 1 => Just(Operation::Report)]
}

fn selection() -> impl Strategy<Value = Selection> {
    let sort = prop_oneof![Just(Sort::Bytes), Just(Sort::Allocations), Just(Sort::Age), Just(Sort::Growth)];
    let size = || prop::option::of(0..5000u64);
    let older = prop::option::of((0..60u64).prop_map(std::time::Duration::from_nanos));
    (prop::option::of(0..9usize), sort, older, size(), size(), any::<bool>()).prop_map(
        |(top, sort, older, min_size, max_size, show_allocations)| Selection {
            top,
            sort,
            older,
            min_size,
            max_size,
            show_allocations,
        },
    )
}

/// The rules, each as it is said.
#[derive(Default)]
struct Model {
    live: BTreeMap<u64, Allocation>,
    freed: Totals,
    reported: HashMap<StackId, i64>,
}

impl Model {
    fn apply(&mut self, operation: &Operation) {
        match operation {
            Operation::Allocate(allocation) => self.allocate(*allocation),
            Operation::Free { address, time } => self.free(*address, *time),
            Operation::Report => self.reported = self.bytes_by_stack(),
        }
    }

    fn allocate(&mut self, allocation: Allocation) {
        let Some(known) = self.live.get(&allocation.address).copied() else {
            self.live.insert(allocation.address, allocation);
            return;
        };
        let (later, earlier) = if allocation.time >= known.time { (allocation, known) } else { (known, allocation) };
        self.live.insert(allocation.address, later);
        self.freed += Totals { frees: 1, freed_bytes: earlier.size, ..Totals::default() };
    }

    fn free(&mut self, address: u64, time: Timestamp) {
        if self.live.get(&address).is_some_and(|known| known.time < time) {
            let size = self.live.remove(&address).map_or(0, |block| block.size);
            self.freed += Totals { frees: 1, freed_bytes: size, ..Totals::default() };
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
        Some(StackSnapshot {
            id,
            outstanding: Outstanding {
                bytes: blocks.iter().map(|block| block.size).sum(),
                allocations: blocks.len() as u64,
            },
            standard_error: StandardError::default(),
            scaled: None,
            growth_bytes: self.bytes_by_stack().get(&id).unwrap_or(&0) - self.reported.get(&id).unwrap_or(&0),
            total_allocations: id.0,
            ages: ages(&blocks)?,
            trend: Trend::NONE,
            frames: Vec::new(),
            truncated: None,
            allocations: if selection.show_allocations { blocks } else { Vec::new() },
        })
    }
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
        Operation::Free { address, time } => {
            heap.free(*address, *time);
        }
        Operation::Report => heap.mark_reported(),
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
    ring: VecDeque<(u64, Timestamp)>,
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
    }

    fn free(&mut self, address: u64) {
        self.frees += 1;
        self.live.remove(&address);
        if self.nursery.remove(&address).is_some() {
            self.frees_in_nursery += 1;
        } else {
            self.ring.push_back((address, Timestamp(self.clock)));
        }
    }

    fn drain(&mut self) {
        std::mem::take(&mut self.nursery).into_values().for_each(|allocation| self.heap.allocate(allocation));
    }

    fn read_ring(&mut self, frees: usize) {
        self.drain();
        for (address, time) in self.ring.drain(..frees.min(self.ring.len())) {
            self.heap.free(address, time);
        }
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
        let now = Timestamp(50);
        let selected = heap.select(&selection, now, |id| id, |id| id.0, |_| (Vec::new(), None));
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
    }
}
