//! What goes to userspace as it happens.

use core::mem::offset_of;

use aya_ebpf::{
    bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::generated::bpf_ringbuf_output,
};
use memprof_common::{
    AllocationRecord, CallRecord, FreeRecord, Header, ImageTotals, MAX_FRAMES, NewestBlock, NewestFreeRecord,
    ResizingRecord, STACK_COPY_BYTES, StackCopyRecord, StackFrame, StackRecord, kind,
};

use crate::{
    maps::{CONTROL, EVENTS},
    totals,
};

/// Bytes waiting in `EVENTS` above which the reader is woken. Below, it comes by itself at the next report, and a free
/// costs no wake-up. The loader sets it.
#[unsafe(no_mangle)]
static RING_MARK: u64 = 1 << 22;

/// A block that is not in the nursery was freed.
#[inline(always)]
pub fn free(image: u32, address: u64, time: u64) {
    let record = FreeRecord { header: Header { kind: kind::FREE, image, time }, address };
    if EVENTS.output::<FreeRecord>(&record, wake_flags()).is_err() {
        totals::count(image, offset_of!(ImageTotals, frees_ring_full));
    }
}

/// As [`free`], of a block since which its thread has allocated nothing.
#[inline(always)]
pub fn newest_free(image: u32, block: NewestBlock, time: u64) {
    let record = NewestFreeRecord { header: Header { kind: kind::NEWEST_FREE, image, time }, block };
    if EVENTS.output::<NewestFreeRecord>(&record, wake_flags()).is_err() {
        totals::count(image, offset_of!(ImageTotals, frees_ring_full));
    }
}

/// A block was allocated that the nursery has no place for; says whether it could be told.
#[inline(always)]
pub fn allocation(record: &AllocationRecord) -> bool {
    EVENTS.output::<AllocationRecord>(record, wake_flags()).is_ok()
}

/// A call, while tracing; says whether it could be told.
#[inline(always)]
pub fn call(record: &CallRecord) -> bool {
    EVENTS.output::<CallRecord>(record, wake_flags()).is_ok()
}

/// A call that resizes has begun, while tracing. Where that cannot be told, neither can its end.
#[inline(always)]
pub fn resizing(record: &ResizingRecord) {
    let _ = EVENTS.output::<ResizingRecord>(record, wake_flags());
}

/// A stack was seen for the first time; says whether it could be told. The record is already filled in.
#[inline(always)]
pub fn stack(record: &mut StackRecord) -> bool {
    let frames = u64::from(record.depth) & MAX_FRAMES as u64;
    let bytes = StackRecord::PREFIX as u64 + frames * size_of::<StackFrame>() as u64;
    // SAFETY: the record is that long, whatever its depth.
    let result = unsafe {
        bpf_ringbuf_output((&raw const EVENTS).cast_mut().cast(), (&raw mut *record).cast(), bytes, wake_flags())
    };
    result == 0
}

/// A stack was copied; says whether it could be told. The record is already filled in. The reader is woken, since what it
/// does about it ends the copying.
#[inline(always)]
pub fn stack_copy(record: &mut StackCopyRecord) -> bool {
    let copied = if record.bytes > STACK_COPY_BYTES as u64 { STACK_COPY_BYTES as u64 } else { record.bytes };
    let bytes = StackCopyRecord::PREFIX as u64 + copied;
    // SAFETY: the record is that long.
    let result = unsafe {
        bpf_ringbuf_output(
            (&raw const EVENTS).cast_mut().cast(),
            (&raw mut *record).cast(),
            bytes,
            BPF_RB_FORCE_WAKEUP.into(),
        )
    };
    result == 0
}

/// Something rare that userspace acts on at once.
#[inline(always)]
pub fn control<T>(record: &T) -> bool {
    CONTROL.output::<T>(record, u64::from(BPF_RB_FORCE_WAKEUP)).is_ok()
}

#[inline(always)]
fn wake_flags() -> u64 {
    // SAFETY: a plain read of a constant that the loader may have replaced.
    let mark = unsafe { core::ptr::read_volatile(&raw const RING_MARK) };
    if EVENTS.query(u64::from(BPF_RB_AVAIL_DATA)) >= mark {
        u64::from(BPF_RB_FORCE_WAKEUP)
    } else {
        u64::from(BPF_RB_NO_WAKEUP)
    }
}
