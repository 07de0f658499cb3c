//! Each rule of the live table, by example.

use std::{collections::HashMap, time::Duration};

use super::*;
use crate::model::{LiveAllocation, Moment, RawFrame, Selection, Sort, StackTotals};

const SECOND: u64 = 1_000_000_000;

fn allocation(address: u64, size: u64, stack: u64, time: u64) -> Allocation {
    Allocation { address, size, stack: StackId(stack), time: Timestamp(time) }
}

fn heap_of(allocations: impl IntoIterator<Item = Allocation>) -> Heap {
    let mut heap = Heap::new();
    allocations.into_iter().for_each(|allocation| heap.allocate(allocation));
    heap
}

fn outstanding(bytes: u64, allocations: u64) -> Outstanding {
    Outstanding { bytes, allocations }
}

fn freed(frees: u64, freed_bytes: u64) -> Totals {
    Totals { frees, freed_bytes, ..Totals::default() }
}

fn by_stack(heap: &Heap) -> Vec<(u64, Outstanding)> {
    heap.outstanding_by_stack().map(|(id, held)| (id.0, held)).collect()
}

#[test]
fn a_free_removes_the_block_allocated_before_it() {
    let mut heap = heap_of([allocation(0x10, 100, 1, 5), allocation(0x20, 7, 2, 6)]);
    assert!(heap.free(0x10, Timestamp(8)));
    assert_eq!(heap.outstanding(), outstanding(7, 1));
    assert_eq!(heap.freed(), freed(1, 100));
    assert_eq!(by_stack(&heap), [(2, outstanding(7, 1))]);
}

#[test]
fn a_free_leaves_a_block_that_is_not_older_than_itself() {
    let mut heap = heap_of([allocation(0x10, 100, 1, 5)]);
    assert!(!heap.free(0x10, Timestamp(4)));
    assert!(!heap.free(0x10, Timestamp(5)));
    assert_eq!(heap.outstanding(), outstanding(100, 1));
    assert_eq!(heap.freed(), freed(0, 0));
}

#[test]
fn a_free_of_an_unknown_pointer_is_ignored() {
    let mut heap = heap_of([allocation(0x10, 100, 1, 5)]);
    assert!(!heap.free(0x20, Timestamp(9)));
    assert!(heap.free(0x10, Timestamp(9)));
    assert!(!heap.free(0x10, Timestamp(10)));
    assert_eq!(heap.freed(), freed(1, 100));
}

#[test]
fn a_pointer_handed_out_again_was_freed() {
    let heap = heap_of([allocation(0x10, 100, 1, 5), allocation(0x10, 30, 2, 9)]);
    assert_eq!(heap.outstanding(), outstanding(30, 1));
    assert_eq!(heap.freed(), freed(1, 100));
    assert_eq!(by_stack(&heap), [(2, outstanding(30, 1))]);
}

#[test]
fn an_allocation_older_than_the_one_known_was_freed_before_that() {
    let mut heap = heap_of([allocation(0x10, 30, 2, 9), allocation(0x10, 100, 1, 5)]);
    assert_eq!(heap.outstanding(), outstanding(30, 1));
    assert_eq!(heap.freed(), freed(1, 100));
    assert_eq!(by_stack(&heap), [(2, outstanding(30, 1))]);
    assert!(!heap.free(0x10, Timestamp(8)), "this was the earlier block's");
}

#[test]
fn the_peak_is_taken_when_a_drain_has_been_applied() {
    let mut heap = heap_of([allocation(0x10, 100, 1, 5), allocation(0x20, 50, 1, 6)]);
    heap.free(0x10, Timestamp(7));
    heap.settle(Timestamp(7));
    let peak = HeapPeak { outstanding: outstanding(50, 1), time: Timestamp(7) };
    assert_eq!(heap.peak(), peak);
    heap.free(0x20, Timestamp(8));
    heap.settle(Timestamp(8));
    assert_eq!(heap.peak(), peak);
}

