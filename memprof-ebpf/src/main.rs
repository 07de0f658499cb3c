//! memprof's BPF programs: one for each behaviour of an allocator function, not for each function. The attach cookie
//! says which process and which function fired.
//!
//! An entry keeps what the return will need ([`in_flight`]); a return puts the new block into the nursery ([`nursery`])
//! with its stack ([`stack`]); a free takes it out again. What dies in the nursery costs userspace nothing. What was
//! drained from it is freed through the ring ([`records`]).
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "AtomicU64 has no read-modify-write operations on BPF targets")]

mod arch;
mod calls;
mod copy;
mod in_flight;
mod kernel_structs;
mod lifecycle;
mod mapping_changes;
mod maps;
mod measure;
mod nursery;
mod records;
mod return_probes;
mod sampling;
mod stack;
mod totals;
mod unwind;
mod windows;

use aya_ebpf::{
    helpers::{bpf_ktime_get_ns, bpf_probe_read_user},
    macros::{raw_tracepoint, uprobe, uretprobe},
    programs::{ProbeContext, RawTracePointContext, RetProbeContext},
};
use in_flight::Entered;

/// The size of a product that overflows to zero: a call that fails is not to be taken for one that asks for nothing.
const OVERFLOW: u64 = u64::MAX;

/// `malloc(size)`, `valloc(size)`, `pvalloc(size)`
#[uprobe]
pub fn enter_size0(ctx: ProbeContext) -> u32 {
    in_flight::enter(&ctx, Entered::of_size(argument(&ctx, 0)));
    0
}

/// `aligned_alloc(alignment, size)`, `memalign(alignment, size)`
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

/// `posix_memalign(&pointer, alignment, size)`
#[uprobe]
pub fn enter_written(ctx: ProbeContext) -> u32 {
    let entered = Entered { size: argument(&ctx, 2), argument: argument(&ctx, 0), resizes: false };
    in_flight::enter(&ctx, entered);
    0
}

/// `realloc(pointer, size)`
#[uprobe]
pub fn enter_resize(ctx: ProbeContext) -> u32 {
    let entered = Entered { size: argument(&ctx, 1), argument: argument(&ctx, 0), resizes: true };
    in_flight::enter(&ctx, entered);
    0
}

/// `reallocarray(pointer, count, size)`
#[uprobe]
pub fn enter_resize_product(ctx: ProbeContext) -> u32 {
    let size = product(argument(&ctx, 1), argument(&ctx, 2));
    in_flight::enter(&ctx, Entered { size, argument: argument(&ctx, 0), resizes: true });
    0
}

/// The new pointer is the return value; null is a failure.
#[uretprobe]
pub fn return_pointer(ctx: RetProbeContext) -> u32 {
    calls::count(arch::cookie(&ctx), |calls| &mut calls.allocations);
    if let Some(call) = in_flight::leave(&ctx)
        && windows::is_observed(call)
    {
        nursery::allocated(&ctx, call, ctx.ret::<u64>());
    }
    0
}

/// The new pointer was written to where the argument points, if the return value is zero.
#[uretprobe]
pub fn return_written(ctx: RetProbeContext) -> u32 {
    calls::count(arch::cookie(&ctx), |calls| &mut calls.allocations);
    if let Some(call) = in_flight::leave(&ctx)
        && windows::is_observed(call)
        && ctx.ret::<u64>() as u32 == 0
    {
        // SAFETY: the helper checks the address, which is the target's.
        match unsafe { bpf_probe_read_user(call.argument as *const u64) } {
            Ok(address) => nursery::allocated(&ctx, call, address),
            Err(_) => totals::count(call.image, |totals| &raw mut totals.missed_returns),
        }
    }
    0
}

/// A block was resized: on success the old one is free, even where the new one has its address; on failure it lives.
#[uretprobe]
pub fn return_resized(ctx: RetProbeContext) -> u32 {
    calls::count(arch::cookie(&ctx), |calls| &mut calls.resizes);
    if let Some(call) = in_flight::leave(&ctx) {
        let new = ctx.ret::<u64>();
        // glibc's `realloc(p, 0)` frees and returns null; elsewhere null is a failure that leaves the old block alone.
        let old_is_free = new != 0 || call.size == 0;
        if call.argument != 0 {
            nursery::resized(call, old_is_free);
        }
        if windows::is_observed(call) {
            nursery::allocated(&ctx, call, new);
        }
    }
    0
}

/// `free(pointer)` and its kin
#[uprobe]
pub fn free(ctx: ProbeContext) -> u32 {
    let (address, cookie) = (argument(&ctx, 0), arch::cookie(&ctx));
    calls::count(cookie, |calls| &mut calls.frees);
    if !measure::EMPTY
        && address != 0
        && let Some(image) = maps::image_of(cookie)
    {
        // SAFETY: the helper has no preconditions.
        nursery::freed(image, address, unsafe { bpf_ktime_get_ns() });
    }
    0
}

/// A process replaced its program.
#[raw_tracepoint(tracepoint = "sched_process_exec")]
pub fn process_exec(ctx: RawTracePointContext) -> i32 {
    lifecycle::exec(&ctx);
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
