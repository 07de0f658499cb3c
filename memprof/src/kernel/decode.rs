//! Records become events: bytes from a ring, keys and values from maps. Pure.

use memprof_common::{
    AllocationRecord, CallRecord, Calls, ExecRecord, ForkRecord, FreeRecord, Header, ImageTotals, MAX_FRAMES,
    NewestBlock, NewestFreeRecord, NurseryEntry, ProbedThreadExitRecord, ResizingRecord, StackCopyRecord, StackFrame,
    StackRecord,
    buckets::address_of_block,
    kind,
    tables::{FrameWord, ended},
};

use crate::model::{
    Allocation, CallCounts, CopiedRegisters, Deed, Event, Free, ImageId, Losses, Newest, ObjectId, RawFrame, RawStack,
    StackCopy, StackId, ThreadId, Timestamp, Told, Totals, TracedCall, Truncation,
};

/// A ring buffer record; nothing if it is none that this version writes.
pub fn record(bytes: &[u8]) -> Option<Event> {
    let words = Words(bytes);
    let header = words.header()?;
    let image = ImageId(header.image);
    let time = Timestamp(header.time);
    Some(match header.kind {
        kind::FREE => {
            Event::Free { image, free: Free { address: words.u64_at(offset::FREE_ADDRESS)?, time, newest: None } }
        }
        kind::NEWEST_FREE => Event::Free { image, free: newest_free(words, time)? },
        kind::ALLOCATION => Event::Allocation { image, allocation: allocation(words, time)? },
        kind::STACK => Event::Stack(stack(words, image, time)?),
        kind::EXEC => Event::Exec {
            target: words.u32_at(offset::EXEC_TARGET)?,
            previous: ImageId(words.u32_at(offset::EXEC_PREVIOUS)?),
            image,
            time,
            by_other_thread: words.u32_at(offset::EXEC_BY_OTHER_THREAD)? != 0,
        },
        kind::FORK => Event::Fork {
            target: words.u32_at(offset::FORK_TARGET)?,
            pid: words.u32_at(offset::FORK_PID)?,
            parent: words.u32_at(offset::FORK_PARENT)?,
            image,
            time,
        },
        kind::PROBED_THREAD_EXIT => Event::ProbedThreadExit {
            target: words.u32_at(offset::PROBED_THREAD_EXIT_TARGET)?,
            thread: words.u32_at(offset::PROBED_THREAD_EXIT_THREAD)?,
        },
        kind::NURSERY_FILLING | kind::STACKS_FILLING => Event::Filling,
        kind::CALL => Event::Traced(Told::Call(call(words, image, time)?)),
        kind::RESIZING => Event::Traced(Told::Resizing {
            image,
            thread: thread(words.u64_at(offset::RESIZING_THREAD)?),
            address: words.u64_at(offset::RESIZING_ADDRESS)?,
            time,
        }),
        kind::STACK_COPY => Event::StackCopy(stack_copy(words, image, time)?),
        _ => return None,
    })
}

fn newest_free(words: Words<'_>, time: Timestamp) -> Option<Free> {
    let stack = StackId(words.u64_at(offset::NEWEST_STACK)?);
    let newest = Some(Newest { stack, time: Timestamp(words.u64_at(offset::NEWEST_TIME)?) });
    Some(Free { address: words.u64_at(offset::NEWEST_ADDRESS)?, time, newest })
}

/// A nursery element.
pub(super) fn block(key: u64, entry: NurseryEntry) -> (ImageId, Allocation) {
    let NurseryEntry { size, stack, time, image, .. } = entry;
    let address = address_of_block(key);
    (ImageId(image), Allocation { address, size, stack: StackId(stack), time: Timestamp(time) })
}

fn allocation(words: Words<'_>, time: Timestamp) -> Option<Allocation> {
    let address = words.u64_at(offset::ALLOCATION_ADDRESS)?;
    let stack = StackId(words.u64_at(offset::ALLOCATION_STACK)?);
    Some(Allocation { address, size: words.u64_at(offset::ALLOCATION_SIZE)?, stack, time })
}

