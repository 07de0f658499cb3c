//! Reads of the running kernel's structures, by offsets that userspace found in its type information.

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use memprof_common::kernel_structs::KernelOffsets;

/// The loader sets it.
#[unsafe(no_mangle)]
static KERNEL_OFFSETS: KernelOffsets = KernelOffsets {
    has_return_instances: 0,
    task_utask: 0,
    utask_return_instances: 0,
    instance_stack: 0,
    instance_address: 0,
    instance_next: 0,
    has_stores: 0,
    store_index: 0,
    store_last: 0,
    area_file: 0,
    area_flags: 0,
    has_tasks: 0,
    task_pid: 0,
    task_tgid: 0,
    task_mm: 0,
};

/// Where fields are.
#[inline(always)]
pub fn offsets() -> KernelOffsets {
    // SAFETY: a plain read of a constant that the loader may have replaced.
    unsafe { core::ptr::read_volatile(&raw const KERNEL_OFFSETS) }
}

/// Half a word in a structure at an offset; zero if it cannot be read.
#[inline(always)]
pub fn half_word(structure: u64, offset: u32) -> u32 {
    word(structure, offset) as u32
}

/// The word in a structure at an offset; zero if it cannot be read, which the helper sees to: so the verifier has one path to
/// follow.
#[inline(always)]
pub fn word(structure: u64, offset: u32) -> u64 {
    let address = structure.wrapping_add(u64::from(offset));
    let mut word = 0u64;
    // SAFETY: the helper checks the address, and fills the word in any case.
    unsafe { bpf_probe_read_kernel((&raw mut word).cast(), size_of::<u64>() as u32, address as *const _) };
    word
}
