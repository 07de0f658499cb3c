//! Counters. They are per CPU, yet added to atomically: on a preemptible kernel another thread's program can run between
//! a load and its store.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use memprof_common::ImageTotals;

use crate::maps::TOTALS;

/// Adds to a counter in a map value.
#[inline(always)]
pub fn add(counter: *mut u64, amount: u64) {
    // SAFETY: callers pass a field of a map value, valid while the program runs.
    unsafe { atomic_xadd::<_, _, { AtomicOrdering::Relaxed }>(counter, amount) };
}

/// Counts one in the field that `field` picks of an image's totals.
#[inline(always)]
pub fn count(image: u32, field: impl FnOnce(&mut ImageTotals) -> *mut u64) {
    count_many(image, 1, field);
}

/// Adds to the field that `field` picks of an image's totals.
#[inline(always)]
pub fn count_many(image: u32, amount: u64, field: impl FnOnce(&mut ImageTotals) -> *mut u64) {
    if let Some(totals) = of(image) {
        add(field(totals), amount);
    }
}

/// An image's totals on this CPU; nothing once userspace has forgotten the image.
#[inline(always)]
pub fn of(image: u32) -> Option<&'static mut ImageTotals> {
    // SAFETY: the element is this CPU's and outlives the program; concurrent additions are atomic.
    TOTALS.get_ptr_mut(image).map(|totals| unsafe { &mut *totals })
}