fn call(words: Words<'_>, image: ImageId, time: Timestamp) -> Option<TracedCall> {
    let (old, new) = (words.u64_at(offset::CALL_OLD)?, words.u64_at(offset::CALL_NEW)?);
    let size = words.u64_at(offset::CALL_SIZE)?;
    let old_is_free = words.u16_at(offset::CALL_OLD_IS_FREE)? != 0;
    let resizes = words.u16_at(offset::CALL_RESIZES)? != 0;
    let deed = match (new != 0, resizes) {
        (true, true) => Deed::Resized { old, new, size },
        (true, false) => Deed::Allocated { address: new, size },
        (false, _) if old_is_free => Deed::Freed { address: old },
        (false, _) => Deed::NotResized { address: old, size },
    };
    Some(TracedCall {
        image,
        time,
        thread: thread(words.u64_at(offset::CALL_THREAD)?),
        caller: words.u64_at(offset::CALL_CALLER)?,
        deed,
        resized: resizes.then_some((old, Timestamp(words.u64_at(offset::CALL_ENTERED)?))),
        stack: StackId(words.u64_at(offset::CALL_STACK)?),
        function: words.u32_at(offset::CALL_SITE)?,
        is_of_unknown: false,
    })
}

/// As `bpf_get_current_pid_tgid` has it.
fn thread(word: u64) -> ThreadId {
    ThreadId { pid: (word >> 32) as u32, tid: word as u32 }
}

/// An image's totals, summed over the CPUs.
pub(super) fn totals<'a>(per_cpu: impl Iterator<Item = &'a ImageTotals>) -> (Totals, Losses) {
    per_cpu.map(of_cpu).fold(Default::default(), |(mut totals, mut losses), (more_totals, more_losses)| {
        totals += more_totals;
        losses += more_losses;
        (totals, losses)
    })
}

/// A target's calls, summed over the CPUs.
pub(super) fn calls<'a>(per_cpu: impl Iterator<Item = &'a Calls>) -> CallCounts {
    let sum = |sum: [u64; 2], more: [u64; 2]| [0, 1].map(|manner| sum[manner] + more[manner]);
    per_cpu.fold(CallCounts::default(), |counts, calls| CallCounts {
        allocations: sum(counts.allocations, calls.allocations),
        resizes: sum(counts.resizes, calls.resizes),
        frees: sum(counts.frees, calls.frees),
    })
}

fn of_cpu(totals: &ImageTotals) -> (Totals, Losses) {
    (
        Totals {
            allocations: totals.allocations,
            allocated_bytes: totals.allocated_bytes,
            frees: totals.frees,
            freed_bytes: totals.freed_bytes,
        },
        Losses {
            nursery_full: totals.nursery_full,
            frees_ring_full: totals.frees_ring_full,
            stacks_ring_full: totals.stacks_ring_full,
            stacks_table_full: totals.stacks_table_full,
            stacks_unreadable: totals.stacks_unreadable,
            missed_returns: totals.missed_returns,
            in_flight_full: totals.in_flight_full,
            faults_unresolved: totals.faults_unresolved,
            allocations_ring_full: totals.allocations_ring_full,
        },
    )
}

fn stack(words: Words<'_>, image: ImageId, time: Timestamp) -> Option<RawStack> {
    let depth = words.u32_at(offset::STACK_DEPTH)? as usize;
    if depth > MAX_FRAMES {
        return None;
    }
    let frames = (0..depth).map(|index| frame(words, index)).collect::<Option<_>>()?;
    let truncated = truncation(words.u32_at(offset::STACK_ENDED)?);
    Some(RawStack { id: StackId(words.u64_at(offset::STACK_ID)?), image, time, frames, truncated })
}

fn frame(words: Words<'_>, index: usize) -> Option<RawFrame> {
    let start = StackRecord::PREFIX + size_of::<StackFrame>() * index;
    let address = words.u64_at(start + offset::FRAME_ADDRESS)?;
    let place = FrameWord(words.u64_at(start + offset::FRAME_PLACE)?).place();
    Some(RawFrame { address, place: place.map(|(object, offset_in_file)| (ObjectId(object), offset_in_file)) })
}

