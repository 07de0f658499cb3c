//! Records become events: bytes from a ring, keys and values from maps. Pure.

use memprof_common::{
    ExecRecord, FreeRecord, Header, ImageTotals, MAX_FRAMES, NurseryEntry, NurseryKey, ProbedThreadExitRecord,
    StackRecord, kind,
};

use crate::model::{Allocation, Event, ImageId, Losses, RawStack, StackId, Timestamp, Totals};

/// A ring buffer record; nothing if it is none that this version writes.
pub(super) fn record(bytes: &[u8]) -> Option<Event> {
    let words = Words(bytes);
    let header = words.header()?;
    let image = ImageId(header.image);
    let time = Timestamp(header.time);
    Some(match header.kind {
        kind::FREE => Event::Free { image, address: words.u64_at(offset::FREE_ADDRESS)?, time },
        kind::STACK => Event::Stack(stack(words, image, time)?),
        kind::EXEC => Event::Exec {
            target: words.u32_at(offset::EXEC_TARGET)?,
            previous: ImageId(words.u32_at(offset::EXEC_PREVIOUS)?),
            image,
            time,
            by_other_thread: words.u32_at(offset::EXEC_BY_OTHER_THREAD)? != 0,
        },
        kind::PROBED_THREAD_EXIT => Event::ProbedThreadExit {
            target: words.u32_at(offset::PROBED_THREAD_EXIT_TARGET)?,
            thread: words.u32_at(offset::PROBED_THREAD_EXIT_THREAD)?,
        },
        kind::NURSERY_FILLING => Event::NurseryFilling,
        _ => return None,
    })
}

/// A nursery element.
pub(super) fn allocation(key: NurseryKey, entry: NurseryEntry) -> (ImageId, Allocation) {
    let allocation =
        Allocation { address: key.address, size: entry.size, stack: StackId(entry.stack), time: Timestamp(entry.time) };
    (ImageId(key.image), allocation)
}

/// An image's totals, summed over the CPUs.
pub(super) fn totals<'a>(per_cpu: impl Iterator<Item = &'a ImageTotals>) -> (Totals, Losses) {
    per_cpu.map(of_cpu).fold(Default::default(), |(mut totals, mut losses), (more_totals, more_losses)| {
        totals += more_totals;
        losses += more_losses;
        (totals, losses)
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
        },
    )
}

fn stack(words: Words<'_>, image: ImageId, time: Timestamp) -> Option<RawStack> {
    let depth = words.u64_at(offset::STACK_DEPTH)? as usize;
    if depth > MAX_FRAMES {
        return None;
    }
    let frame = |index| words.u64_at(StackRecord::PREFIX + 8 * index);
    let addresses = (0..depth).map(frame).collect::<Option<_>>()?;
    Some(RawStack { id: StackId(words.u64_at(offset::STACK_ID)?), image, time, addresses })
}

mod offset {
    use std::mem::offset_of;

    use super::{ExecRecord, FreeRecord, ProbedThreadExitRecord, StackRecord};

    pub(super) const FREE_ADDRESS: usize = offset_of!(FreeRecord, address);
    pub(super) const STACK_ID: usize = offset_of!(StackRecord, stack);
    pub(super) const STACK_DEPTH: usize = offset_of!(StackRecord, depth);
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

    fn u32_at(self, offset: usize) -> Option<u32> {
        self.0.get(offset..offset + 4)?.try_into().ok().map(u32::from_ne_bytes)
    }

    fn u64_at(self, offset: usize) -> Option<u64> {
        self.0.get(offset..offset + 8)?.try_into().ok().map(u64::from_ne_bytes)
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(event, Some(Event::Free { image: ImageId(3), address: 0xabc0, time: Timestamp(77) }));
    }

    #[test]
    fn a_stack_has_as_many_frames_as_it_says() {
        let event = record(&bytes(&[header(kind::STACK, 1), 5, 0xfeed, 2, 0x10, 0x20]));
        let addresses = Box::new([0x10, 0x20]);
        let stack = RawStack { id: StackId(0xfeed), image: ImageId(1), time: Timestamp(5), addresses };
        assert_eq!(event, Some(Event::Stack(stack)));
    }

    #[test]
    fn what_is_cut_short_or_unknown_is_no_event() {
        assert_eq!(record(&[]), None);
        assert_eq!(record(&bytes(&[header(kind::FREE, 3), 77])), None);
        assert_eq!(record(&bytes(&[header(kind::STACK, 1), 5, 0xfeed, 3, 0x10, 0x20])), None);
        assert_eq!(record(&bytes(&[header(kind::STACK, 1), 5, 0xfeed, u64::MAX, 0x10])), None);
        assert_eq!(record(&bytes(&[header(99, 0), 0])), None);
    }

    #[test]
    fn totals_are_summed_over_the_processors() {
        let one = ImageTotals { allocations: 2, freed_bytes: 10, nursery_full: 1, ..Default::default() };
        let (totals, losses) = totals([one, one, ImageTotals::default()].iter());
        assert_eq!((totals.allocations, totals.freed_bytes, losses.allocations()), (4, 20, 2));
    }
}
