//! Why a process or a command cannot be profiled, each in one line.

use std::{io, path::PathBuf};

use crate::elf::ElfError;

/// Why a process cannot be profiled.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// There is none of that number, or it went while it was looked at.
    #[error("no process has the pid {0}")]
    NoSuchProcess(u32),
    /// The number is that of a thread that is not its process's first.
    #[error("{thread} is a thread of process {process} (profile that: --pid {process})")]
    Thread {
        /// The number given.
        thread: u32,
        /// The pid of its process.
        process: u32,
    },
    /// It has no memory of its own.
    #[error("process {0} is a kernel thread: it has no heap")]
    KernelThread(u32),
    /// It has exited, and its parent has not yet noticed.
    #[error("process {0} has exited (it is a zombie)")]
    Exited(u32),
    /// Its executable is for 32-bit processes.
    #[error("process {0} is a 32-bit process, which memprof does not support")]
    ThirtyTwoBit(u32),
    /// The kernel does not let us look.
    #[error("the memory mappings of process {0} may not be read (needs root, or CAP_SYS_PTRACE)")]
    PermissionDenied(u32),
    /// Anything else.
    #[error("process {pid} cannot be read")]
    Unreadable {
        /// Its pid.
        pid: u32,
        /// What the kernel said.
        source: io::Error,
    },
}

impl TargetError {
    /// What an error in reading `/proc/PID` means.
    pub(super) fn of_io(pid: u32, error: io::Error) -> Self {
        let process_gone = error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error());
        match error.kind() {
            io::ErrorKind::NotFound => Self::NoSuchProcess(pid),
            io::ErrorKind::PermissionDenied => Self::PermissionDenied(pid),
            _ if process_gone => Self::NoSuchProcess(pid),
            _ => Self::Unreadable { pid, source: error },
        }
    }
}

/// Why a command cannot be launched. Names are as the user, or the script, gave them.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// It is neither a file nor in `PATH`.
    #[error("{}: command not found", .0.display())]
    NotFound(PathBuf),
    /// It lacks the permission.
    #[error("{}: not executable (permission denied)", .0.display())]
    NotExecutable(PathBuf),
    /// It is a directory.
    #[error("{}: is a directory", .0.display())]
    IsDirectory(PathBuf),
    /// A script names an interpreter that cannot be executed.
    #[error("{}: bad interpreter", script.display())]
    Interpreter {
        /// The script.
        script: PathBuf,
        /// What is wrong with the interpreter, which it names.
        #[source]
        source: Box<LaunchError>,
    },
    /// The interpreter of the interpreter of the interpreter …
    #[error("{}: too many levels of script interpreters", .0.display())]
    TooManyInterpreters(PathBuf),
    /// It is neither an ELF file for this machine nor a script.
    #[error("{}: not a program", path.display())]
    NotAProgram {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        source: ElfError,
    },
    /// It could not be read.
    #[error("{}: cannot be read", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl LaunchError {
    /// What a shell, `env` or `nice` exit with in this case: 127 if there is no such command, 126 if it is none.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::NotFound(_) => 127,
            Self::Interpreter { source, .. } => source.exit_status(),
            _ => 126,
        }
    }
}
