//! Counters. They are per CPU, yet added to atomically: on a preemptible kernel another thread's program can run between
//! a load and its store.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use memprof_common::{
    ImageTotals,
    buckets::{image_key, table},
};

use crate::{buckets::Slot, maps::TOTALS};

/// Adds to a counter in a map value.
#[inline(always)]
pub fn add(counter: *mut u64, amount: u64) {
    // SAFETY: callers pass a field of a map value, valid while the program runs.
    unsafe { atomic_xadd::<_, _, { AtomicOrdering::Relaxed }>(counter, amount) };
}

/// Counts one in the counter that is at this offset in an image's totals.
#[inline(always)]
pub fn count(image: u32, counter: usize) {
    count_many(image, counter, 1);
}

/// Adds to the counter that is at this offset in an image's totals.
#[inline(always)]
pub fn count_many(image: u32, counter: usize, amount: u64) {
    add_to(image, (counter / size_of::<u64>()) as u32, amount);
}

/// Not inline: what is rare is to take no room where it is not.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn add_to(image: u32, index: u32, amount: u64) -> u32 {
    let Some(totals) = of(image) else { return 0 };
    if index as usize >= size_of::<ImageTotals>() / size_of::<u64>() {
        return 0;
    }
    // SAFETY: within the totals, which are counters.
    add(unsafe { (&raw mut *totals).cast::<u64>().add(index as usize) }, amount);
    1
}

/// An image's totals on this CPU; nothing once userspace has forgotten the image.
#[inline(always)]
pub fn of(image: u32) -> Option<&'static mut ImageTotals> {
    let slot = Slot::find(table::IMAGES, image_key(image))?;
    // SAFETY: the element is this CPU's and outlives the program; concurrent additions are atomic.
    TOTALS.get_ptr_mut(slot.value()).map(|totals| unsafe { &mut *totals })
}

/// Begins to count for an image, whose totals are zero: userspace leaves them so. Without room, nothing is counted of it.
#[inline(always)]
pub fn begin(image: u32) {
    let key = image_key(image);
    if let Some(slot) = Slot::claim_free(table::IMAGES, key) {
        slot.publish(key);
    }
}
