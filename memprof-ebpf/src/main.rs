//! memprof's BPF programs: one for each behaviour of an allocator function, not for each function. The attach cookie
//! says which process and which function fired.
//!
//! An entry keeps what the return will need ([`in_flight`]); a return puts the new block into the nursery ([`nursery`])
//! with its stack ([`stack`]); a free takes it out again. What dies in the nursery costs userspace nothing. What was
//! drained from it is freed through the ring ([`records`]).
//!
//! Beside these, [`growth`] counts where memory is touched for the first time, without any probe.
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "AtomicU64 has no read-modify-write operations on BPF targets")]

mod arch;
mod areas;
mod buckets;
mod calls;
mod copy;
mod following;
mod growth;
mod in_flight;
mod kernel_structs;
mod lifecycle;
mod mapping_changes;
mod maps;
mod measure;
mod memo;
mod nursery;
mod records;
mod return_probes;
mod sampling;
mod stack;
mod stack_table;
mod totals;
mod trace;
mod unwind;
mod windows;

use core::mem::offset_of;

use arch::Returning;
use aya_ebpf::{
    helpers::bpf_probe_read_user,
    macros::{fexit, perf_event, raw_tracepoint, uprobe, uretprobe},
    programs::{FExitContext, PerfEventContext, ProbeContext, RawTracePointContext, RetProbeContext},
};
use in_flight::{Closed, Entered};
use maps::SITES;
use memprof_common::{Call, ImageTotals, NO_ARGUMENT, Site, result};
use nursery::Block;

/// The size of a product that overflows to zero: a call that fails is not to be taken for one that asks for nothing.
const OVERFLOW: u64 = u64::MAX;

/// `malloc(size)`, and what is called like it
#[uprobe]
pub fn enter_size0(ctx: ProbeContext) -> u32 {
    in_flight::enter(&ctx, Entered::of_size(argument(&ctx, 0)));
    0
}

/// A function of the user's own that is `allocate(anything, size)`.
#[uprobe]
pub fn enter_size1(ctx: ProbeContext) -> u32 {
    in_flight::enter(&ctx, Entered::of_size(argument(&ctx, 1)));
    0
}

/// `calloc(count, size)`
#[uprobe]
pub fn enter_product0(ctx: ProbeContext) -> u32 {
    in_flight::enter(&ctx, Entered::of_size(product(argument(&ctx, 0), argument(&ctx, 1))));
    0
}

/// `realloc(pointer, size)`
#[uprobe]
pub fn enter_resize(ctx: ProbeContext) -> u32 {
    in_flight::enter(&ctx, Entered::of_resizing(argument(&ctx, 1), argument(&ctx, 0)));
    0
}

/// Whatever the site says: functions that are rare, whose arguments are elsewhere, or that have no return probe
#[uprobe]
pub fn enter_described(ctx: ProbeContext) -> u32 {
    if let Some(site) = SITES.get(arch::cookie(&ctx).site()) {
        in_flight::enter(&ctx, described(&ctx, site));
    }
    0
}

/// The new pointer is the return value; null is a failure.
#[uretprobe]
pub fn return_pointer(ctx: RetProbeContext) -> u32 {
    calls::count(arch::cookie(&ctx), |calls| &mut calls.allocations);
    if let Some(closed) = in_flight::leave(&ctx) {
        nursery::allocated(&ctx, closed, ctx.value(), 0);
    }
    0
}

/// A block was resized: on success the old one is free, even where the new one has its address; on failure it lives.
#[uretprobe]
pub fn return_resized(ctx: RetProbeContext) -> u32 {
    calls::count(arch::cookie(&ctx), |calls| &mut calls.resizes);
    if let Some(closed) = in_flight::leave(&ctx) {
        resized_or_allocated(&ctx, closed);
    }
    0
}

/// A function without a return probe is about to return, or something else is that shares its last instructions with it: the
/// new pointer is the return value.
#[uprobe]
pub fn exit_pointer(ctx: ProbeContext) -> u32 {
    let cookie = arch::cookie(&ctx);
    let resizes = SITES.get(cookie.site()).is_some_and(|site| site.resizes != 0);
    calls::count(cookie, |calls| if resizes { &mut calls.resizes } else { &mut calls.allocations });
    if let Some(closed) = in_flight::leave_by_exit(&ctx) {
        resized_or_allocated(&ctx, closed);
    }
    0
}

/// Whatever the site says of the result.
#[uretprobe]
pub fn return_described(ctx: RetProbeContext) -> u32 {
    let cookie = arch::cookie(&ctx);
    let Some(site) = SITES.get(cookie.site()) else { return 0 };
    let resizes = site.resizes != 0;
    calls::count(cookie, |calls| if resizes { &mut calls.resizes } else { &mut calls.allocations });
    if let Some(closed) = in_flight::leave(&ctx)
        && let Ok((address, old_is_free)) = outcome(&ctx, closed.call, site.result)
    {
        let old = if resizes { closed.call.argument } else { 0 };
        if old != 0 {
            nursery::resized(&ctx, &closed, address, old_is_free);
        }
        nursery::allocated(&ctx, closed, address, old);
    }
    0
}

