//! What SIGKILL must not interrupt. Where it comes while the kernel takes a breakpoint out of a process, or takes back those of a link that it
//! could not complete, they stay there for good ("failed to unregister, leaking uprobe", `uprobe_unregister_nosync` in
//! kernel/events/uprobes.c), and the process goes on to trap at them. So this is done by another process, which shares memory and open files
//! with memprof, and which no signal to memprof reaches. If memprof is gone by then, what it had open is closed as that one ends.

use std::{ffi::c_void, mem::MaybeUninit, ptr};

/// Enough for a system call and a destructor.
const STACK_BYTES: usize = 256 << 10;

struct Task<F, R> {
    work: Option<F>,
    result: Option<R>,
}

/// Does this, in which it is neither to panic, nor to allocate or free: a thread that ends with memprof may have a lock of the allocator's.
/// Nothing if the other process was killed.
pub(super) fn undisturbed<R>(work: impl FnOnce() -> R) -> Option<R> {
    let mut task = Task { work: Some(work), result: None };
    run_beside(&mut task);
    // If there could be no other process, it is still to be done.
    task.result.or_else(|| task.work.map(|work| work()))
}

/// Has a process of its own do it, and waits. If there can be none, nothing is done.
fn run_beside<F: FnOnce() -> R, R>(task: &mut Task<F, R>) {
    let mut stack = vec![MaybeUninit::<u128>::uninit(); STACK_BYTES / size_of::<u128>()];
    let top = stack.as_mut_ptr_range().end;
    let _signals = Blocked::all();
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_FILES;
    // SAFETY: the stack and the task outlive the process, which this thread waits for and, until it ends, shares its thread-local storage with.
    let pid = unsafe { libc::clone(run::<F, R>, top.cast(), flags, ptr::from_mut(task).cast()) };
    if pid > 0 {
        // SAFETY: a child that nobody else waits for, being none that sends SIGCHLD.
        unsafe { libc::waitpid(pid, ptr::null_mut(), libc::__WCLONE) };
    }
}

extern "C" fn run<F: FnOnce() -> R, R>(task: *mut c_void) -> i32 {
    // SAFETY: the thread that made it waits.
    let task = unsafe { &mut *task.cast::<Task<F, R>>() };
    task.result = task.work.take().map(|work| work());
    0
}

/// This thread's signals, which wait: a handler is to run once, and not in the other process too.
struct Blocked(libc::sigset_t);

impl Blocked {
    fn all() -> Self {
        let (mut all, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: both are written to before they are read.
        unsafe {
            libc::sigfillset(all.as_mut_ptr());
            libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), before.as_mut_ptr());
            Self(before.assume_init())
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // SAFETY: a mask that was in force before.
        unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_process_does_it_in_this_ones_memory() {
        let mut seen = 0;
        // SAFETY: it has no preconditions.
        let own = unsafe { libc::syscall(libc::SYS_getpid) };
        let other = undisturbed(|| {
            seen += 1;
            // SAFETY: as above.
            unsafe { libc::syscall(libc::SYS_getpid) }
        });
        assert_eq!(seen, 1);
        assert!(other.is_some_and(|other| other != own));
    }

    #[test]
    fn what_it_opens_stays_open_and_what_it_closes_is_closed() -> std::io::Result<()> {
        use std::io::{Read as _, Write as _};
        let (mut reader, mut writer) = undisturbed(std::io::pipe).ok_or(std::io::ErrorKind::Interrupted)??;
        writer.write_all(b"said")?;
        assert_eq!(undisturbed(|| drop(writer)), Some(()));
        let mut heard = String::new();
        reader.read_to_string(&mut heard)?;
        assert_eq!(heard, "said");
        Ok(())
    }
}
