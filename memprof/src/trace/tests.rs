//! The order of calls, by hand and by chance.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::Order;
use crate::model::{Deed, ImageId, StackId, ThreadId, Timestamp, Told, TracedCall};

const IMAGE: ImageId = ImageId(1);

fn thread(tid: u32) -> ThreadId {
    ThreadId { pid: 1, tid }
}

fn call(tid: u32, time: u64, deed: Deed) -> TracedCall {
    let (image, time, stack) = (IMAGE, Timestamp(time), StackId(1));
    TracedCall {
        image,
        time,
        thread: thread(tid),
        caller: 0,
        deed,
        resized: None,
        stack,
        function: 0,
        is_of_unknown: false,
    }
}

fn allocated(tid: u32, time: u64, address: u64) -> Told {
    Told::Call(call(tid, time, Deed::Allocated { address, size: 1 }))
}

fn freed(tid: u32, time: u64, address: u64) -> Told {
    Told::Call(call(tid, time, Deed::Freed { address }))
}

fn freed_by(function: u32, tid: u32, time: u64, address: u64) -> Told {
    Told::Call(TracedCall { function, ..call(tid, time, Deed::Freed { address }) })
}

fn resizing(tid: u32, time: u64, address: u64) -> Told {
    Told::Resizing { image: IMAGE, thread: thread(tid), address, time: Timestamp(time) }
}

fn resized(tid: u32, time: u64, old: u64, new: u64) -> Told {
    let resized = Some((old, Timestamp(0)));
    Told::Call(TracedCall { resized, ..call(tid, time, Deed::Resized { old, new, size: 2 }) })
}

fn ordered(told: &[Told]) -> Vec<(u32, Deed)> {
    let (mut order, mut calls) = (Order::default(), Vec::new());
    told.iter().for_each(|told| order.take(*told, |call| calls.push((call.thread.tid, call.deed))));
    order.finish(|call| calls.push((call.thread.tid, call.deed)));
    calls
}

const A: u64 = 0xa0;
const B: u64 = 0xb0;
const C: u64 = 0xc0;
const D: u64 = 0xd0;

#[test]
fn what_is_told_in_order_stays_as_it_is() {
    let told = [allocated(1, 1, A), resizing(1, 2, A), freed(2, 3, D), resized(1, 4, A, B), freed(1, 5, B)];
    let calls = ordered(&told);
    assert_eq!(calls.len(), 4);
    assert_eq!(calls[1], (2, Deed::Freed { address: D }));
    assert_eq!(calls[3], (1, Deed::Freed { address: B }));
}

#[test]
fn a_block_is_nobody_elses_before_it_was_resized() {
    let told = [resizing(1, 1, A), allocated(2, 2, A), freed(2, 3, A), resized(1, 4, A, B), freed(1, 5, B)];
    let calls = ordered(&told);
    let expected = [(1, Deed::Resized { old: A, new: B, size: 2 }), (2, Deed::Allocated { address: A, size: 1 })];
    assert_eq!(calls[..2], expected);
    assert_eq!(calls[2..], [(2, Deed::Freed { address: A }), (1, Deed::Freed { address: B })]);
}

/// Thread 3 is given what 1 has left, who is given what 2 has left.
#[test]
fn one_resizing_can_wait_for_another() {
    let told = [
        resizing(2, 1, B),
        resizing(1, 2, A),
        allocated(3, 3, A),
        allocated(3, 4, D),
        resized(1, 5, A, B),
        resized(2, 6, B, C),
    ];
    let calls = ordered(&told);
    let (of_two, of_one) = (Deed::Resized { old: B, new: C, size: 2 }, Deed::Resized { old: A, new: B, size: 2 });
    assert_eq!(calls[..2], [(2, of_two), (1, of_one)]);
    assert_eq!(calls[2].1.new_block(), Some(A));
    assert_eq!(calls[3].1.new_block(), Some(D));
}

