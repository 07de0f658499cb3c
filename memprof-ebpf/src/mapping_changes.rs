//! Changes of what code is mapped where. Userspace hears of new code a moment late, and of what is unmapped not at all; until it has
//! told the unwinder, rules and names of old code must not be taken for those of what is there now.
//!
//! Since Linux 6.1 what a process has mapped is kept in a maple tree, and the tracepoint `ma_write` (include/trace/events/maple_tree.h)
//! tells of each store to one, before it is made and with the tree locked. So whoever reads the counts first, and what is
//! mapped then, knows of all that were counted. See [`Space`] for what is counted.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{helpers::bpf_get_current_pid_tgid, programs::RawTracePointContext};
use memprof_common::{
    kernel_structs::VM_EXEC,
    tables::{Space, code_flags},
};

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
    let is_new_code = is_of_file && word(area, offsets.area_flags) & VM_EXEC != 0;
    let Some(space) = SPACES.get_ptr_mut(target) else { return };
    if is_new_code {
        // SAFETY: a map value, valid while the program runs; a word that programs alone write.
        count(unsafe { &raw mut (*space).news });
    }
    if touches_code(target, first, last, is_of_file) {
        note_change(space);
    }
}

/// Whether the unwinder has been told of code between these addresses. If the last mapping that begins there ends before, so do
/// the others.
#[inline(always)]
fn touches_code(target: u32, first: u64, last: u64, by_file: bool) -> bool {
    last_mapping_below(target, last.wrapping_add(1))
        .is_some_and(|code| code.end > first && (by_file || code.flags & code_flags::OF_FILE != 0))
}

/// Makes void what userspace has told of a space, until it has looked at what is mapped since.
#[inline(always)]
pub fn note_change(space: *mut Space) {
    // SAFETY: a map value, valid while the program runs; a word that programs alone write.
    count(unsafe { &raw mut (*space).changes });
}

#[inline(always)]
fn count(word: *mut u64) {
    // SAFETY: a word of a map value, which programs alone write.
    unsafe { atomic_xadd::<_, _, { AtomicOrdering::AcqRel }>(word, 1u64) };
}