fn stack_copy(words: Words<'_>, image: ImageId, time: Timestamp) -> Option<StackCopy> {
    let length = usize::try_from(words.u64_at(offset::COPY_BYTES)?).ok()?;
    let bytes = words.0.get(StackCopyRecord::PREFIX..StackCopyRecord::PREFIX.checked_add(length)?)?;
    let registers = CopiedRegisters {
        ip: words.u64_at(offset::COPY_IP)?,
        sp: words.u64_at(offset::COPY_SP)?,
        bp: words.u64_at(offset::COPY_BP)?,
    };
    Some(StackCopy {
        id: StackId(words.u64_at(offset::COPY_STACK)?),
        image,
        time,
        registers,
        size: words.u64_at(offset::COPY_SIZE)?,
        bytes: bytes.into(),
    })
}

/// Why the walk that ended so may have missed frames; `None` if it cannot have.
fn truncation(ended: u32) -> Option<Truncation> {
    Some(match ended & ended::REASON {
        ended::TOO_DEEP => Truncation::TooDeep,
        ended::NO_ROWS => Truncation::NoTable,
        ended::IMPLAUSIBLE => Truncation::Implausible,
        ended::UNREADABLE => Truncation::Unreadable,
        _ if ended & ended::IN_UNKNOWN_CODE != 0 => Truncation::UnknownCode,
        _ if ended & ended::BY_FRAME_POINTER != 0 => Truncation::NoTable,
        _ => return None,
    })
}

mod offset {
    use std::mem::offset_of;

    use super::{
        AllocationRecord, CallRecord, ExecRecord, ForkRecord, FreeRecord, NewestBlock, NewestFreeRecord,
        ProbedThreadExitRecord, ResizingRecord, StackCopyRecord, StackFrame, StackRecord,
    };

    pub(super) const FORK_TARGET: usize = offset_of!(ForkRecord, target);
    pub(super) const FORK_PID: usize = offset_of!(ForkRecord, pid);
    pub(super) const FORK_PARENT: usize = offset_of!(ForkRecord, parent);
    pub(super) const FREE_ADDRESS: usize = offset_of!(FreeRecord, address);
    const NEWEST: usize = offset_of!(NewestFreeRecord, block);
    pub(super) const NEWEST_ADDRESS: usize = NEWEST + offset_of!(NewestBlock, address);
    pub(super) const NEWEST_TIME: usize = NEWEST + offset_of!(NewestBlock, time);
    pub(super) const NEWEST_STACK: usize = NEWEST + offset_of!(NewestBlock, stack);
    pub(super) const ALLOCATION_ADDRESS: usize = offset_of!(AllocationRecord, address);
    pub(super) const ALLOCATION_SIZE: usize = offset_of!(AllocationRecord, size);
    pub(super) const ALLOCATION_STACK: usize = offset_of!(AllocationRecord, stack);
    pub(super) const CALL_THREAD: usize = offset_of!(CallRecord, thread);
    pub(super) const CALL_CALLER: usize = offset_of!(CallRecord, caller);
    pub(super) const CALL_OLD: usize = offset_of!(CallRecord, old);
    pub(super) const CALL_NEW: usize = offset_of!(CallRecord, new);
    pub(super) const CALL_SIZE: usize = offset_of!(CallRecord, size);
    pub(super) const CALL_STACK: usize = offset_of!(CallRecord, stack);
    pub(super) const CALL_ENTERED: usize = offset_of!(CallRecord, entered);
    pub(super) const CALL_OLD_IS_FREE: usize = offset_of!(CallRecord, old_is_free);
    pub(super) const CALL_RESIZES: usize = offset_of!(CallRecord, resizes);
    pub(super) const CALL_SITE: usize = offset_of!(CallRecord, site);
    pub(super) const RESIZING_THREAD: usize = offset_of!(ResizingRecord, thread);
    pub(super) const RESIZING_ADDRESS: usize = offset_of!(ResizingRecord, address);
    pub(super) const STACK_ID: usize = offset_of!(StackRecord, stack);
    pub(super) const STACK_DEPTH: usize = offset_of!(StackRecord, depth);
    pub(super) const STACK_ENDED: usize = offset_of!(StackRecord, ended);
    pub(super) const COPY_STACK: usize = offset_of!(StackCopyRecord, stack);
    pub(super) const COPY_IP: usize = offset_of!(StackCopyRecord, ip);
    pub(super) const COPY_SP: usize = offset_of!(StackCopyRecord, sp);
    pub(super) const COPY_BP: usize = offset_of!(StackCopyRecord, bp);
    pub(super) const COPY_SIZE: usize = offset_of!(StackCopyRecord, size);
    pub(super) const COPY_BYTES: usize = offset_of!(StackCopyRecord, bytes);
    pub(super) const FRAME_ADDRESS: usize = offset_of!(StackFrame, address);
    pub(super) const FRAME_PLACE: usize = offset_of!(StackFrame, place);
    pub(super) const EXEC_TARGET: usize = offset_of!(ExecRecord, target);
    pub(super) const EXEC_PREVIOUS: usize = offset_of!(ExecRecord, previous_image);
    pub(super) const EXEC_BY_OTHER_THREAD: usize = offset_of!(ExecRecord, by_other_thread);
    pub(super) const PROBED_THREAD_EXIT_TARGET: usize = offset_of!(ProbedThreadExitRecord, target);
    pub(super) const PROBED_THREAD_EXIT_THREAD: usize = offset_of!(ProbedThreadExitRecord, thread);
}

