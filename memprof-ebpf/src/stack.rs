//! Stacks: unwound into scratch, named by a 64-bit hash, sent to userspace once.
//!
//! Not `bpf_get_stackid`: its 32-bit names collide, and those that lose are the hot ones.

use core::{
    intrinsics::{AtomicOrdering, atomic_xchg},
    mem::offset_of,
};

use aya_ebpf::helpers::bpf_ktime_get_ns;
use aya_log_ebpf::debug;
use memprof_common::{
    Call, Cookie, Header, IS_COPY, ImageTotals, MAX_FRAMES, StackFrame, StackTotals, UNKNOWN_STACK,
    buckets::stack_key,
    kind,
    tables::{FrameWord, ended},
};

use crate::{
    arch::Returning,
    copy,
    maps::{SCRATCH, SCRATCH_SLOTS, SPACES, Scratch, Walk},
    measure, memo, records,
    stack_table::Table,
    totals, unwind,
};

/// Captures the stack that `call` returns to, counts the allocation there, and returns the stack's name, or
/// [`UNKNOWN_STACK`], which is counted by its cause.
#[inline(never)]
pub fn capture(ctx: &impl Returning, call: &Call) -> u64 {
    if measure::NO_STACK {
        return measure::ANY_STACK;
    }
    let Some(scratch) = claim() else {
        debug!(ctx, "no scratch left to capture a stack in");
        totals::count(call.image, offset_of!(ImageTotals, stacks_unreadable));
        return UNKNOWN_STACK;
    };
    let stack = capture_into(ctx, scratch, call);
    release(scratch);
    stack
}

/// A slot of this CPU's scratch, claimed. No reference: the functions that fill it are called with the number alone.
#[derive(Clone, Copy)]
struct Claimed {
    slot: u32,
    scratch: *mut Scratch,
}

#[inline(always)]
fn capture_into(ctx: &impl Returning, claimed: Claimed, call: &Call) -> u64 {
    let is_known = start(ctx, claimed, call);
    let table = Table::current();
    if is_known && let Some(stack) = as_before(ctx, table, claimed.slot, call) {
        return stack;
    }
    if is_known && walk(ctx, claimed.slot) == 0 {
        totals::count(call.image, offset_of!(ImageTotals, stacks_unreadable));
        return UNKNOWN_STACK;
    }
    // SAFETY: a map value, valid while the program runs.
    let (hash, ended) = unsafe { ((*claimed.scratch).walk.hash, (*claimed.scratch).walk.ended) };
    if is_known && ended & ended::IN_UNKNOWN_CODE == 0 {
        let stack = stack_key(hash);
        if let Some(known) = table.find(stack) {
            count(known, ctx.counts(call));
            memo::remember(claimed.slot);
            return stack;
        }
        if place_frames(claimed.slot) != 0 {
            return introduce(claimed, table, stack, call.image, ctx.counts(call));
        }
    }
    copy::keep(ctx, claimed.slot, call)
}

/// The stack, if it is known without a walk.
#[inline(always)]
fn as_before(ctx: &impl Returning, table: Table, slot: u32, call: &Call) -> Option<u64> {
    let stack = match memo::recall(slot) {
        0 => return None,
        hash => stack_key(hash),
    };
    count(table.find(stack)?, ctx.counts(call));
    Some(stack)
}

/// The name of the stack of a block that was out of userspace's sight for a while, within a call of `realloc` that has failed.
/// Meanwhile, userspace may have forgotten a stack that nothing seemed to hold; not if it was entered again.
#[inline(always)]
pub fn recall(image: u32, stack: u64) -> u64 {
    if stack == UNKNOWN_STACK || stack & IS_COPY != 0 || Table::current().find(stack).is_some() {
        return stack;
    }
    totals::count(image, offset_of!(ImageTotals, stacks_table_full));
    UNKNOWN_STACK
}

/// Leaves the frames in scratch, and returns their number.
#[inline(always)]
fn walk(ctx: &impl Returning, slot: u32) -> u32 {
    if measure::KERNEL_WALK { measure::kernel_walk(ctx, slot) } else { unwind::unwind(slot) }
}

