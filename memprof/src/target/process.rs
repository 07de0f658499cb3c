//! What is asked of a process before it is profiled.

use std::{fs, io, time::Duration};

use super::{TargetError, stat::Stat, status::Status};
use crate::{elf, regular_file::open_regular};

/// A process that can be profiled, as far as `/proc` tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    /// Its pid.
    pub pid: u32,
    /// A thread of it that is alive: the first one (whose number is the pid) if that is, or another. Where the first one
    /// has exited, the process can be read and attached to only through another.
    pub thread: u32,
    /// Its command name (`/proc/PID/comm`).
    pub command: String,
}

impl Process {
    /// Looks at the process with this pid.
    ///
    /// # Errors
    /// All of [`TargetError`].
    pub fn find(pid: u32) -> Result<Self, TargetError> {
        check_leader(pid)?;
        let stat = Stat::read(pid, pid).map_err(|error| TargetError::of_io(pid, error))?;
        if stat.is_of_kernel() {
            return Err(TargetError::KernelThread(pid));
        }
        let thread = threads(pid).next().ok_or(TargetError::Exited(pid))?;
        check_executable(pid, thread)?;
        let command = command_name(pid).map_err(|error| TargetError::of_io(pid, error))?;
        Ok(Self { pid, thread, command })
    }
}

/// The command name of a process, at most 15 bytes; what is no UTF-8 in it is replaced.
///
/// # Errors
/// Those of reading `/proc/PID/comm`.
pub fn command_name(pid: u32) -> io::Result<String> {
    let name = fs::read(format!("/proc/{pid}/comm"))?;
    Ok(String::from_utf8_lossy(name.strip_suffix(b"\n").unwrap_or(&name)).into_owned())
}

/// When a process began, in the kernel's ticks since boot. Nothing if it is gone.
pub fn began(pid: u32) -> Option<u64> {
    Stat::read(pid, pid).ok().map(|stat| stat.started)
}

/// Processor time that all threads of a process have used, those that have ended included. Nothing if it is gone.
pub fn processor_time(pid: u32) -> Option<Duration> {
    let (mut clock, mut time) = (0, libc::timespec { tv_sec: 0, tv_nsec: 0 });
    // SAFETY: the functions write to what they are given, and nowhere else.
    let has_failed = unsafe {
        libc::clock_getcpuclockid(i32::try_from(pid).ok()?, &raw mut clock) != 0
            || libc::clock_gettime(clock, &raw mut time) != 0
    };
    (!has_failed).then(|| Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32))
}

/// The threads of a process that are alive, the first one (whose number is the pid) first if it is among them. None if
/// there is no such process.
pub fn threads(pid: u32) -> impl Iterator<Item = u32> {
    let entries = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut threads: Vec<u32> = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    threads.sort_unstable_by_key(|thread| (*thread != pid, *thread));
    threads.into_iter().filter(move |thread| Stat::read(pid, *thread).is_ok_and(|stat| stat.is_alive()))
}

/// The address behind the page that a process's main thread's stack ends in, where the kernel put its arguments. Zero if it
/// is not known.
pub fn stack_end(pid: u32) -> u64 {
    const PAGE: u64 = 4096;
    Stat::read(pid, pid).map_or(0, |stat| stat.stack_end.checked_next_multiple_of(PAGE).unwrap_or_default())
}

/// `/proc/TID` exists for every thread, though it is not listed; only `Tgid:` tells it from a process.
fn check_leader(pid: u32) -> Result<(), TargetError> {
    let status = Status::read(pid).map_err(|error| TargetError::of_io(pid, error))?;
    match status.thread_group() {
        Some(process) if process != pid => Err(TargetError::Thread { thread: pid, process }),
        _ => Ok(()),
    }
}

fn check_executable(pid: u32, thread: u32) -> Result<(), TargetError> {
    let executable = open_regular(format!("/proc/{thread}/exe").as_ref());
    match executable.map_err(|error| TargetError::of_io(pid, error)) {
        Ok(file) if elf::is_32_bit(&file) => Err(TargetError::ThirtyTwoBit(pid)),
        Ok(_) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use std::{process::Command, sync::mpsc, thread};

    use super::*;

    #[test]
    fn this_process_can_be_profiled() {
        let pid = std::process::id();
        let process = Process::find(pid).unwrap();
        assert_eq!(process.thread, pid);
        assert_eq!(process.command, command_name(pid).unwrap());
    }

    #[test]
    fn a_pid_that_nobody_has_is_said_to_be_so() {
        assert!(matches!(Process::find(u32::MAX), Err(TargetError::NoSuchProcess(u32::MAX))));
    }

    #[test]
    fn kernel_threads_are_refused() {
        if command_name(2).ok().as_deref() != Some("kthreadd") {
            return; // In a pid namespace of its own, as in a container.
        }
        assert!(matches!(Process::find(2), Err(TargetError::KernelThread(2))));
    }

    #[test]
    fn zombies_are_refused() {
        let mut child = Command::new("true").spawn().unwrap();
        while threads(child.id()).next().is_some() {
            thread::yield_now();
        }
        assert!(matches!(Process::find(child.id()), Err(TargetError::Exited(_))));
        child.wait().unwrap();
    }

    #[test]
    fn a_thread_is_not_taken_for_its_process() {
        let (sender, receiver) = mpsc::channel();
        let (keep, wait) = mpsc::channel::<()>();
        let worker = thread::spawn(move || {
            sender.send(rustix::thread::gettid().as_raw_nonzero().get() as u32).unwrap();
            let _ = wait.recv();
        });
        let tid = receiver.recv().unwrap();
        let process = std::process::id();
        assert!(
            matches!(Process::find(tid), Err(TargetError::Thread { thread, process: of }) if (thread, of) == (tid, process))
        );
        assert!(threads(process).any(|thread| thread == tid));
        assert_eq!(threads(process).next(), Some(process));
        drop(keep);
        worker.join().unwrap();
    }
}
