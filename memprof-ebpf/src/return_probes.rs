//! Return addresses that are not on the stack, because return probes are pending: while a probed function runs, the address
//! of the kernel's trampoline is in the place of its return address, which the kernel keeps in a list of the thread
//! (`struct return_instance` in include/linux/uprobes.h, `prepare_uretprobe` in kernel/events/uprobes.c). The probes may be
//! anybody's: ours, around an allocator that a signal handler interrupted, or another tool's on any function.

use aya_ebpf::helpers::bpf_get_current_task;
use memprof_common::{STACK_COPY_BYTES, StackCopyRecord};

use crate::{
    kernel_structs::{offsets, word},
    maps::COPIES,
};

/// The kernel allows no more (`MAX_URETPROBE_DEPTH`).
const MOST_PENDING: usize = 64;

/// A call that a return probe waits for.
struct Pending {
    /// Address of the word that held the return address.
    place: u64,
    return_address: u64,
    next: u64,
}

/// The innermost of the current thread; zero if there is none, or if this kernel's structures are not known.
#[inline(always)]
fn innermost() -> u64 {
    let offsets = offsets();
    if offsets.has_return_instances == 0 {
        return 0;
    }
    // SAFETY: the helper has no preconditions.
    let task = unsafe { bpf_get_current_task() };
    match word(task, offsets.task_utask) {
        0 => 0,
        utask => word(utask, offsets.utask_return_instances),
    }
}

#[inline(always)]
fn read(instance: u64) -> Pending {
    let offsets = offsets();
    Pending {
        place: word(instance, offsets.instance_stack),
        return_address: word(instance, offsets.instance_address),
        next: word(instance, offsets.instance_next),
    }
}

/// The return address that was at this place of the stack; zero if no return probe has replaced any there.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn original_return_address(place: u64) -> u64 {
    let mut instance = innermost();
    for _ in 0..MOST_PENDING {
        if instance == 0 {
            break;
        }
        let pending = read(instance);
        if pending.place == place {
            return pending.return_address;
        }
        instance = pending.next;
    }
    0
}

/// Puts the return addresses back into the copy of a stack.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn restore_return_addresses(slot: u32) -> u32 {
    let Some(record) = COPIES.get_ptr_mut(slot) else { return 0 };
    let mut instance = innermost();
    for _ in 0..MOST_PENDING {
        if instance == 0 {
            break;
        }
        let pending = read(instance);
        restore(record, &pending);
        instance = pending.next;
    }
    0
}

#[inline(always)]
fn restore(record: *mut StackCopyRecord, pending: &Pending) {
    const LAST: u64 = STACK_COPY_BYTES as u64 - 8;
    // SAFETY: a map value, valid while the program runs.
    let offset = pending.place.wrapping_sub(unsafe { (*record).sp });
    if offset > LAST || offset & 7 != 0 {
        return;
    }
    // SAFETY: see above; the offset was checked.
    unsafe {
        let word = (&raw mut (*record).words).byte_add(offset as usize).cast::<u64>();
        core::ptr::write_volatile(word, pending.return_address);
    }
}