/// The bytes of a record, in the machine's own byte order.
#[derive(Clone, Copy)]
struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn header(self) -> Option<Header> {
        Some(Header {
            kind: self.u32_at(std::mem::offset_of!(Header, kind))?,
            image: self.u32_at(std::mem::offset_of!(Header, image))?,
            time: self.u64_at(std::mem::offset_of!(Header, time))?,
        })
    }

    fn u16_at(self, offset: usize) -> Option<u16> {
        self.0.get(offset..offset + 2)?.try_into().ok().map(u16::from_ne_bytes)
    }

    fn u32_at(self, offset: usize) -> Option<u32> {
        self.0.get(offset..offset + 4)?.try_into().ok().map(u32::from_ne_bytes)
    }

    fn u64_at(self, offset: usize) -> Option<u64> {
        self.0.get(offset..offset + 8)?.try_into().ok().map(u64::from_ne_bytes)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic, reason = "a failed test")]

    use super::*;

    fn bytes(words: &[u64]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn header(kind: u32, image: u32) -> u64 {
        u64::from(image) << 32 | u64::from(kind)
    }

    #[test]
    fn a_free_names_image_address_and_time() {
        let event = record(&bytes(&[header(kind::FREE, 3), 77, 0xabc0]));
        let free = Free { address: 0xabc0, time: Timestamp(77), newest: None };
        assert_eq!(event, Some(Event::Free { image: ImageId(3), free }));
    }

    #[test]
    fn a_free_of_the_newest_block_says_how_that_was_allocated() {
        let event = record(&bytes(&[header(kind::NEWEST_FREE, 3), 77, 0xabc0, 70, 0xfeed]));
        let newest = Some(Newest { stack: StackId(0xfeed), time: Timestamp(70) });
        let free = Free { address: 0xabc0, time: Timestamp(77), newest };
        assert_eq!(event, Some(Event::Free { image: ImageId(3), free }));
    }

    #[test]
    fn a_block_without_a_place_in_the_nursery_is_told_of() {
        let event = record(&bytes(&[header(kind::ALLOCATION, 3), 77, 0xabc0, 100, 0xfeed]));
        let allocation = Allocation { address: 0xabc0, size: 100, stack: StackId(0xfeed), time: Timestamp(77) };
        assert_eq!(event, Some(Event::Allocation { image: ImageId(3), allocation }));
        assert_eq!(record(&bytes(&[header(kind::ALLOCATION, 3), 77, 0xabc0, 100])), None);
    }

    #[test]
    fn a_traced_call_says_what_became_of_which_block() {
        let (free, resizes) = (1, 1 << 16);
        let deed = |old, new, flags: u64| {
            let words = [header(kind::CALL, 3), 77, 5 << 32 | 6, 0xc0de, old, new, 100, 0xfeed, 70, 9 << 32 | flags];
            match record(&bytes(&words)) {
                Some(Event::Traced(Told::Call(call))) => {
                    assert_eq!((call.thread, call.caller), (ThreadId { pid: 5, tid: 6 }, 0xc0de));
                    assert_eq!((call.stack, call.function), (StackId(0xfeed), 9));
                    (call.deed, call.resized)
                }
                other => panic!("{other:?}"),
            }
        };
        let resized = Some((0x10, Timestamp(70)));
        assert_eq!(deed(0, 0x20, 0), (Deed::Allocated { address: 0x20, size: 100 }, None));
        assert_eq!(deed(0x10, 0, free), (Deed::Freed { address: 0x10 }, None));
        assert_eq!(deed(0x10, 0x20, free | resizes), (Deed::Resized { old: 0x10, new: 0x20, size: 100 }, resized));
        assert_eq!(deed(0x10, 0, free | resizes), (Deed::Freed { address: 0x10 }, resized));
        assert_eq!(deed(0x10, 0, resizes), (Deed::NotResized { address: 0x10, size: 100 }, resized));
        assert_eq!(record(&bytes(&[header(kind::CALL, 3), 77, 5 << 32 | 6, 0xc0de, 0x10])), None);
    }

    #[test]
    fn a_stack_has_as_many_frames_as_it_says() {
        let in_object = FrameWord::in_object(7, 0x123).0;
        let event = record(&bytes(&[header(kind::STACK, 1), 5, 0xfeed, 2, 0x10, in_object, 0x20, 0x20]));
        let known = RawFrame { address: 0x10, place: Some((ObjectId(7), 0x123)) };
        let frames = Box::new([known, RawFrame { address: 0x20, place: None }]);
        let stack = RawStack { id: StackId(0xfeed), image: ImageId(1), time: Timestamp(5), frames, truncated: None };
        assert_eq!(event, Some(Event::Stack(stack)));
    }

    #[test]
    fn what_is_cut_short_or_unknown_is_no_event() {
        assert_eq!(record(&[]), None);
        assert_eq!(record(&bytes(&[header(kind::FREE, 3), 77])), None);
        assert_eq!(record(&bytes(&[header(kind::NEWEST_FREE, 3), 77, 0xabc0, 70])), None);
        assert_eq!(record(&bytes(&[header(kind::STACK, 1), 5, 0xfeed, 2, 0x10, 0x20, 0x30])), None);
        assert_eq!(record(&bytes(&[header(kind::STACK, 1), 5, 0xfeed, u64::MAX, 0x10])), None);
        assert_eq!(record(&bytes(&[header(99, 0), 0])), None);
    }

    #[test]
    fn a_copied_stack_has_the_bytes_that_it_says() {
        let event = record(&bytes(&[header(kind::STACK_COPY, 1), 5, 0xfeed, 0x10, 0x7000, 0x20, 16, 100, 0xaa, 0xbb]));
        let Some(Event::StackCopy(copy)) = event else { panic!("{event:?}") };
        assert_eq!(copy.size, 100);
        assert_eq!(copy.registers, CopiedRegisters { ip: 0x10, sp: 0x7000, bp: 0x20 });
        assert_eq!(
            [0x7000, 0x7008, 0x7010, 0x6ff8].map(|address| copy.word(address)),
            [Some(0xaa), Some(0xbb), None, None]
        );
        assert_eq!(record(&bytes(&[header(kind::STACK_COPY, 1), 5, 0xfeed, 0x10, 0x7000, 0x20, 24, 100, 0xaa])), None);
    }

    #[test]
    fn a_walk_that_may_have_missed_frames_says_why() {
        assert_eq!(truncation(ended::COMPLETE), None);
        assert_eq!(truncation(ended::COMPLETE | ended::BY_FRAME_POINTER), Some(Truncation::NoTable));
        assert_eq!(truncation(ended::BY_FRAME_POINTER | ended::IN_UNKNOWN_CODE), Some(Truncation::UnknownCode));
        assert_eq!(truncation(ended::TOO_DEEP | ended::IN_UNKNOWN_CODE), Some(Truncation::TooDeep));
    }

    #[test]
    fn totals_are_summed_over_the_processors() {
        let one = ImageTotals { allocations: 2, freed_bytes: 10, nursery_full: 1, ..Default::default() };
        let (totals, losses) = totals([one, one, ImageTotals::default()].iter());
        assert_eq!((totals.allocations, totals.freed_bytes, losses.allocations()), (4, 20, 2));
    }
}
