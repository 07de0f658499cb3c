//! A command that is held back between `fork` and `execve` until its probes are in.

use std::{
    ffi::OsString,
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::process::CommandExt as _,
    },
    process::{Child, Command, ExitStatus},
    thread::JoinHandle,
};

use anyhow::{Context as _, anyhow};
use rustix::process::{Pid, Signal};

use super::{open_files::OpenFiles, signals::Signals};

/// A child process that has not yet become the command.
pub(super) struct Held {
    pid: u32,
    release: PipeWriter,
    // `Command::spawn` returns when the child has called `execve`, so it waits elsewhere.
    spawning: JoinHandle<io::Result<Child>>,
}

impl Held {
    /// Forks, and waits until the child waits.
    pub(super) fn start(command: &[OsString], open_files: &OpenFiles, signals: &Signals) -> anyhow::Result<Self> {
        let (program, arguments) = command.split_first().ok_or_else(|| anyhow!("there is no command"))?;
        let (mut ready, ready_writer) = io::pipe().context("pipe")?;
        let (hold_reader, release) = io::pipe().context("pipe")?;
        let mut command = Command::new(program);
        command.args(arguments);
        ignore(&mut command, signals.ignored().to_vec());
        hold_back(&mut command, ready_writer, hold_reader, release.as_raw_fd(), open_files.clone());
        let spawning = std::thread::spawn(move || command.spawn());
        let mut pid = [0; 4];
        match ready.read_exact(&mut pid) {
            Ok(()) => Ok(Self { pid: u32::from_ne_bytes(pid), release, spawning }),
            Err(_) => Err(spawned(spawning).err().unwrap_or_else(|| anyhow!("the child did not get ready"))),
        }
    }

    /// Its pid, which will be the command's.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Lets it become the command.
    pub(super) fn release(mut self) -> anyhow::Result<Launched> {
        self.release.write_all(&[1]).context("the child is gone")?;
        Ok(Launched { child: spawned(self.spawning)? })
    }
}

fn spawned(spawning: JoinHandle<io::Result<Child>>) -> anyhow::Result<Child> {
    let result = spawning.join().map_err(|_| anyhow!("starting the command failed"))?;
    result.context("cannot start the command")
}

/// Has the command ignore these signals, which memprof catches.
fn ignore(command: &mut Command, signals: Vec<Signal>) {
    let ignore = move || {
        for signal in &signals {
            // SAFETY: no handler is set.
            unsafe { libc::signal(signal.as_raw(), libc::SIG_IGN) };
        }
        Ok(())
    };
    // SAFETY: it makes system calls only.
    unsafe { command.pre_exec(ignore) };
}

fn hold_back(
    command: &mut Command,
    mut ready: PipeWriter,
    mut hold: PipeReader,
    release: RawFd,
    open_files: OpenFiles,
) {
    let wait_for_release = move || {
        open_files.restore();
        // SAFETY: this is the child, where nobody uses its copy of the descriptor. With it open, the child would wait
        // for ever for a parent that was killed.
        unsafe { rustix::io::close(release) };
        ready.write_all(&std::process::id().to_ne_bytes())?;
        if hold.read_exact(&mut [0; 1]).is_err() {
            // The parent is gone or has changed its mind. An error would be told to it, and nobody may be there.
            // SAFETY: it ends this process, at once.
            unsafe { libc::_exit(1) };
        }
        Ok(())
    };
    // SAFETY: between `fork` and `execve` it makes system calls only; it allocates nothing and takes no lock.
    unsafe { command.pre_exec(wait_for_release) };
}

/// A command that runs.
pub(super) struct Launched {
    child: Child,
}

impl Launched {
    /// Its pid.
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Passes a signal on. That the command is gone already is no error.
    pub(super) fn forward(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, signal);
        }
    }

    /// Waits for its end, which is to be near: blocks.
    pub(super) fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        self.child.wait().context("waitpid")
    }
}
