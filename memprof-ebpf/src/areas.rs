//! What is mapped at an address of the current process: the kernel's own tree of areas, looked through without a lock.
//!
//! It is a maple tree (include/linux/maple_tree.h, lib/maple_tree.c), of nodes with up to 16 slots. A slot's pivot is the last index that
//! belongs to it. Writers replace nodes, and free the old ones after a grace period of RCU, which no program outlasts. While a page fault
//! is handled, its area does not change.

use aya_ebpf::helpers::{bpf_get_current_task, generated::bpf_probe_read_kernel};
use memprof_common::kernel_structs::{AreaOffsets, VM_HUGETLB, VM_SHARED, VM_WRITE};

use crate::{kernel_structs::word, maps::NODE};

/// The loader sets it.
#[unsafe(no_mangle)]
static AREA_OFFSETS: AreaOffsets = AreaOffsets {
    are_known: 0,
    task_mm: 0,
    mm_tree: 0,
    tree_root: 0,
    range_pivots: 0,
    range_slots: 0,
    arange_pivots: 0,
    arange_slots: 0,
    area_operations: 0,
    area_flags: 0,
    fault_flags: 0,
    reserved: 0,
};

/// Words of a node (`MAPLE_NODE_MASK` is 255 bytes).
const NODE_WORDS: usize = 32;

/// A node.
pub type Node = [u64; NODE_WORDS];

/// The tree is no higher (`MAPLE_HEIGHT_MAX` is 31, for a tree of 10^18 entries).
const MOST_LEVELS: usize = 10;

/// `maple_leaf_64`; what is larger has nodes below it.
const LEAF: u64 = 1;

/// `maple_arange_64`
const ALLOCATION_RANGE: u64 = 3;

/// Pivots of a node of that kind, and of others.
const ALLOCATION_PIVOTS: u32 = 9;
const RANGE_PIVOTS: u32 = 15;

/// What there is at an address.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Area {
    /// Memory of the process's own, or a private copy of a file, which becomes that where it is written to.
    Private,
    /// Anything else.
    Other,
    /// It could not be found.
    Unknown,
}

/// Where fields are.
#[inline(always)]
pub fn offsets() -> AreaOffsets {
    // SAFETY: a plain read of a constant that the loader may have replaced.
    unsafe { core::ptr::read_volatile(&raw const AREA_OFFSETS) }
}

/// What the current process has mapped at an address. Without operations of its own, an area is anonymous (`vma_is_anonymous`).
#[inline(always)]
pub fn at(address: u64) -> Area {
    let offsets = offsets();
    let area = find(address);
    if area == 0 {
        return Area::Unknown;
    }
    let flags = word(area, offsets.area_flags);
    let is_anonymous = word(area, offsets.area_operations) == 0;
    let may_be_own = is_anonymous || flags & (VM_WRITE | VM_HUGETLB) == VM_WRITE;
    if may_be_own && flags & VM_SHARED == 0 { Area::Private } else { Area::Other }
}

/// The `vm_area_struct` that an address of the current process lies in, or zero.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn find(address: u64) -> u64 {
    let offsets = offsets();
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    let memory = word(task, offsets.task_mm);
    let mut entry = word(memory, offsets.mm_tree + offsets.tree_root);
    for _ in 0..MOST_LEVELS {
        let is_leaf = kind(entry) <= LEAF;
        entry = below(entry, address);
        if is_leaf || entry == 0 {
            break;
        }
    }
    // Zero entries and the like are marked in the lower bits (include/linux/xarray.h).
    if entry & 3 == 0 { entry } else { 0 }
}

/// What a node has for an index.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn below(entry: u64, index: u64) -> u64 {
    let Some(node) = NODE.get_ptr_mut(0) else { return 0 };
    // SAFETY: a map value of that size, valid while the program runs; the helper checks the address.
    if unsafe { bpf_probe_read_kernel(node.cast(), size_of::<Node>() as u32, (entry & !0xff) as *const _) } != 0 {
        return 0;
    }
    let offsets = offsets();
    let (pivots, slots, count) = match kind(entry) {
        ALLOCATION_RANGE => (offsets.arange_pivots, offsets.arange_slots, ALLOCATION_PIVOTS),
        _ => (offsets.range_pivots, offsets.range_slots, RANGE_PIVOTS),
    };
    let mut slot = 0;
    while slot < count {
        let pivot = word_of(node, pivots / 8 + slot);
        // After the last pivot comes the node's own end, or zeros.
        if pivot == 0 || index <= pivot {
            break;
        }
        slot += 1;
    }
    word_of(node, slots / 8 + slot)
}

#[inline(always)]
fn kind(entry: u64) -> u64 {
    entry >> 3 & 15
}

#[inline(always)]
fn word_of(node: *const Node, index: u32) -> u64 {
    // SAFETY: a map value, valid while the program runs; the index is masked.
    unsafe { node.cast::<u64>().add(index as usize & (NODE_WORDS - 1)).read_volatile() }
}
