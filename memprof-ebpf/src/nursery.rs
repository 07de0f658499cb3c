//! The nursery: live blocks that userspace has not seen. Most blocks are freed while they are here.
//!
//! While sampling, it holds every live block that was taken, and userspace reads it without removing any: so a free that does
//! not find its block here is of one that was not taken, and nobody has to be told.

use core::mem::offset_of;

use aya_ebpf::helpers::bpf_ktime_get_ns;
use memprof_common::{
    AllocationRecord, Cookie, Header, ImageTotals, NewestBlock, NurseryEntry,
    buckets::{ADDRESS_END, block_key, table},
    kind,
};

use crate::{
    arch::Returning,
    buckets::Slot,
    in_flight::{self, Closed},
    maps::{NURSERY, PRESSURE, Pressure},
    records, sampling, stack, totals, trace, windows,
};

/// Net insertions on one CPU after which userspace is called to drain. The loader sets it.
#[unsafe(no_mangle)]
static NURSERY_MARK: u64 = 1 << 16;

/// A block was allocated, in place of the block `old` if that is not null; a null address is a failure, which is no allocation.
#[inline(always)]
pub fn allocated(ctx: &impl Returning, closed: Closed, address: u64, old: u64) {
    let Closed { call, newest } = closed;
    if address == 0 || !windows::is_observed(call) {
        return;
    }
    let (image, size) = (call.image, call.size);
    if let Some(totals) = totals::of(image) {
        totals::add(&raw mut totals.allocations, 1);
        totals::add(&raw mut totals.allocated_bytes, size);
    }
    let block = Block { target: Cookie(call.cookie).target(), image, address };
    if !sampling::takes(size) {
        return forget(block);
    }
    let stack = stack::capture(ctx, call);
    if trace::is_on() {
        return trace::allocated(ctx, call, address, old, stack);
    }
    // SAFETY: the helper has no preconditions.
    let time = unsafe { bpf_ktime_get_ns() };
    *newest = NewestBlock { address, time, stack };
    put(block, NurseryEntry { size, stack, time, image, reserved: 0 });
}

/// A block of a target's image.
#[derive(Clone, Copy)]
pub struct Block {
    /// The target.
    pub target: u32,
    /// The image.
    pub image: u32,
    /// The pointer.
    pub address: u64,
}

impl Block {
    #[inline(always)]
    fn key(self) -> u64 {
        block_key(self.target, self.address)
    }

    #[inline(always)]
    fn has_key(self) -> bool {
        self.address < ADDRESS_END
    }
}

/// A block is about to be freed.
#[inline(always)]
pub fn freed(block: Block) {
    let mut entry = NurseryEntry::default();
    if take(block, &mut entry) {
        count_free(block.image, entry.size);
    } else if !sampling::is_on() {
        // SAFETY: the helper has no preconditions.
        tell_free(block.image, block.address, unsafe { bpf_ktime_get_ns() }, in_flight::newest());
    }
}

/// Userspace has the block, or will have it. Whether its thread has allocated anything since decides about what is temporary.
#[inline(always)]
fn tell_free(image: u32, address: u64, time: u64, newest: Option<&NewestBlock>) {
    match newest {
        Some(newest) if newest.address == address => records::newest_free(image, *newest, time),
        _ => records::free(image, address, time),
    }
}

/// A block was allocated that is not taken. A pointer that is handed out again was freed, whatever was missed.
#[inline(always)]
fn forget(block: Block) {
    let mut entry = NurseryEntry::default();
    if take(block, &mut entry) {
        count_free(block.image, entry.size);
    }
}

