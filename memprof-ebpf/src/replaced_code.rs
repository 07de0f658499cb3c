//! Code that is unmapped, or mapped over. Userspace hears of new code a moment late, and of what is unmapped not at all; until it
//! has told the unwinder, rules and names of the old code must not be taken for those of the new.
//!
//! Since Linux 6.1 what a process has mapped is kept in a maple tree, and the tracepoint `ma_write` (include/trace/events/maple_tree.h)
//! tells of each store to one, before it is made and with the tree locked. So whoever reads the count of changes first, and
//! what is mapped then, knows of all that were counted.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, programs::RawTracePointContext};
use memprof_common::tables::{MappedCode, Space};

use crate::{
    kernel_structs::{offsets, word},
    maps::{SPACES, TRACKED},
    unwind::last_mapping_below,
};

/// `ma_write(function, state, pivot, entry)`: what the tree has from `state.index` to `state.last` becomes `entry`, an area
/// or nothing. That it is another tree than that of mapped areas is not likely, and does no harm.
#[inline(always)]
pub fn stored(ctx: &RawTracePointContext) {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: a map value, valid while the program runs.
    let Some(target) = (unsafe { TRACKED.get(pid) }).map(|tracked| tracked.target) else { return };
    let offsets = offsets();
    let (store, area) = (ctx.arg::<u64>(1), ctx.arg::<u64>(3));
    let (first, last) = (word(store, offsets.store_index), word(store, offsets.store_last));
    let is_of_file = area != 0 && word(area, offsets.area_file) != 0;
    // If the last one that begins there ends before it, so do the others.
    if last_mapping_below(target, last.wrapping_add(1)).is_some_and(|code| is_replaced(code, first, is_of_file))
        && let Some(space) = SPACES.get_ptr_mut(target)
    {
        note_change(space);
    }
}

/// Code that is made at run time comes and goes, and is unwound without rows, wherever it is.
#[inline(always)]
fn is_replaced(code: &MappedCode, first: u64, is_of_file: bool) -> bool {
    code.end > first && (is_of_file || code.is_of_file != 0)
}

/// Makes void what userspace has told of a space, until it has looked at what is mapped since.
#[inline(always)]
pub fn note_change(space: *mut Space) {
    // SAFETY: a map value, valid while the program runs; a word that programs alone write.
    unsafe { atomic_xadd::<_, _, { AtomicOrdering::AcqRel }>(&raw mut (*space).changes, 1u64) };
}
