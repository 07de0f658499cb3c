//! Debug information is read in a process of its own.
//!
//! A target's files may be made to break who reads them: their debug information can be nested so deeply that a parser's stack
//! overflows, be compressed a thousandfold, or refer to itself; and a file that is mapped can be cut off by its owner while it is
//! read. None of that can be caught within a process. So memprof starts itself once more, as a process that does nothing but
//! answer what lies at a place in a file. It is given the files' descriptors, has no probe, no map and none of memprof's
//! other files, no more privileges than it needs to open those again, and limits on memory and on processor time for each
//! question ([`serve()`]). Should it end, it is started again; a file that it ends over twice is not asked again.
//!
//! It ends with memprof, however that ends: its socket is closed then, and the kernel kills it.

mod serve;
mod wire;

use std::{
    collections::HashSet,
    fs::File,
    io,
    os::{
        fd::{AsRawFd as _, RawFd},
        unix::{net::UnixStream, process::CommandExt as _},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    time::Duration,
};

pub use serve::serve;

use super::debug_info::{Answer, Question};
use crate::regular_file::{descriptor_path, nothing};

/// The subcommand by which memprof starts itself.
pub const SUBCOMMAND: &str = "read-names";

/// Most time that an answer is waited for, on however busy a machine; the limit on processor time comes long before.
const PATIENCE: Duration = Duration::from_secs(300);

/// So often it is started again.
const MOST_ENDS: u32 = 32;

/// The process that reads files, while it runs.
#[derive(Debug)]
pub(super) struct Helper {
    debug_directories: Vec<PathBuf>,
    process: Option<Process>,
    /// Files that it has ended over, and whether debug information was asked for.
    refused: HashSet<(RawFd, bool)>,
    ends: u32,
}

impl Helper {
    pub(super) fn new(debug_directories: &[PathBuf]) -> Self {
        Self { debug_directories: debug_directories.into(), process: None, refused: HashSet::new(), ends: 0 }
    }

    /// What a file says, which stays open as long as this lives.
    pub(super) fn answer(&mut self, file: &File, question: Question) -> Option<Answer> {
        let subject = (file.as_raw_fd(), question.debug_information);
        if self.refused.contains(&subject) {
            return None;
        }
        // All that it has read before may have been too much; so the file has two chances.
        for _ in 0..2 {
            match self.try_to_answer(file, question) {
                Ok(answer) => return answer,
                Err(error) => {
                    log::debug!("the process that reads names has ended: {error}");
                    self.process = None;
                    self.ends += 1;
                }
            }
            if self.ends >= MOST_ENDS {
                break;
            }
        }
        let what = if question.debug_information { "debug information" } else { "symbols" };
        let path = std::fs::read_link(descriptor_path(file)).unwrap_or_default();
        log::warn!("{}: its {what} cannot be read within the limits, and is left out", path.display());
        self.refused.insert(subject);
        None
    }

    fn try_to_answer(&mut self, file: &File, question: Question) -> io::Result<Option<Answer>> {
        if self.process.is_none() {
            if self.ends >= MOST_ENDS {
                return Err(io::Error::other("it has ended too often"));
            }
            self.process = Some(Process::start(&self.debug_directories)?);
        }
        let Some(process) = &mut self.process else { return Ok(None) };
        process.ask(file, question)
    }
}

#[derive(Debug)]
struct Process {
    child: Child,
    socket: UnixStream,
    /// Files that it has been given.
    given: HashSet<RawFd>,
}

impl Process {
    fn start(debug_directories: &[PathBuf]) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let mut command = Command::new("/proc/self/exe");
        command.arg0("memprof").arg(SUBCOMMAND).args(debug_directories).env_clear();
        command.stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs))).stdout(nothing()?).stderr(nothing()?);
        // What the terminal sends to memprof, such as Ctrl-C, is not for it: the last report needs names.
        command.process_group(0);
        let child = command.spawn()?;
        Ok(Self { child, socket, given: HashSet::new() })
    }

    fn ask(&mut self, file: &File, question: Question) -> io::Result<Option<Answer>> {
        let number = file.as_raw_fd();
        let is_new = !self.given.contains(&number);
        wire::send_question(&self.socket, number as u32, question, is_new.then_some(file))?;
        let answer = wire::receive_answer(&mut self.socket)?;
        self.given.insert(number);
        Ok(answer)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
