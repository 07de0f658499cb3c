//! The pprof format: what `go tool pprof`, Speedscope, Perfetto, Parca and Pyroscope read, and what memprof saves.
//!
//! Its messages are in [`wire`], bytes become messages and messages bytes in [`decode`] and [`encode`], and [`Notes`] are what memprof
//! keeps beside the samples. Meaning is given to all this elsewhere: `render/pprof` writes a report, `saved/pprof` reads one.

mod file;
mod limits;
mod notes;
mod tables;
pub mod wire;

pub use file::{decode, encode};
pub use limits::Limits;
pub use notes::{Notes, SourceParts};
pub use tables::Tables;

/// The sample types of memprof's profiles and their units: those of Go's heap profiles, in their order.
pub const SAMPLE_TYPES: [(&str, &str); 4] =
    [("alloc_objects", "count"), ("alloc_space", "bytes"), ("inuse_objects", "count"), ("inuse_space", "bytes")];

/// Keys of labels.
pub mod label {
    /// Bytes of each block of the sample, as in Go's and tcmalloc's heap profiles.
    pub const BYTES: &str = "bytes";
    /// Nanoseconds since they were allocated.
    pub const AGE: &str = "age";
    /// The process.
    pub const PID: &str = "pid";
    /// Its command name.
    pub const COMMAND: &str = "command";
    /// The place of the process in the report, where several have had one pid.
    pub const PROCESS: &str = "process";
    /// The name of the stack, in hexadecimal.
    pub const STACK: &str = "stack";
}

/// Names of frames that are no functions.
pub mod pseudo {
    /// Stands for a stack that was lost.
    pub const LOST: &str = "[stack lost]";
    /// Stands for what was allocated at stacks that are not in the profile.
    pub const NOT_KEPT: &str = "[stacks that were not kept]";
    /// Stands for processes that were followed, have ended, and are not told one by one.
    pub const ENDED: &str = "[processes that have ended]";
}

/// What is wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum PprofError {
    /// It cannot be decompressed.
    #[error("it is damaged, or not compressed by gzip: {0}")]
    Compression(std::io::Error),
    /// It is too large.
    #[error("it would take more than {0} of memory")]
    TooLarge(bytesize::ByteSize),
    /// It is not made of the messages of the format.
    #[error("it is no profile: {0}")]
    Message(String),
    /// It names something that is not there.
    #[error("it is no sound profile: {0}")]
    Unsound(&'static str),
    /// A newer memprof wrote it.
    #[error("a newer memprof has written it (its notes are {0}, and this memprof knows memprof.profile/1)")]
    Newer(String),
    /// memprof's notes are not what they should be.
    #[error("memprof's notes in it are damaged: {0}")]
    Notes(serde_json::Error),
}
