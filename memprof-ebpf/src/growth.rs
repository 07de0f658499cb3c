//! Where memory grows, without a probe: the stacks that touch memory which is not there yet. A page fault brings it in, and of so
//! many page faults perf's software event has one counted here, after the page is there.
//!
//! A huge page takes one fault too. Those are rare and told by the kernel's own function, each of them; it counts what the page has
//! beyond the first one, which counts as others do.

use core::{ffi::c_void, mem::offset_of};

use aya_ebpf::{
    EbpfContext,
    helpers::bpf_get_current_pid_tgid,
    programs::{FExitContext, PerfEventContext},
};
use memprof_common::{Call, Cookie, ImageTotals, StackTotals, TOUCHED_HUGE_PAGE, TOUCHED_PAGE, Tracked};

use crate::{
    arch::{Registers, Returning, at_kernel_entry},
    areas::{self, Area},
    kernel_structs::word,
    maps::{FAULTS_SEEN, TARGETS, TRACKED},
    stack, totals,
};

/// `FAULT_FLAG_WRITE` (include/linux/mm_types.h)
const IS_WRITE: u64 = 1;

/// A thread that touches memory, as the code that takes stacks knows those that allocate: its caller's registers are its own, and it
/// returns nothing.
struct Touching {
    ctx: *mut c_void,
    registers: Registers,
}

impl EbpfContext for Touching {
    fn as_ptr(&self) -> *mut c_void {
        self.ctx
    }
}

impl Returning for Touching {
    #[inline(always)]
    fn caller(&self) -> Registers {
        self.registers
    }

    #[inline(always)]
    fn value(&self) -> u64 {
        0
    }

    #[inline(always)]
    fn counts(&self, call: &Call) -> StackTotals {
        StackTotals { allocations: call.size, bytes: 0 }
    }
}

/// A page was brought in.
#[inline(always)]
pub fn page_fault(ctx: &PerfEventContext) {
    if let Some(seen) = FAULTS_SEEN.get_ptr_mut(0) {
        totals::add(seen, 1);
    }
    let Some(target) = current_target() else { return };
    // SAFETY: the kernel passes a valid context.
    let address = unsafe { (*ctx.ctx).addr };
    match areas::at(address) {
        Area::Private => touch(ctx.as_ptr(), target, TOUCHED_PAGE),
        Area::Other => {}
        Area::Unknown => {
            if let Some(image) = TARGETS.get(target) {
                totals::count(*image, offset_of!(ImageTotals, faults_unresolved));
            }
        }
    }
}

/// `do_huge_pmd_anonymous_page(fault)` returns, not zero if there is no huge page. One that is read first is the page of zeros,
/// which is nobody's.
#[inline(always)]
pub fn huge_page(ctx: &FExitContext) {
    let Some(target) = current_target() else { return };
    let (fault, result) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1));
    let is_write = word(fault, areas::offsets().fault_flags) & IS_WRITE != 0;
    if result as u32 == 0 && is_write {
        touch(ctx.as_ptr(), target, TOUCHED_HUGE_PAGE);
    }
}

/// Counts at the current thread's stack.
#[inline(always)]
fn touch(ctx: *mut c_void, target: u32, units: u64) {
    let Some(image) = TARGETS.get(target).copied() else { return };
    let touching = Touching { ctx, registers: at_kernel_entry() };
    let call = Call { cookie: Cookie::new(target, 0, 0).0, image, size: units, ..Call::default() };
    let _ = stack::capture(&touching, &call);
}

#[inline(always)]
fn current_target() -> Option<u32> {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: a map value, valid while the program runs.
    unsafe { TRACKED.get(pid) }.map(|tracked: &Tracked| tracked.target)
}
