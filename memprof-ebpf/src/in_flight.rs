//! Which allocator calls each thread is in, from entry to return.
//!
//! Nested calls are one event. `realloc` that calls `malloc`, or an interposed `malloc` that calls libc's, is seen
//! twice, but only the outermost call means what the program asked for. A call is nested in an open one if it comes from
//! the code of the open one's own object (or took over its frame by a tail jump); a call from elsewhere, made while
//! another is open, is that of a signal handler and counts by itself.
//!
//! A call may never return: `longjmp` out of it, or `pthread_exit`. Once the stack pointer is above its frame, or another
//! call's return address is in the place of its own, it cannot: this is the rule by which the kernel itself discards
//! return probes (`arch_uretprobe_is_alive` in arch/x86/kernel/uprobes.c), made stricter.
//!
//! Before that, the return address in its frame tells: while the call can return, that is the kernel's trampoline. Yet
//! there is a moment when it is not, and the call returns all the same: the trampoline itself saves registers where the
//! return address was (`uretprobe_trampoline_entry` there, since Linux 6.11), and a signal handler may run just then. So
//! a call whose return address was overwritten is counted as missed, and nothing is taken for nested in it; but it is
//! kept, and the count is taken back if it returns. Where the return address has survived its call by chance, calls from
//! the allocator's object can be taken for nested that are not: those are counted too, when the call is given up.

use core::mem::offset_of;

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    programs::{ProbeContext, RetProbeContext},
};
use aya_log_ebpf::debug;
use memprof_common::{Call, Cookie, ImageTotals, InFlight, MAX_CALLS, NewestBlock, buckets::table};

use crate::{
    arch,
    buckets::Slot,
    maps::{IN_FLIGHT, SITES, image_of},
    measure,
    nursery::{self, Block},
    totals, trace, windows,
};

/// What an entry saw.
pub struct Entered {
    /// Bytes requested.
    pub size: u64,
    /// The old pointer, or where the new one will be written.
    pub argument: u64,
    /// Whether `argument` is a block that the call frees if it succeeds.
    pub resizes: bool,
    /// The return address, if it stays where it is; else zero.
    pub return_address: u64,
}

impl Entered {
    /// A call that only allocates.
    #[inline(always)]
    pub fn of_size(size: u64) -> Self {
        Self { size, argument: 0, resizes: false, return_address: 0 }
    }

    /// A call that frees the block `argument` if it succeeds.
    #[inline(always)]
    pub fn of_resizing(size: u64, argument: u64) -> Self {
        Self { size, argument, resizes: true, return_address: 0 }
    }
}

/// A call that was open and returns.
pub struct Closed {
    /// What is known of it.
    pub call: &'static Call,
    /// Of its thread.
    pub newest: &'static mut NewestBlock,
}

/// Opens a call, unless it is nested in one that is open.
#[inline(always)]
pub fn enter(ctx: &ProbeContext, entered: Entered) {
    if measure::EMPTY {
        return;
    }
    let cookie = arch::cookie(ctx);
    let Some(image) = image_of(cookie) else { return };
    if windows::is_stale(cookie) {
        return;
    }
    let Some(thread) = current_thread() else {
        debug!(ctx, "no room to follow another thread");
        return totals::count(image, offset_of!(ImageTotals, in_flight_full));
    };
    let stack_pointer = arch::stack_pointer_at_entry(ctx);
    if thread.depth != 0 {
        retire_abandoned(thread, stack_pointer, cookie);
        if is_nested(thread, stack_pointer) {
            return;
        }
        make_room(thread);
    }
    let depth = thread.depth as usize;
    if depth >= MAX_CALLS {
        debug!(ctx, "allocator calls open at once: {}", depth);
        return totals::count(image, offset_of!(ImageTotals, in_flight_full));
    }
    let call = &mut thread.calls[depth & (MAX_CALLS - 1)];
    call.stack_pointer = stack_pointer;
    call.cookie = cookie.0;
    call.instruction_pointer = arch::instruction_pointer(ctx);
    call.image = image;
    call.is_missed = 0;
    call.nested = 0;
    call.size = entered.size;
    call.argument = entered.argument;
    call.return_address = entered.return_address;
    if entered.resizes {
        let old = Block { target: cookie.target(), image, address: entered.argument };
        call.old_is_taken = nursery::take(old, &mut call.old) as u32;
        if trace::is_on() {
            trace::resizing(old);
        }
        // Before the old block can be anybody else's: its address may be handed out again before this call returns.
        // SAFETY: the helper has no preconditions.
        call.time = unsafe { bpf_ktime_get_ns() };
    }
    thread.depth = depth as u64 + 1;
}

/// Closes the call that returns, if it is one that was opened.
#[inline(always)]
pub fn leave(ctx: &RetProbeContext) -> Option<Closed> {
    if measure::EMPTY {
        return None;
    }
    close(arch::stack_pointer_at_entry_from_return(ctx), |call| call.cookie == arch::cookie(ctx).0)
}

/// Closes the call that is about to return by a `ret` instruction, if it is one that was opened without a return probe. The
/// instruction may be that of a function to which the one that was entered has jumped.
#[inline(always)]
pub fn leave_by_exit(ctx: &ProbeContext) -> Option<Closed> {
    if measure::EMPTY {
        return None;
    }
    close(arch::stack_pointer_at_entry(ctx), |call| call.return_address != 0)
}

