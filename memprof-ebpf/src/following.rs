//! Processes that are forked while others are observed. A child is known from its first instruction on: it gets a target and an image
//! here, before it runs, and where probes are in every process it is observed at once. A child of `vfork` gets them when it executes a
//! program.

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    programs::RawTracePointContext,
};
use aya_log_ebpf::warn;
use memprof_common::{Cookie, ForkRecord, Header, Tracked, follows, kind};

use crate::{
    kernel_structs::{half_word, offsets, word},
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
    let (parent_task, task, offsets) = (ctx.arg::<u64>(0), ctx.arg::<u64>(1), offsets());
    let (thread, pid) = (half_word(task, offsets.task_pid), half_word(task, offsets.task_tgid));
    if thread != pid {
        return;
    }
    if word(task, offsets.task_mm) == word(parent_task, offsets.task_mm) {
        begin_guest(pid, parent);
    } else {
        begin(ctx, pid, parent);
    }
}

/// What a process allocates in another's memory is that one's, and what it frees too.
#[inline(always)]
fn begin_guest(pid: u32, parent: u32) {
    // SAFETY: a map value, valid while the program runs; its target does not change.
    let host = TRACKED.get_ptr(parent).map(|tracked| unsafe { (*tracked).target });
    if let Some(target) = host {
        let _ = TRACKED.insert(pid, Tracked { target, leader_exited: 0, is_guest: 1 }, 0);
    }
}

/// `execve` of a process that is not tracked, or as a guest.
#[inline(always)]
pub fn exec(ctx: &RawTracePointContext, pid: u32, is_guest: bool) {
    if is_guest || follows() == follows::EVERYONE && pid != own_pid() {
        begin(ctx, pid, 0);
    }
}

#[inline(always)]
fn follows_children_of(parent: u32) -> bool {
    match follows() {
        follows::NOBODY => false,
        follows::CHILDREN => TRACKED.get_ptr(parent).is_some(),
        _ => parent != own_pid() && parent != KERNEL_THREADS,
    }
}

#[inline(always)]
fn follows() -> u32 {
    // SAFETY: a plain read of a constant that the loader may have replaced.
    unsafe { core::ptr::read_volatile(&raw const FOLLOWS) }
}

#[inline(always)]
fn own_pid() -> u32 {
    // SAFETY: a plain read of a constant that the loader may have replaced.
    unsafe { core::ptr::read_volatile(&raw const OWN_PID) }
}

/// Makes a process a target, or counts that it cannot be followed.
#[inline(always)]
fn begin(ctx: &RawTracePointContext, pid: u32, parent: u32) {
    if !try_to_begin(ctx, pid, parent) {
        let _ = TRACKED.remove(pid);
        UNFOLLOWED.get_ptr_mut(0).into_iter().for_each(|unfollowed| totals::add(unfollowed, 1));
    }
}

#[inline(always)]
fn try_to_begin(ctx: &RawTracePointContext, pid: u32, parent: u32) -> bool {
    let Ok(Some(target)) = SPARES.pop() else { return false };
    let Some((_, image)) = lifecycle::begin_image(target) else { return false };
    if TRACKED.insert(pid, Tracked { target, leader_exited: 0, is_guest: 0 }, 0).is_err() {
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
