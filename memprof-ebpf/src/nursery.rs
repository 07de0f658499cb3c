//! The nursery: live blocks that userspace has not seen. Most blocks are freed while they are here.
//!
//! While sampling, it holds every live block that was taken, and userspace reads it without removing any: so a free that does
//! not find its block here is of one that was not taken, and nobody has to be told.

use aya_ebpf::{
    bindings::{BPF_ANY, BPF_NOEXIST},
    helpers::bpf_ktime_get_ns,
    programs::RetProbeContext,
};
use memprof_common::{Call, Header, NurseryEntry, NurseryKey, kind};

use crate::{
    maps::{NURSERY, PRESSURE, Pressure},
    records, sampling, stack, totals,
};

/// Net insertions on one CPU after which userspace is called to drain. The loader sets it.
#[unsafe(no_mangle)]
static NURSERY_MARK: u64 = 1 << 16;

const EEXIST: i32 = -17;

/// A block was allocated; a null address is a failure, which is no allocation.
#[inline(always)]
pub fn allocated(ctx: &RetProbeContext, call: &Call, address: u64) {
    if address == 0 {
        return;
    }
    let (image, size) = (call.image, call.size);
    if let Some(totals) = totals::of(image) {
        totals::add(&raw mut totals.allocations, 1);
        totals::add(&raw mut totals.allocated_bytes, size);
    }
    if !sampling::takes(size) {
        return forget(image, address);
    }
    let stack = stack::capture(ctx, call);
    // SAFETY: the helper has no preconditions.
    let entry = NurseryEntry { size, stack, time: unsafe { bpf_ktime_get_ns() } };
    put(image, address, &entry);
}

/// A block was freed at `time`.
#[inline(always)]
pub fn freed(image: u32, address: u64, time: u64) {
    let mut entry = NurseryEntry::default();
    if take(image, address, &mut entry) {
        count_free(image, entry.size);
    } else if !sampling::is_on() {
        records::free(image, address, time);
    }
}

/// A block was allocated that is not taken. A pointer that is handed out again was freed, whatever was missed.
#[inline(always)]
fn forget(image: u32, address: u64) {
    let mut entry = NurseryEntry::default();
    if take(image, address, &mut entry) {
        count_free(image, entry.size);
    }
}

/// Moves a block out of the nursery into `entry`; says whether it was there. If it is drained between the look-up and
/// the removal, it was not: userspace has it, and must be told of the free.
#[inline(always)]
pub fn take(image: u32, address: u64, entry: &mut NurseryEntry) -> bool {
    let key = NurseryKey { address, image, reserved: 0 };
    // SAFETY: nobody else frees or replaces a block that its owner is just freeing.
    let Some(found) = (unsafe { NURSERY.get(&key) }) else { return false };
    *entry = *found;
    let taken = NURSERY.remove(&key).is_ok();
    if taken {
        lower_pressure();
    }
    taken
}

/// Settles the old block of a `realloc` that has returned.
#[inline(always)]
pub fn resized(call: &Call, old_is_free: bool) {
    if call.old_is_taken == 0 {
        if old_is_free && !sampling::is_on() {
            records::free(call.image, call.argument, call.time);
        }
    } else if old_is_free {
        count_free(call.image, call.old.size);
    } else {
        put(call.image, call.argument, &NurseryEntry { stack: stack::recall(call.image, call.old.stack), ..call.old });
    }
}

/// Puts a block in. A pointer that is handed out again was freed, whatever was missed.
#[inline(always)]
fn put(image: u32, address: u64, entry: &NurseryEntry) {
    let key = NurseryKey { address, image, reserved: 0 };
    match NURSERY.insert(&key, entry, u64::from(BPF_NOEXIST)) {
        Ok(()) => raise_pressure(image),
        Err(EEXIST) => replace(&key, entry),
        Err(_) => totals::count(image, |totals| &raw mut totals.nursery_full),
    }
}

#[inline(always)]
fn replace(key: &NurseryKey, entry: &NurseryEntry) {
    // SAFETY: the size is read before the element can be anybody else's: its owner is in this very call.
    if let Some(forgotten) = unsafe { NURSERY.get(key) } {
        count_free(key.image, forgotten.size);
    }
    if NURSERY.insert(key, entry, u64::from(BPF_ANY)).is_err() {
        totals::count(key.image, |totals| &raw mut totals.nursery_full);
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