#[test]
fn a_call_that_does_not_return_is_not_waited_for_long() {
    let mut order = Order::default();
    let mut passed = 0;
    let told = [resizing(1, 1, A), allocated(2, 2, A), freed(2, 999_999_999, A), freed(2, 1_000_000_001, B)];
    let counts = told.map(|told| {
        order.take(told, |_| passed += 1);
        passed
    });
    assert_eq!(counts, [0, 0, 0, 3]);
}

#[test]
fn of_nested_frees_one_is_told() {
    let within_resizing = [resizing(1, 1, A), freed(1, 2, A), resized(1, 3, A, B)];
    assert_eq!(ordered(&within_resizing), [(1, Deed::Resized { old: A, new: B, size: 2 })]);
    let within_free = [freed_by(7, 1, 1, A), freed_by(8, 1, 2, A), freed_by(7, 1, 3, B)];
    assert_eq!(ordered(&within_free).len(), 2);
    let mistake = [freed_by(7, 1, 1, A), freed_by(7, 1, 2, A)];
    assert_eq!(ordered(&mistake).len(), 2);
    let used_meanwhile = [freed_by(7, 1, 1, A), allocated(1, 2, A), freed_by(8, 1, 3, A)];
    assert_eq!(ordered(&used_meanwhile).len(), 3);
}

/// What an allocator does whose calls take time: `(thread, what, whether it goes on to its end)` as chance has it. Of each call, what
/// is told, and when.
fn history(choices: &[(u32, u8, u8)]) -> Vec<Told> {
    let (mut live, mut free): (Vec<u64>, Vec<u64>) = (Vec::new(), (1..40).map(|block| block * 16).collect());
    // Of each thread that resizes: the old block, and the new one once it has it, and left the old.
    let mut open: HashMap<u32, (u64, Option<u64>)> = HashMap::new();
    let mut told = Vec::new();
    for (time, &(tid, what, which)) in (1_u64..).zip(choices) {
        let which = usize::from(which);
        match open.get(&tid).copied() {
            Some((old, None)) if !free.is_empty() => {
                open.insert(tid, (old, Some(free.remove(which % free.len()))));
                free.push(old);
            }
            Some((_, None)) => {}
            Some((old, Some(new))) => {
                told.push(resized(tid, time, old, new));
                live.push(new);
                open.remove(&tid);
            }
            None if what == 0 && !free.is_empty() => {
                let block = free.remove(which % free.len());
                live.push(block);
                told.push(allocated(tid, time, block));
            }
            None if what == 1 && !live.is_empty() => {
                let block = live.remove(which % live.len());
                free.push(block);
                told.push(freed(tid, time, block));
            }
            None if what == 2 && !live.is_empty() => {
                let block = live.remove(which % live.len());
                open.insert(tid, (block, None));
                told.push(resizing(tid, time, block));
            }
            None => {}
        }
    }
    for (tid, (old, new)) in open {
        let new = new.unwrap_or(old);
        told.push(resized(tid, 1000, old, new));
    }
    told
}

proptest! {
    /// No block is handed out that is in use, none is freed that is not; and nothing is left out.
    #[test]
    fn every_order_makes_sense(choices in prop::collection::vec((0_u32..4, 0_u8..3, any::<u8>()), 0..300)) {
        let told = history(&choices);
        let calls = ordered(&told);
        let mut live = HashSet::new();
        for (_, deed) in &calls {
            if let Some(old) = deed.freed_block() {
                prop_assert!(live.remove(&old), "{deed:?}");
            }
            if let Some(new) = deed.new_block() {
                prop_assert!(live.insert(new), "{deed:?}");
            }
        }
        prop_assert_eq!(calls.len(), told.iter().filter(|told| matches!(told, Told::Call(_))).count());
        for tid in 0..4 {
            let of_thread = |told: &&Told| told.thread().tid == tid;
            let deeds: Vec<_> = calls.iter().filter(|(by, _)| *by == tid).map(|(_, deed)| *deed).collect();
            let expected: Vec<_> = told.iter().filter(of_thread).filter_map(|told| match told {
                Told::Call(call) => Some(call.deed),
                Told::Resizing { .. } => None,
            }).collect();
            prop_assert_eq!(deeds, expected);
        }
    }
}
