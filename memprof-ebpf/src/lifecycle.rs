//! `execve` and exit of what is tracked. What becomes of a fork, [`crate::following`] says.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use aya_ebpf::{
    helpers::{bpf_get_current_pid_tgid, bpf_ktime_get_ns},
    programs::RawTracePointContext,
};
use aya_log_ebpf::{debug, warn};
use memprof_common::{
    Binding, ExecRecord, Header, IMAGE_FROM_EXEC, ProbedThreadExitRecord, Tracked, kind, tables::GENERATION_BITS,
};

use crate::{
    following, in_flight, mapping_changes,
    maps::{BINDINGS, EXECS, SPACES, TARGETS, TRACKED},
    records, totals,
};

/// `sched_process_exec(task, old_pid, bprm)`: the old image is over, a new one begins.
#[inline(always)]
pub fn exec(ctx: &RawTracePointContext) {
    let thread = bpf_get_current_pid_tgid();
    let pid = (thread >> 32) as u32;
    let Some(tracked) = tracked(pid) else { return following::exec(ctx, pid, false) };
    if tracked.is_guest != 0 {
        in_flight::forget(thread);
        return following::exec(ctx, pid, true);
    }
    let caller = ctx.arg::<i32>(1) as u32;
    let by_other_thread = caller != pid;
    if tracked.leader_exited != 0 && !by_other_thread {
        // The main thread we knew is gone, so this one is another process with its pid.
        let _ = TRACKED.remove(pid);
        return;
    }
    tracked.leader_exited = 0;
    // Nobody calls `execve` from within the allocator, but a signal handler that interrupted it may. A thread that is not
    // the main one has become it, under its number.
    in_flight::forget(thread);
    in_flight::forget(u64::from(pid) << 32 | u64::from(caller));
    replace_image(ctx, tracked.target, by_other_thread);
}

#[inline(always)]
fn replace_image(ctx: &RawTracePointContext, target: u32, by_other_thread: bool) {
    let Some((previous_image, image)) = begin_image(target) else { return };
    // SAFETY: the helper has no preconditions.
    let header = Header { kind: kind::EXEC, image, time: unsafe { bpf_ktime_get_ns() } };
    let by_other_thread = u32::from(by_other_thread);
    debug!(ctx, "execve: image {} follows {}", image, previous_image);
    if !records::control(&ExecRecord { header, target, previous_image, by_other_thread, reserved: 0 }) {
        warn!(ctx, "an execve could not be told: the control ring is full");
    }
}

/// Gives a target a new image; which it had before, and which it has now.
#[inline(always)]
pub fn begin_image(target: u32) -> Option<(u32, u32)> {
    let (current, execs) = (TARGETS.get_ptr_mut(target)?, EXECS.get_ptr_mut(0)?);
    // Not relaxed: LLVM makes an addition out of that which returns nothing, and takes the summand for the old value.
    // SAFETY: a map value, valid while the program runs.
    let number = unsafe { atomic_xadd::<_, _, { AtomicOrdering::AcqRel }>(execs, 1u32) };
    let image = IMAGE_FROM_EXEC | number;
    clear_space(target, number);
    // Without room for its totals the image is still recorded.
    totals::begin(image);
    // SAFETY: only the one thread that a process has in `execve` writes this, or the one that forks it.
    Some((unsafe { core::ptr::replace(current, image) }, image))
}

/// Nothing is mapped as it was; userspace will tell what is.
#[inline(always)]
fn clear_space(target: u32, number: u32) {
    let Some(space) = SPACES.get_ptr_mut(target) else { return };
    let generation = (u64::from(number) << 1 | 1) & ((1 << GENERATION_BITS) - 1);
    mapping_changes::note_change(space);
    // SAFETY: a map value, valid while the program runs; the process has no other thread.
    unsafe {
        (&raw mut (*space).mappings).write_volatile(0);
        (&raw mut (*space).stack_end).write_volatile(0);
        (&raw mut (*space).generation).write_volatile(generation);
    }
}

/// `sched_process_exit(task)`: the thread is in no call any more.
#[inline(always)]
pub fn thread_exit(ctx: &RawTracePointContext) {
    let thread = bpf_get_current_pid_tgid();
    in_flight::forget(thread);
    let (pid, thread) = ((thread >> 32) as u32, thread as u32);
    let Some(tracked) = tracked(pid) else { return };
    if tracked.is_guest != 0 {
        if pid == thread {
            let _ = TRACKED.remove(pid);
        }
        return;
    }
    if pid == thread {
        tracked.leader_exited = 1;
    }
    let Some(binding) = BINDINGS.get_ptr_mut(tracked.target) else { return };
    // SAFETY: a map value, valid while the program runs; userspace replaces it when it has been told of this.
    let binding = unsafe { &mut *binding };
    if binding.thread != thread {
        return;
    }
    if binding.outlives_thread == 0 {
        // Most of its probes are about to go: what the others saw would lack its end.
        binding.generation = Binding::NO_GENERATION;
    }
    // SAFETY: the helper has no preconditions.
    let header = Header { kind: kind::PROBED_THREAD_EXIT, image: 0, time: unsafe { bpf_ktime_get_ns() } };
    if !records::control(&ProbedThreadExitRecord { header, target: tracked.target, thread }) {
        warn!(ctx, "an exit could not be told: the control ring is full");
    }
}

#[inline(always)]
fn tracked(pid: u32) -> Option<&'static mut Tracked> {
    // SAFETY: a map value, valid while the program runs; only the process concerned writes it.
    TRACKED.get_ptr_mut(pid).map(|tracked| unsafe { &mut *tracked })
}