#[test]
fn stacks_can_be_shown_as_they_stood_at_the_peak() {
    let mut heap = heap_of([allocation(0x10, 100, 1, 5), allocation(0x20, 50, 2, 6)]);
    heap.settle(Timestamp(7));
    heap.free(0x10, Timestamp(8));
    heap.allocate(allocation(0x30, 60, 2, 9));
    heap.settle(Timestamp(9));
    heap.allocate(allocation(0x40, 10, 3, 10));
    let at_peak = select(&heap, Selection { moment: Moment::Peak, ..Selection::default() });
    let held: Vec<_> = at_peak.shown.iter().map(|stack| (stack.id.0, stack.outstanding)).collect();
    assert_eq!(held, [(1, outstanding(100, 1)), (2, outstanding(50, 1))]);
    let now = select(&heap, Selection { sort: Sort::Peak, ..Selection::default() });
    let held: Vec<_> = now.shown.iter().map(|stack| (stack.id.0, stack.outstanding, stack.at_peak)).collect();
    let (one, two, three) = (outstanding(0, 0), outstanding(110, 2), outstanding(10, 1));
    assert_eq!(held, [(1, one, outstanding(100, 1)), (2, two, outstanding(50, 1)), (3, three, one)]);
}

#[test]
fn what_stood_at_the_peak_is_not_forgotten_with_idle_stacks() {
    let mut heap = heap_of([allocation(0x10, 100, 1, 5)]);
    heap.settle(Timestamp(6));
    heap.free(0x10, Timestamp(7));
    assert_eq!(heap.forget_idle_stacks(), []);
    heap.allocate(allocation(0x20, 7, 2, 8));
    heap.free(0x20, Timestamp(9));
    assert_eq!(heap.forget_idle_stacks(), [(StackId(2), 1)]);
}

#[test]
fn growth_counts_from_the_previous_report() {
    let mut heap = heap_of([allocation(0x10, 100, 1, 5), allocation(0x20, 50, 2, 6)]);
    assert_eq!(heap.growth_bytes(), 150);
    heap.mark_reported();
    assert_eq!(heap.growth_bytes(), 0);
    heap.free(0x10, Timestamp(7));
    heap.allocate(allocation(0x30, 8, 1, 8));
    heap.allocate(allocation(0x40, 30, 2, 9));
    assert_eq!(heap.growth_bytes(), -62);
    let growth: Vec<_> = select(&heap, Selection { sort: Sort::Growth, ..Selection::default() })
        .shown
        .iter()
        .map(|stack| (stack.id.0, stack.growth_bytes))
        .collect();
    assert_eq!(growth, [(2, 30), (1, -92)]);
}

#[test]
fn sizes_that_a_target_makes_up_do_no_harm() {
    let mut heap =
        heap_of([allocation(0x10, u64::MAX, 1, 5), allocation(0x20, u64::MAX, 1, 6), allocation(1, 9, 1, 7)]);
    select(&heap, Selection::default());
    heap.free(0x10, Timestamp(9));
    heap.free(0x20, Timestamp(9));
    assert_eq!(heap.outstanding(), outstanding(9, 1));
}

/// At second 100: stack 1 holds 3 blocks of 10 bytes (ages 90, 50, 10 s), stack 2 one of 30 (40 s), stack 3 two of 1000
/// (5 and 4 s).
fn three_stacks() -> Heap {
    heap_of([
        allocation(0x10, 10, 1, 10 * SECOND),
        allocation(0x20, 10, 1, 50 * SECOND),
        allocation(0x30, 10, 1, 90 * SECOND),
        allocation(0x40, 30, 2, 60 * SECOND),
        allocation(0x60, 1000, 3, 95 * SECOND),
        allocation(0x50, 1000, 3, 96 * SECOND),
    ])
}

fn select(heap: &Heap, selection: Selection) -> SelectedStacks<RawFrame> {
    let frame_of = |id: StackId| vec![RawFrame { address: id.0, place: None }];
    let of = |id| (StackId(id), StackTotals { allocations: id * 100, ..StackTotals::default() });
    let totals = HashMap::from([1, 2, 3].map(of));
    heap.select(&selection, Timestamp(100 * SECOND), |id| id, &totals, |id| (frame_of(id), None))
}

fn order(heap: &Heap, selection: Selection) -> Vec<u64> {
    select(heap, selection).shown.iter().map(|stack| stack.id.0).collect()
}

#[test]
fn stacks_come_in_the_order_asked_for() {
    let heap = three_stacks();
    let by = |sort| order(&heap, Selection { sort, ..Selection::default() });
    assert_eq!(by(Sort::Bytes), [3, 1, 2], "of equals, the lower id");
    assert_eq!(by(Sort::Allocations), [1, 3, 2]);
    assert_eq!(by(Sort::Age), [1, 2, 3]);
    assert_eq!(by(Sort::Growth), [3, 1, 2]);
    assert_eq!(by(Sort::Churn), [3, 2, 1]);
}

