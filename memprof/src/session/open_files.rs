//! How many files memprof may have open: of each process and each link one, of each object one. A launched command is to have the
//! limit that memprof was started with.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The limit that memprof was started with.
#[derive(Clone, Debug)]
pub(super) struct OpenFiles(Rlimit);

impl OpenFiles {
    /// Raises the limit as far as it goes without privileges.
    pub(super) fn raise() -> Self {
        let limit = getrlimit(Resource::Nofile);
        let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, raised) {
            log::debug!("the limit of open files stays as it is: {error}");
        }
        Self(limit)
    }

    /// Sets the limit that there was. Makes a system call only, so that it may be called after `fork`.
    pub(super) fn restore(&self) {
        let Self(Rlimit { current, maximum }) = self;
        let _ = setrlimit(Resource::Nofile, Rlimit { current: *current, maximum: *maximum });
    }
}