#[inline(always)]
fn close(stack_pointer: u64, is_ours: impl Fn(&Call) -> bool) -> Option<Closed> {
    let thread = thread_at(Slot::find(table::THREADS, bpf_get_current_pid_tgid())?)?;
    for _ in 0..MAX_CALLS {
        let call: *const Call = innermost(thread)?;
        // SAFETY: it points into `thread`, which only this thread changes.
        let call = unsafe { &*call };
        if call.stack_pointer > stack_pointer {
            return None;
        }
        if call.stack_pointer == stack_pointer {
            // Another cookie: the return of a function that took over the open call's frame, or of another target's probe.
            if !is_ours(call) {
                return None;
            }
            thread.depth -= 1;
            if call.is_missed != 0 {
                count_missed(call, 1u64.wrapping_neg());
            }
            return Some(Closed { call, newest: &mut thread.newest });
        }
        abandon(thread);
    }
    None
}

/// What the current thread has allocated last; nothing if it has not allocated yet.
#[inline(always)]
pub fn newest() -> Option<&'static NewestBlock> {
    let thread = thread_at(Slot::find(table::THREADS, bpf_get_current_pid_tgid())?)?;
    Some(&thread.newest)
}

/// Forgets a thread that is in no call any more.
#[inline(always)]
pub fn forget(thread: u64) {
    if let Some(slot) = Slot::find(table::THREADS, thread)
        && slot.claim(thread)
    {
        slot.free();
    }
}

#[inline(always)]
fn current_thread() -> Option<&'static mut InFlight> {
    let key = bpf_get_current_pid_tgid();
    match Slot::find(table::THREADS, key) {
        Some(slot) => thread_at(slot),
        None => new_thread(key),
    }
}

#[inline(always)]
fn new_thread(key: u64) -> Option<&'static mut InFlight> {
    let slot = Slot::claim_free(table::THREADS, key)?;
    let thread = thread_at(slot)?;
    thread.depth = 0;
    thread.newest.address = 0;
    slot.publish(key);
    Some(thread)
}

/// The thread's own: nobody else uses it.
#[inline(always)]
fn thread_at(slot: Slot) -> Option<&'static mut InFlight> {
    // SAFETY: the element is this thread's alone.
    IN_FLIGHT.get_ptr_mut(slot.value()).map(|thread| unsafe { &mut *thread })
}

/// The innermost open call.
#[inline(always)]
fn innermost(thread: &mut InFlight) -> Option<&mut Call> {
    match thread.depth as usize {
        0 => None,
        depth => Some(&mut thread.calls[(depth - 1) & (MAX_CALLS - 1)]),
    }
}

/// Closes the open calls that cannot return any more, now that the stack pointer is here at the entry of `cookie`.
#[inline(always)]
fn retire_abandoned(thread: &mut InFlight, stack_pointer: u64, cookie: Cookie) {
    for _ in 0..MAX_CALLS {
        let Some(call) = innermost(thread) else { return };
        // Where the frame is the same one, the open call can only have jumped here.
        let may_return = call.stack_pointer > stack_pointer
            || call.stack_pointer == stack_pointer && call.cookie != cookie.0 && has_return_address(call);
        if may_return && !windows::is_stale(Cookie(call.cookie)) {
            return;
        }
        abandon(thread);
    }
}

/// Gives up the innermost open call. It is counted unless it has been.
#[inline(always)]
fn abandon(thread: &mut InFlight) {
    let Some(call) = innermost(thread) else { return };
    count_missed(call, 1 - u64::from(call.is_missed & 1) + u64::from(call.nested));
    thread.depth -= 1;
}

/// Where too many calls are open, gives up the innermost if it looks as if it will not return.
#[inline(always)]
fn make_room(thread: &mut InFlight) {
    if thread.depth as usize >= MAX_CALLS && innermost(thread).is_some_and(|call| call.is_missed != 0) {
        abandon(thread);
    }
}

#[inline(always)]
fn count_missed(call: &Call, calls: u64) {
    if !windows::is_stale(Cookie(call.cookie)) {
        totals::count_many(call.image, offset_of!(ImageTotals, missed_returns), calls);
    }
}

/// Whether a call entered at `stack_pointer` is part of the innermost open one.
#[inline(always)]
fn is_nested(thread: &mut InFlight, stack_pointer: u64) -> bool {
    let Some(open) = innermost(thread) else { return false };
    if !has_return_address(open) {
        expect_no_return(open);
        return false;
    }
    let caller = arch::return_address(stack_pointer);
    let is_nested =
        open.stack_pointer == stack_pointer || arch::may_be_trampoline(caller) || is_in_object_of(open, caller);
    open.nested += u32::from(is_nested);
    is_nested
}

/// Whether the return address in the call's frame is still what it was: the kernel's trampoline, unless the function has no
/// return probe.
#[inline(always)]
fn has_return_address(call: &Call) -> bool {
    let word = arch::return_address(call.stack_pointer);
    if call.return_address != 0 { word == call.return_address } else { arch::may_be_trampoline(word) }
}

#[inline(always)]
fn expect_no_return(call: &mut Call) {
    if call.is_missed == 0 {
        call.is_missed = 1;
        count_missed(call, 1);
    }
}

#[inline(always)]
fn is_in_object_of(call: &Call, address: u64) -> bool {
    let Some(site) = SITES.get(Cookie(call.cookie).site()) else { return false };
    let start = call.instruction_pointer.wrapping_sub(site.bytes_before);
    address.wrapping_sub(start) < site.bytes_before + site.bytes_after
}
