//! Descriptors that tokio watches. A leaf module: any stage may use it.

use std::{io, os::fd::AsRawFd};

use tokio::io::{Interest, unix::AsyncFd};

/// Watches a descriptor for something to read.
pub(crate) fn watch<T: AsRawFd>(inner: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: what is passed here owns its descriptor, and keeps it open and the same until it is dropped.
    Ok(unsafe { AsyncFd::register_with_interest(inner, Interest::READABLE) }?)
}
