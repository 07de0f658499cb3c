//! Variants of the programs, built only to measure against (`cargo xtask bench`): what a part costs is the difference to the
//! programs without it. Without these features, nothing of this is in the object.

use aya_ebpf::{EbpfContext, bindings::BPF_F_USER_STACK, helpers::generated::bpf_get_stack};
use memprof_common::MAX_FRAMES;

use crate::{
    maps::Walk,
    stack::{mix, walk_in},
};

/// Programs that do nothing: the *floor*, which is what the probes themselves cost.
pub const EMPTY: bool = cfg!(feature = "measure-empty");

/// Everything but stacks.
pub const NO_STACK: bool = cfg!(feature = "measure-no-stack");

/// Stacks as the kernel walks them, by frame pointers.
pub const KERNEL_WALK: bool = cfg!(feature = "measure-kernel-walk");

/// Every stack is walked.
pub const NO_MEMOS: bool = cfg!(feature = "measure-no-memos") || KERNEL_WALK;

/// What stands for the stack where none is captured.
pub const ANY_STACK: u64 = 1;

/// Leaves in scratch slot `slot` what [`crate::unwind::unwind`] does, as the kernel's own walk finds it.
#[inline(always)]
pub fn kernel_walk(ctx: &impl EbpfContext, slot: u32) -> u32 {
    let Some(walk) = walk_in(slot) else { return 0 };
    // SAFETY: the element has room for that many; the context is the program's own.
    let bytes = unsafe {
        let frames = (&raw mut (*walk).pcs).cast();
        bpf_get_stack(ctx.as_ptr(), frames, (MAX_FRAMES * 8) as u32, BPF_F_USER_STACK.into())
    };
    // SAFETY: a map value, valid while the program runs, which nobody else uses.
    if bytes <= 0 { 0 } else { hash(unsafe { &mut *walk }, bytes as u32 / 8) }
}

/// Hashes the first `depth` frames as the unwinder does.
#[inline(always)]
fn hash(walk: &mut Walk, depth: u32) -> u32 {
    for index in 0..MAX_FRAMES {
        if index as u32 >= depth {
            break;
        }
        walk.hash = mix(walk.hash ^ walk.pcs[index]);
    }
    walk.depth = depth.into();
    depth
}

/// Counts of the rule cache.
pub mod cache {
    /// A rule was looked for.
    #[inline(always)]
    pub fn looked_up() {
        super::count(0);
    }

    /// It was not there.
    #[inline(always)]
    pub fn missed() {
        super::count(1);
    }
}

/// Counts of memos.
pub mod memos {
    /// A stack was captured.
    #[inline(always)]
    pub fn looked_up() {
        super::count(2);
    }

    /// It was as it was before.
    #[inline(always)]
    pub fn found() {
        super::count(3);
    }
}

#[cfg(not(feature = "measure-cache"))]
#[inline(always)]
fn count(_: u32) {}

#[cfg(feature = "measure-cache")]
#[inline(always)]
fn count(index: u32) {
    use aya_ebpf::{macros::map, maps::PerCpuArray};

    #[map]
    static CACHE_COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(4, 0);

    if let Some(counter) = CACHE_COUNTS.get_ptr_mut(index) {
        crate::totals::add(counter, 1);
    }
}
