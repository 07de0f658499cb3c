//! Stacks: captured into scratch, named by a 64-bit hash, sent to userspace once.
//!
//! Not `bpf_get_stackid`: its 32-bit names collide, and those that lose are the hot ones.

use core::intrinsics::{AtomicOrdering, atomic_xchg};

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_F_USER_STACK, BPF_NOEXIST},
    helpers::{bpf_ktime_get_ns, generated::bpf_get_stack},
    programs::RetProbeContext,
};
use aya_log_ebpf::debug;
use memprof_common::{Header, MAX_FRAMES, StackRecord, StackTotals, UNKNOWN_STACK, kind};

use crate::{
    maps::{SCRATCH, SCRATCH_SLOTS, STACKS, Scratch},
    records, totals,
};

const EEXIST: i32 = -17;

/// Captures the stack of an allocation of `size` bytes, counts the allocation there, and returns the stack's name,
/// or [`UNKNOWN_STACK`], which is counted by its cause.
#[inline(always)]
pub fn capture(ctx: &RetProbeContext, image: u32, size: u64) -> u64 {
    let Some(scratch) = claim() else {
        debug!(ctx, "no scratch left to capture a stack in");
        totals::count(image, |totals| &raw mut totals.stacks_unreadable);
        return UNKNOWN_STACK;
    };
    let stack = capture_into(ctx, &mut scratch.record, image, size);
    release(scratch);
    stack
}

#[inline(always)]
fn capture_into(ctx: &RetProbeContext, record: &mut StackRecord, image: u32, size: u64) -> u64 {
    record.depth = walk(ctx, &mut record.frames);
    if record.depth == 0 {
        totals::count(image, |totals| &raw mut totals.stacks_unreadable);
        return UNKNOWN_STACK;
    }
    let stack = hash(record, image);
    if let Some(known) = STACKS.get_ptr_mut(stack) {
        count(known, size);
        return stack;
    }
    introduce(record, stack, image, size)
}

/// Fills `frames` with return addresses, from the allocator's caller outwards, and returns how many there are.
#[inline(always)]
fn walk(ctx: &RetProbeContext, frames: &mut [u64; MAX_FRAMES]) -> u64 {
    // SAFETY: the buffer is as large as said.
    let bytes = unsafe {
        bpf_get_stack(ctx.as_ptr(), frames.as_mut_ptr().cast(), size_of_val(frames) as u32, u64::from(BPF_F_USER_STACK))
    };
    if bytes <= 0 { 0 } else { bytes as u64 / 8 }
}

/// Names a stack. The image is part of the name: equal addresses in two images are two stacks.
#[inline(always)]
fn hash(record: &StackRecord, image: u32) -> u64 {
    let mut hash = mix(u64::from(image) + 1);
    for index in 0..MAX_FRAMES {
        if index as u64 >= record.depth {
            break;
        }
        hash = mix(hash ^ record.frames[index]);
    }
    if hash == UNKNOWN_STACK { 1 } else { hash }
}

#[inline(always)]
fn mix(word: u64) -> u64 {
    let word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word ^ word >> 32
}

/// Enters a new stack and sends its frames. If they cannot be sent, the entry is taken back, so that the next
/// allocation there tries again.
#[inline(always)]
fn introduce(record: &mut StackRecord, stack: u64, image: u32, size: u64) -> u64 {
    let first = StackTotals { allocations: 1, allocated_bytes: size };
    match STACKS.insert(stack, &first, u64::from(BPF_NOEXIST)) {
        Ok(()) => {}
        Err(EEXIST) => {
            if let Some(known) = STACKS.get_ptr_mut(stack) {
                count(known, size);
            }
            return stack;
        }
        Err(_) => {
            totals::count(image, |totals| &raw mut totals.stacks_table_full);
            return UNKNOWN_STACK;
        }
    }
    // SAFETY: the helper has no preconditions.
    record.header = Header { kind: kind::STACK, image, time: unsafe { bpf_ktime_get_ns() } };
    record.stack = stack;
    if records::stack(record) {
        return stack;
    }
    // An error means that it is gone already.
    let _ = STACKS.remove(stack);
    totals::count(image, |totals| &raw mut totals.stacks_ring_full);
    UNKNOWN_STACK
}

#[inline(always)]
fn count(stack: *mut StackTotals, size: u64) {
    // SAFETY: a map value, valid while the program runs.
    let stack = unsafe { &mut *stack };
    totals::add(&raw mut stack.allocations, 1);
    totals::add(&raw mut stack.allocated_bytes, size);
}

#[inline(always)]
fn claim() -> Option<&'static mut Scratch> {
    for slot in 0..SCRATCH_SLOTS {
        let scratch = SCRATCH.get_ptr_mut(slot)?;
        // SAFETY: the element is this CPU's; the exchange makes it this program's.
        let scratch = unsafe { &mut *scratch };
        // SAFETY: `busy` is a field of a map value.
        if unsafe { atomic_xchg::<_, { AtomicOrdering::AcqRel }>(&raw mut scratch.busy, 1) } == 0 {
            return Some(scratch);
        }
    }
    None
}

#[inline(always)]
fn release(scratch: &mut Scratch) {
    // SAFETY: `busy` is a field of a map value.
    unsafe { core::ptr::write_volatile(&raw mut scratch.busy, 0) };
}
