//! Profiles that were saved: read again, cut down to what is asked for, compared.
//!
//! A file of memprof's gives back the very report that was saved. Another tool's heap profile gives what can be made of it, and a warning.

mod difference;
mod foreign;
mod groups;
mod mtrace;
mod pprof;
mod select;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

pub use self::difference::difference;
pub use self::select::select;
use crate::{
    model::{Caller, Report, Snapshot},
    pprof::{Limits, PprofError},
};

/// Why a file cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum SavedError {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    /// It is a profile, or looks like one, and something is wrong with it.
    #[error(transparent)]
    Pprof(#[from] PprofError),
    /// It is a profile, and not of a heap.
    #[error("it is no heap profile: its samples are {0}")]
    NoHeap(String),
    /// It is nothing that is known.
    #[error("it is neither a profile (pprof) nor a log of mtrace")]
    Unknown,
    /// It is a log that cannot be understood.
    #[error("it is no sound log of mtrace: {0}")]
    Mtrace(String),
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Saved {
    /// A report.
    Report(Report),
    /// What a log of calls comes to. The frames of its stacks are callers, which those may name who have their modules.
    Log(Snapshot<Caller>),
}

/// Reads what was saved in a file, whatever its name.
///
/// # Errors
/// If it is no profile, or would take too much memory.
pub fn read(path: &Path) -> Result<Saved, SavedError> {
    let limits = Limits::default();
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    let modified = file.metadata().and_then(|metadata| metadata.modified()).ok();
    // Something endless is too large.
    file.take(limits.decompressed + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limits.decompressed {
        return Err(PprofError::TooLarge(bytesize::ByteSize(limits.decompressed)).into());
    }
    let mut saved = read_bytes(&bytes, &limits)?;
    // No line says when; the last was written then.
    if let (Saved::Log(log), Some(time)) = (&mut saved, modified.and_then(|time| time.try_into().ok())) {
        log.time = time;
    }
    Ok(saved)
}

/// Likewise what was in a file.
///
/// # Errors
/// As [`read`].
pub fn read_bytes(bytes: &[u8], limits: &Limits) -> Result<Saved, SavedError> {
    if mtrace::looks_like_log(bytes) {
        return mtrace::read(bytes).map(Saved::Log);
    }
    match pprof::read(bytes, limits) {
        Err(SavedError::Pprof(PprofError::Message(_) | PprofError::Unsound(_))) if is_text(bytes) => {
            Err(SavedError::Unknown)
        }
        read => read.map(Saved::Report),
    }
}

fn is_text(bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(64)];
    start.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace())
}
