//! How often each target's probes fire: what memprof costs a process follows from it. All are counted, also those that turn out
//! to mean nothing, since they cost the same. An allocating call is counted at its return.

use aya_ebpf::{macros::map, maps::PerCpuArray};
use memprof_common::{Calls, Cookie, MAX_TARGETS};

use crate::measure;

/// By target.
#[map]
pub static CALLS: PerCpuArray<Calls> = PerCpuArray::with_max_entries(MAX_TARGETS, 0);

/// Counts a call. Not atomically: a count that is lost where one program preempts another is no harm to an estimate.
#[inline(always)]
pub fn count(cookie: Cookie, kind: impl FnOnce(&mut Calls) -> &mut [u64; 2]) {
    if measure::EMPTY {
        return;
    }
    if let Some(calls) = CALLS.get_ptr_mut(cookie.target()) {
        // SAFETY: the element is this CPU's and outlives the program.
        kind(unsafe { &mut *calls })[cookie.manner()] += 1;
    }
}
