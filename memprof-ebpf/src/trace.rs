//! Tracing: each call of an allocator function is told as it happens, and no block rests in the nursery.

use core::mem::offset_of;

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    programs::ProbeContext,
};
use memprof_common::{Call, CallRecord, Header, ImageTotals, ResizingRecord, UNKNOWN_STACK, kind};

use crate::{
    arch::{self, Returning},
    nursery::Block,
    records, totals,
};

/// Whether calls are traced. The loader sets it.
#[unsafe(no_mangle)]
static TRACES: u64 = 0;

/// Whether calls are traced.
#[inline(always)]
pub fn is_on() -> bool {
    // SAFETY: a plain read of a constant that the loader may have replaced.
    unsafe { core::ptr::read_volatile(&raw const TRACES) != 0 }
}

/// A block is about to be freed. Its site leaves the stack pointer where it was at the entry: at the return address.
#[inline(always)]
pub fn freed(ctx: &ProbeContext, site: u32, block: Block) {
    tell_free(arch::stack_pointer_at_entry(ctx), site, block.image, block.address);
}

/// A block is about to be resized.
#[inline(always)]
pub fn resizing(block: Block) {
    if block.address != 0 {
        tell_resizing(block.image, block.address);
    }
}

/// A call that resizes has left no block: it failed, or was one that frees.
#[inline(always)]
pub fn left_nothing(ctx: &impl Returning, call: &Call, old_is_free: bool) {
    tell_return(call, ctx.caller().ip, 0, call.argument, u64::from(old_is_free));
}

/// A block was allocated, in place of `old` if that is not zero.
#[inline(always)]
pub fn allocated(ctx: &impl Returning, call: &Call, new: u64, old: u64, stack: u64) {
    tell_return(call, ctx.caller().ip, new, old, stack);
}

// Not inline: what is rare is to take no room where it is not.

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tell_free(stack_pointer: u64, site: u32, image: u32, address: u64) -> u32 {
    let caller = arch::return_address(stack_pointer);
    tell(&CallRecord { caller, old: address, old_is_free: 1, site, ..of_image(image) })
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn tell_resizing(image: u32, address: u64) -> u32 {
    let CallRecord { header, thread, .. } = of_image(image);
    records::resizing(&ResizingRecord { header: Header { kind: kind::RESIZING, ..header }, thread, address });
    0
}

/// Without a new block, the last word says whether the old one is free.
#[inline(never)]
fn tell_return(call: &Call, caller: u64, new: u64, old: u64, stack_or_free: u64) -> u32 {
    let (size, entered) = (call.size, call.time);
    let old_is_free = old != 0 && (new != 0 || stack_or_free != 0);
    let stack = if new != 0 { stack_or_free } else { UNKNOWN_STACK };
    let record = CallRecord { caller, old, new, size, stack, entered, ..of_image(call.image) };
    tell(&CallRecord { old_is_free: u16::from(old_is_free), resizes: u16::from(old != 0), ..record })
}

#[inline(always)]
fn of_image(image: u32) -> CallRecord {
    // SAFETY: the helper has no preconditions.
    let time = unsafe { bpf_ktime_get_ns() };
    CallRecord {
        header: Header { kind: kind::CALL, image, time },
        thread: bpf_get_current_pid_tgid(),
        stack: UNKNOWN_STACK,
        ..CallRecord::default()
    }
}

#[inline(always)]
fn tell(record: &CallRecord) -> u32 {
    if records::call(record) {
        return 1;
    }
    if record.new != 0 {
        totals::count(record.header.image, offset_of!(ImageTotals, allocations_ring_full));
    }
    if record.old_is_free != 0 {
        totals::count(record.header.image, offset_of!(ImageTotals, frees_ring_full));
    }
    0
}