#[test]
fn of_equal_rank_the_one_with_more_bytes_comes_first() {
    let heap = heap_of([allocation(0x10, 1, 1, 7), allocation(0x20, 2, 2, 7), allocation(0x30, 1, 3, 7)]);
    for sort in [Sort::Allocations, Sort::Age] {
        assert_eq!(order(&heap, Selection { sort, ..Selection::default() }), [2, 1, 3]);
    }
}

#[test]
fn only_the_top_is_shown_and_asked_for_its_frames() {
    let mut asked = Vec::new();
    let selection = Selection { top: Some(1), ..Selection::default() };
    let frames = |id| {
        asked.push(id);
        (Vec::<RawFrame>::new(), None)
    };
    let selected = three_stacks().select(&selection, Timestamp(100 * SECOND), |id| id, &HashMap::new(), frames);
    assert_eq!((selected.shown.len(), selected.selected), (1, 3));
    assert_eq!(asked, [StackId(3)]);
    assert_eq!(order(&three_stacks(), Selection { top: None, ..Selection::default() }).len(), 3);
    assert_eq!(order(&three_stacks(), Selection { top: Some(0), ..Selection::default() }).len(), 0);
}

#[test]
fn a_stack_is_shown_with_all_that_is_known_of_it() {
    let selected = select(&three_stacks(), Selection { top: Some(1), ..Selection::default() });
    let [stack] = &*selected.shown else { unreachable!("one stack was asked for") };
    assert_eq!(stack.outstanding, outstanding(2000, 2));
    assert_eq!(stack.growth_bytes, 2000);
    assert_eq!(stack.totals.allocations, 300);
    assert_eq!(stack.ages.oldest, Duration::from_secs(5));
    assert_eq!(stack.frames, [RawFrame { address: 3, place: None }]);
    assert_eq!(stack.allocations, []);
}

#[test]
fn an_idle_stack_is_forgotten_once_its_growth_has_been_told() {
    let mut heap = heap_of([allocation(0x10, 100, 1, 5), allocation(0x20, 7, 2, 6)]);
    heap.mark_reported();
    heap.free(0x10, Timestamp(8));
    heap.forget_idle_stacks();
    let growth = |heap: &Heap| heap.stacks.iter().map(|stack| stack.sum.growth_bytes()).collect::<Vec<_>>();
    assert_eq!(growth(&heap), [-100, 0]);
    heap.mark_reported();
    heap.forget_idle_stacks();
    // Another stack takes its place, and it another one.
    heap.allocate(allocation(0x30, 50, 3, 9));
    heap.allocate(allocation(0x40, 60, 1, 9));
    assert_eq!(by_stack(&heap), [(3, outstanding(50, 1)), (2, outstanding(7, 1)), (1, outstanding(60, 1))]);
    assert_eq!(growth(&heap), [50, 0, 60]);
}

#[test]
fn filters_apply_to_each_allocation() {
    let heap = three_stacks();
    let held = |selection| -> Vec<_> {
        let selected = select(&heap, selection);
        selected.shown.iter().map(|stack| (stack.id.0, stack.outstanding, stack.ages.oldest.as_secs())).collect()
    };
    let older = Selection { older: Some(Duration::from_secs(40)), ..Selection::default() };
    assert_eq!(held(older), [(2, outstanding(30, 1), 40), (1, outstanding(20, 2), 90)]);
    let large = Selection { min_size: Some(30), ..Selection::default() };
    assert_eq!(held(large), [(3, outstanding(2000, 2), 5), (2, outstanding(30, 1), 40)]);
    let small = Selection { max_size: Some(10), ..Selection::default() };
    assert_eq!(held(small), [(1, outstanding(30, 3), 90)]);
    let none = Selection { min_size: Some(11), max_size: Some(29), ..Selection::default() };
    assert_eq!(held(none), []);
}

#[test]
fn blocks_are_listed_oldest_first_and_only_if_admitted() {
    let selection = Selection { show_allocations: true, max_size: Some(999), top: Some(1), ..Selection::default() };
    let selected = select(&three_stacks(), Selection { older: Some(Duration::from_secs(50)), ..selection });
    let block = |address, age| LiveAllocation { address, size: 10, age: Duration::from_secs(age) };
    assert_eq!(selected.shown[0].allocations, [block(0x10, 90), block(0x20, 50)]);
}
