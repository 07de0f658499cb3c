//! Stacks that cannot be unwound yet: code was mapped a moment ago, and userspace has not told of it. A copy of the stack
//! goes to userspace, which unwinds it when it knows. Such moments last a millisecond, after an `execve` and a `dlopen`.

use core::mem::offset_of;

use aya_ebpf::helpers::{bpf_get_smp_processor_id, bpf_ktime_get_ns, generated::bpf_probe_read_user};
use memprof_common::{Call, Header, IS_COPY, ImageTotals, STACK_COPY_BYTES, StackCopyRecord, UNKNOWN_STACK, kind};

use crate::{arch::Returning, maps::COPIES, records, return_probes::restore_return_addresses, stack::mix, totals};

const PAGE: u64 = 4096;

/// Sends a copy of the stack that `call` returns to, and returns the name that it is given. `slot` is one of the scratch that
/// the caller has claimed.
#[inline(always)]
pub fn keep(ctx: &impl Returning, slot: u32, call: &Call) -> u64 {
    let Some(record) = COPIES.get_ptr_mut(slot) else { return UNKNOWN_STACK };
    // SAFETY: the element is this CPU's, and the slot's owner alone uses it. The reference ends here, since
    // `restore_return_addresses` finds the record by itself.
    if fill(ctx, unsafe { &mut *record }, slot, call) == 0 {
        totals::count(call.image, offset_of!(ImageTotals, stacks_unreadable));
        return UNKNOWN_STACK;
    }
    restore_return_addresses(slot);
    // SAFETY: see above.
    let record = unsafe { &mut *record };
    if !records::stack_copy(record) {
        totals::count(call.image, offset_of!(ImageTotals, stacks_ring_full));
        return UNKNOWN_STACK;
    }
    record.stack
}

/// Returns the number of bytes copied.
#[inline(always)]
fn fill(ctx: &impl Returning, record: &mut StackCopyRecord, slot: u32, call: &Call) -> u64 {
    // SAFETY: the helpers have no preconditions.
    let (time, cpu) = unsafe { (bpf_ktime_get_ns(), bpf_get_smp_processor_id()) };
    let caller = ctx.caller();
    record.header = Header { kind: kind::STACK_COPY, image: call.image, time };
    record.stack = mix(time ^ u64::from(cpu) << 48 ^ u64::from(slot) << 60) | IS_COPY;
    record.ip = caller.ip;
    record.sp = caller.sp;
    record.bp = caller.bp;
    record.size = call.size;
    record.bytes = copy(record, caller.sp);
    record.bytes
}

/// Copies the stack from `start` on, page by page as far as it is there, and returns the number of bytes.
#[inline(always)]
fn copy(record: &mut StackCopyRecord, start: u64) -> u64 {
    let mut copied: u64 = 0;
    for _ in 0..STACK_COPY_BYTES as u64 / PAGE {
        let address = start.wrapping_add(copied);
        let bytes = PAGE - (address & (PAGE - 1));
        let offset = if copied > STACK_COPY_BYTES as u64 - PAGE { break } else { copied };
        // SAFETY: a page from this offset on is within the record; the helper checks the address, which is the target's.
        let result = unsafe {
            let to = record.words.as_mut_ptr().byte_add(offset as usize);
            bpf_probe_read_user(to.cast(), bytes as u32, address as *const _)
        };
        if result != 0 {
            break;
        }
        copied += bytes;
    }
    copied
}