/// `free(pointer)` and its kin
#[uprobe]
pub fn free(ctx: ProbeContext) -> u32 {
    freed(&ctx, argument(&ctx, 0));
    0
}

/// A function that frees another argument than its first
#[uprobe]
pub fn free_described(ctx: ProbeContext) -> u32 {
    if let Some(site) = SITES.get(arch::cookie(&ctx).site()) {
        freed(&ctx, arch::argument_at(&ctx, site.block));
    }
    0
}

/// A process replaced its program.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn process_exec(ctx: RawTracePointContext) -> i32 {
    lifecycle::exec(&ctx);
    0
}

/// A process or a thread was forked.
#[raw_tracepoint(tracepoint = "sched_process_fork")]
pub fn process_fork(ctx: RawTracePointContext) -> i32 {
    following::fork(&ctx);
    0
}

/// A thread exits.
#[raw_tracepoint(tracepoint = "sched_process_exit")]
pub fn thread_exit(ctx: RawTracePointContext) -> i32 {
    lifecycle::thread_exit(&ctx);
    0
}

/// A process maps or unmaps something.
#[raw_tracepoint(tracepoint = "ma_write")]
pub fn mappings_change(ctx: RawTracePointContext) -> i32 {
    mapping_changes::stored(&ctx);
    0
}

/// A page fault has brought a page in.
#[perf_event]
pub fn page_fault(ctx: PerfEventContext) -> u32 {
    growth::page_fault(&ctx);
    0
}

/// `do_huge_pmd_anonymous_page(fault)`: a huge page was brought in, if it could be had.
#[fexit(function = "do_huge_pmd_anonymous_page")]
pub fn huge_page(ctx: FExitContext) -> i32 {
    growth::huge_page(&ctx);
    0
}

#[inline(always)]
fn freed(ctx: &ProbeContext, address: u64) {
    let cookie = arch::cookie(ctx);
    calls::count(cookie, |calls| &mut calls.frees);
    if !measure::EMPTY
        && address != 0
        && let Some(image) = maps::image_of(cookie)
    {
        let block = Block { target: cookie.target(), image, address };
        if trace::is_on() { trace::freed(ctx, cookie.site(), block) } else { nursery::freed(block) }
    }
}

#[inline(always)]
fn resized_or_allocated(ctx: &impl Returning, closed: Closed) {
    let (call, new) = (closed.call, ctx.value());
    // glibc's `realloc(p, 0)` frees and returns null; elsewhere null is a failure that leaves the old block alone.
    let old_is_free = new != 0 || call.size == 0;
    if call.argument != 0 {
        nursery::resized(ctx, &closed, new, old_is_free);
    }
    nursery::allocated(ctx, closed, new, call.argument);
}

/// The address of the new block, null if there is none, and whether the old one is free. An error is counted.
#[inline(always)]
fn outcome(ctx: &RetProbeContext, call: &Call, kind: u8) -> Result<(u64, bool), ()> {
    let value = ctx.value();
    match kind {
        result::WRITTEN if value as u32 != 0 => Ok((0, false)),
        result::WRITTEN => {
            // SAFETY: the helper checks the address, which is the target's.
            let written = unsafe { bpf_probe_read_user(call.argument as *const u64) };
            let address = written.map_err(|_| totals::count(call.image, offset_of!(ImageTotals, missed_returns)))?;
            Ok((address, false))
        }
        result::SIZE if value >= call.size => Ok((call.argument, true)),
        result::SIZE => Ok((0, false)),
        result::POINTER_OR_FREED => Ok((value, true)),
        _ => Ok((value, value != 0 || call.size == 0)),
    }
}

#[inline(always)]
fn described(ctx: &ProbeContext, site: &Site) -> Entered {
    let of = |index: u8| arch::argument_at(ctx, index);
    let size = if site.factor == NO_ARGUMENT { of(site.size) } else { product(of(site.size), of(site.factor)) };
    let keeps_return_address = site.has_exits != 0;
    let return_address = if keeps_return_address { arch::return_address(arch::stack_pointer_at_entry(ctx)) } else { 0 };
    Entered { size, argument: of(site.block), resizes: site.resizes != 0, return_address }
}

#[inline(always)]
fn argument(ctx: &ProbeContext, index: usize) -> u64 {
    ctx.arg(index).unwrap_or(0)
}

#[inline(always)]
fn product(count: u64, size: u64) -> u64 {
    let product = count.wrapping_mul(size);
    if product == 0 && count != 0 && size != 0 { OVERFLOW } else { product }
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// The helpers used are for programs under a GPL-compatible licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
