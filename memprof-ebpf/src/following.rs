//! Processes that are forked while others are observed. A child is known from its first instruction on: it gets a target and an image
//! here, before it runs, and where probes are in every process it is observed at once.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    programs::RawTracePointContext,
};
use aya_log_ebpf::warn;
use memprof_common::{Cookie, ForkRecord, Header, Tracked, follows, kind};

use crate::{
    kernel_structs::{half_word, offsets},
    lifecycle,
    maps::{BINDINGS, SPARES, TRACKED, UNFOLLOWED},
    records, totals,
};

/// One of [`follows`]. The loader sets it.
#[unsafe(no_mangle)]
static FOLLOWS: u32 = follows::NOBODY;

/// memprof's own pid. The loader sets it.
#[unsafe(no_mangle)]
static OWN_PID: u32 = 0;

/// The parent of all kernel threads (`kthreadd`).
const KERNEL_THREADS: u32 = 2;

/// `sched_process_fork(parent, child)`, in the parent, before the child runs: also of threads.
#[inline(always)]
pub fn fork(ctx: &RawTracePointContext) {
    let parent = (bpf_get_current_pid_tgid() >> 32) as u32;
    if !follows_children_of(parent) {
        return;
    }
    let (child, offsets) = (ctx.arg::<u64>(1), offsets());
    let (pid, process) = (half_word(child, offsets.task_pid), half_word(child, offsets.task_tgid));
    if pid == process && !begin(ctx, pid, parent) {
        UNFOLLOWED.get_ptr_mut(0).into_iter().for_each(|unfollowed| totals::add(unfollowed, 1));
    }
}

#[inline(always)]
fn follows_children_of(parent: u32) -> bool {
    // SAFETY: plain reads of constants that the loader may have replaced.
    let (follows, own) =
        unsafe { (core::ptr::read_volatile(&raw const FOLLOWS), core::ptr::read_volatile(&raw const OWN_PID)) };
    match follows {
        follows::NOBODY => false,
        follows::CHILDREN => TRACKED.get_ptr(parent).is_some(),
        _ => parent != own && parent != KERNEL_THREADS,
    }
}

/// Makes a process a target. Says whether it can be followed.
#[inline(always)]
fn begin(ctx: &RawTracePointContext, pid: u32, parent: u32) -> bool {
    let Ok(Some(target)) = SPARES.pop() else { return false };
    let Some((_, image)) = lifecycle::begin_image(target) else { return false };
    if TRACKED.insert(pid, Tracked { target, leader_exited: 0 }, 0).is_err() {
        warn!(ctx, "no room to follow process {}", pid);
    }
    // SAFETY: the helper has no preconditions.
    let header = Header { kind: kind::FORK, image, time: unsafe { bpf_ktime_get_ns() } };
    // If it cannot be told, its target is lost with it.
    records::control(&ForkRecord { header, target, pid, parent, reserved: 0 })
}

/// The cookie that a probe of this one's site would have that was the running process's own.
///
/// Not inline: what is rare is to take no room where it is not.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn own_cookie(cookie: u64) -> u64 {
    let pid = (bpf_get_current_pid_tgid() >> 32) as u32;
    // SAFETY: a map value, valid while the program runs; only its generation changes under way.
    let Some(tracked) = TRACKED.get_ptr(pid).map(|tracked| unsafe { *tracked }) else { return cookie };
    let Some(binding) = BINDINGS.get(tracked.target) else { return cookie };
    Cookie(cookie).of_target(tracked.target, binding.generation).0
}
