//! Windows: where memprof is to cost no more than so much, it observes what is allocated within windows of time only, and the
//! probes of the functions that only allocate come and go with them. Between windows, blocks are freed and none is recorded.
//!
//! An allocation belongs to the moment of its return. Userspace closes the window before it takes the first probe out, so that no
//! call counts whose return could be missed; what such calls leave behind is of no window, and no loss.

use memprof_common::{Call, Cookie};

use crate::maps::BINDINGS;

/// Whether there are windows. The loader sets it.
#[unsafe(no_mangle)]
static HAS_WINDOWS: u64 = 0;

#[inline(always)]
fn has_windows() -> bool {
    // SAFETY: a plain read of a constant that the loader may have replaced.
    unsafe { core::ptr::read_volatile(&raw const HAS_WINDOWS) != 0 }
}

/// Whether what `call` allocates is observed, now that it returns.
#[inline(always)]
pub fn is_observed(call: &Call) -> bool {
    if !has_windows() {
        return true;
    }
    BINDINGS.get(Cookie(call.cookie).target()).is_some_and(|binding| binding.is_closed == 0)
        && !is_stale(Cookie(call.cookie))
}

/// Whether a probe is of a window that is over. Its fellows are gone or going: it means nothing, and the return of a call that it
/// has opened is not to be seen.
#[inline(always)]
pub fn is_stale(cookie: Cookie) -> bool {
    has_windows()
        && cookie.window() != 0
        && BINDINGS.get(cookie.target()).is_none_or(|binding| binding.window != cookie.window())
}