/// The registers of the caller, to which the function has just returned. The image and the generation of its mappings are
/// part of the stack's name: equal addresses that mean other code are another stack. `false` if what is known of its code may
/// be void.
#[inline(always)]
fn start(ctx: &impl Returning, claimed: Claimed, call: &Call) -> bool {
    let caller = ctx.caller();
    // SAFETY: nobody else uses the walk yet.
    let walk = unsafe { &mut (*claimed.scratch).walk };
    walk.ip = caller.ip;
    walk.sp = caller.sp;
    walk.bp = caller.bp;
    walk.target = Cookie(call.cookie).target();
    walk.ended = ended::COMPLETE;
    walk.window_start = NO_WINDOW;
    walk.hash = mix(u64::from(call.image) + 1);
    let Some(space) = SPACES.get_ptr(walk.target) else { return true };
    // In this order: who sees the last change taken into account sees the generation that it has begun.
    // SAFETY: a map value, valid while the program runs; words that are written as such.
    let (known, changes, generation, stack_end) = unsafe {
        (
            core::ptr::read_volatile(&raw const (*space).changes_known),
            core::ptr::read_volatile(&raw const (*space).changes),
            core::ptr::read_volatile(&raw const (*space).generation),
            core::ptr::read_volatile(&raw const (*space).stack_end),
        )
    };
    walk.hash = mix(walk.hash ^ generation);
    walk.stack_end = stack_end;
    walk.generation = generation;
    known == changes
}

/// No address is near it.
pub const NO_WINDOW: u64 = u64::MAX / 2;

/// Mixes a word into a hash.
#[inline(always)]
pub fn mix(word: u64) -> u64 {
    let word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word ^ word >> 32
}

/// Enters a new stack and sends its frames, which have been placed. If they cannot be sent, the entry is taken back, so that the next
/// allocation there tries again. Two processors can enter one stack at once: userspace adds up what both have counted.
#[inline(always)]
fn introduce(claimed: Claimed, table: Table, stack: u64, image: u32, first: StackTotals) -> u64 {
    let Some(slot) = table.claim_free(stack) else {
        totals::count(image, offset_of!(ImageTotals, stacks_table_full));
        return UNKNOWN_STACK;
    };
    if let Some(place) = table.place(slot) {
        // SAFETY: a map value, valid while the program runs, and claimed.
        unsafe { place.write_volatile(first) };
    }
    // SAFETY: the helper has no preconditions.
    let time = unsafe { bpf_ktime_get_ns() };
    // SAFETY: a map value, valid while the program runs; what filled it has returned.
    let Scratch { walk, record, .. } = unsafe { &mut *claimed.scratch };
    record.header = Header { kind: kind::STACK, image, time };
    record.stack = stack;
    record.depth = walk.depth as u32;
    record.ended = walk.ended;
    if records::stack(record) {
        slot.publish(stack);
        table.count_entry(image);
        return stack;
    }
    slot.free();
    totals::count(image, offset_of!(ImageTotals, stacks_ring_full));
    UNKNOWN_STACK
}

/// Says what each frame lies in, from the mappings that the unwinder has gone by. Zero if one lies in none: what the cache has
/// a rule for may have become uncertain.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn place_frames(slot: u32) -> u32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(slot) else { return 0 };
    // SAFETY: a map value, valid while the program runs; `place` does not touch it.
    let Scratch { walk, record, .. } = unsafe { &mut *scratch };
    let depth = walk.depth;
    for index in 0..MAX_FRAMES {
        if index as u64 >= depth {
            break;
        }
        let address = walk.pcs[index];
        let place = place(walk.target, address);
        record.frames[index] = StackFrame { address, place };
        // Not counted: older verifiers would follow each count by itself.
        if FrameWord(place).place().is_none() {
            return 0;
        }
    }
    1
}

/// A return address's [`FrameWord`].
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn place(target: u32, address: u64) -> u64 {
    let word = match unwind::find_mapping(target, address.wrapping_sub(1)) {
        Some(code) => FrameWord::in_object(code.object, address.wrapping_add(code.file_bias)),
        None => FrameWord::at_address(address),
    };
    word.0
}

#[inline(always)]
fn count(stack: *mut StackTotals, counts: StackTotals) {
    // SAFETY: a map value, valid while the program runs.
    totals::add(unsafe { &raw mut (*stack).allocations }, counts.allocations);
    // SAFETY: likewise.
    totals::add(unsafe { &raw mut (*stack).bytes }, counts.bytes);
}

/// The walk in a slot of this CPU's scratch.
#[inline(always)]
pub fn walk_in(slot: u32) -> Option<*mut Walk> {
    // SAFETY: a map value, valid while the program runs.
    SCRATCH.get_ptr_mut(slot).map(|scratch| unsafe { &raw mut (*scratch).walk })
}

#[inline(always)]
fn claim() -> Option<Claimed> {
    for slot in 0..SCRATCH_SLOTS {
        let scratch = SCRATCH.get_ptr_mut(slot)?;
        // SAFETY: `busy` is a field of a map value.
        if unsafe { atomic_xchg::<_, { AtomicOrdering::AcqRel }>(&raw mut (*scratch).busy, 1) } == 0 {
            return Some(Claimed { slot, scratch });
        }
    }
    None
}

#[inline(always)]
fn release(claimed: Claimed) {
    // SAFETY: `busy` is a field of a map value.
    unsafe { core::ptr::write_volatile(&raw mut (*claimed.scratch).busy, 0) };
}
