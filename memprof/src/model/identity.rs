//! Numbers that name things. Each is its own type, so that one cannot stand for another.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One program in one address space, from `execve` (or the attach) to the next `execve` or the end of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageId(pub u32);

/// The 64-bit hash of a raw stack and its image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StackId(pub u64);

impl StackId {
    /// The stack of allocations whose stack was lost.
    pub const UNKNOWN: Self = Self(memprof_common::UNKNOWN_STACK);
}

/// A distinct mapped file (or pseudo-file such as the vdso) in the table of objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(pub u32);

/// Nanoseconds of `CLOCK_MONOTONIC`, the clock of BPF's `bpf_ktime_get_ns`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// So much later.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(duration.as_nanos() as u64))
    }

    /// Time from `earlier` to `self`, zero if `earlier` is later.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