/// Moves a block out of the nursery into `entry`; says whether it was there. If it is drained between the look-up and
/// the removal, it was not: userspace has it, and must be told of the free.
#[inline(always)]
pub fn take(block: Block, entry: &mut NurseryEntry) -> bool {
    if !block.has_key() {
        return false;
    }
    let key = block.key();
    let Some(slot) = Slot::find(table::NURSERY, key) else { return false };
    if !slot.claim(key) {
        return false;
    }
    if let Some(place) = NURSERY.get_ptr(slot.value()) {
        // SAFETY: a map value, valid while the program runs, and claimed.
        *entry = unsafe { place.read_volatile() };
    }
    slot.free();
    lower_pressure();
    // Another image's is left over: its `execve` has freed it.
    entry.image == block.image
}

/// Settles the old block of a `realloc` that has returned. While tracing, the call is told of as one.
#[inline(always)]
pub fn resized(ctx: &impl Returning, closed: &Closed, new: u64, old_is_free: bool) {
    let call = closed.call;
    if trace::is_on() {
        if new == 0 {
            trace::left_nothing(ctx, call, old_is_free);
        }
    } else if call.old_is_taken == 0 {
        if old_is_free && !sampling::is_on() {
            tell_free(call.image, call.argument, call.time, Some(closed.newest));
        }
    } else if old_is_free {
        count_free(call.image, call.old.size);
    } else {
        let block = Block { target: Cookie(call.cookie).target(), image: call.image, address: call.argument };
        put(block, NurseryEntry { stack: stack::recall(call.image, call.old.stack), ..call.old });
    }
}

/// Puts a block in.
#[inline(never)]
fn put(block: Block, entry: NurseryEntry) {
    if !block.has_key() {
        return spill(block, &entry);
    }
    let key = block.key();
    let mut forgotten = NurseryEntry::default();
    // A pointer that is handed out again was freed, whatever was missed.
    if take(block, &mut forgotten) {
        count_free(block.image, forgotten.size);
    }
    let Some(slot) = Slot::claim_free(table::NURSERY, key) else { return spill(block, &entry) };
    if let Some(place) = NURSERY.get_ptr_mut(slot.value()) {
        // SAFETY: a map value, valid while the program runs, and claimed.
        unsafe { place.write_volatile(entry) };
    }
    slot.publish(key);
    raise_pressure(block.image);
}

/// Userspace is told at once of a block for which there is no place. Not while sampling: then it takes the nursery for all that lives.
#[inline(never)]
fn spill(block: Block, entry: &NurseryEntry) {
    let header = Header { kind: kind::ALLOCATION, image: block.image, time: entry.time };
    let record = AllocationRecord { header, address: block.address, size: entry.size, stack: entry.stack };
    if sampling::is_on() || !records::allocation(&record) {
        totals::count(block.image, offset_of!(ImageTotals, nursery_full));
    }
}

#[inline(always)]
fn count_free(image: u32, size: u64) {
    if let Some(totals) = totals::of(image) {
        totals::add(&raw mut totals.frees, 1);
        totals::add(&raw mut totals.freed_bytes, size);
    }
}

/// Counts an insertion and calls userspace when there were many. The counts are hints: races only move the moment.
#[inline(always)]
fn raise_pressure(image: u32) {
    let Some(pressure) = pressure() else { return };
    pressure.net += 1;
    // SAFETY: a plain read of a constant that the loader may have replaced.
    let mark = unsafe { core::ptr::read_volatile(&raw const NURSERY_MARK) };
    if pressure.net - pressure.base >= mark as i64 {
        pressure.base = pressure.net;
        records::control(&Header { kind: kind::NURSERY_FILLING, image, time: 0 });
    }
}

/// Counts a removal. The base sinks with the count, so that a CPU that frees what others allocate calls in time when it
/// begins to allocate itself.
#[inline(always)]
fn lower_pressure() {
    let Some(pressure) = pressure() else { return };
    pressure.net -= 1;
    if pressure.net < pressure.base {
        pressure.base = pressure.net;
    }
}

#[inline(always)]
fn pressure() -> Option<&'static mut Pressure> {
    // SAFETY: the element is this CPU's and outlives the program.
    PRESSURE.get_ptr_mut(0).map(|pressure| unsafe { &mut *pressure })
}
