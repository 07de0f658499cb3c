//! What of a process is in memory, and what its growth comes from.

use std::time::Duration;

use super::Trend;

/// Bytes of a process that are in memory or in swap, by what backs them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResidentMemory {
    /// Private memory of no file, or that was written to: heap, stacks, data.
    pub anonymous: u64,
    /// Of mapped files.
    pub file: u64,
    /// Shared memory, and files in tmpfs.
    pub shared: u64,
    /// Anonymous memory that is swapped out.
    pub swapped: u64,
}

impl ResidentMemory {
    /// Anonymous memory, wherever it is.
    pub fn all_anonymous(&self) -> u64 {
        self.anonymous.saturating_add(self.swapped)
    }
}

/// How memory has changed since observation of a process began, and its outstanding bytes in the same time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MemoryGrowth {
    /// What it is now.
    pub now: ResidentMemory,
    /// Since so long ago.
    pub since: Duration,
    /// Of anonymous memory, in memory or in swap.
    pub anonymous: i64,
    /// Of mapped files.
    pub file: i64,
    /// Of shared memory.
    pub shared: i64,
    /// Of what is outstanding; an estimate where that is one.
    pub tracked: i64,
}

/// What the growth of a process's memory comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Too few looks, or its memory could not be read.
    Unknown,
    /// It has hardly grown, and neither has what is outstanding.
    NoGrowth,
    /// Outstanding allocations are most of the growth.
    Heap,
    /// Outstanding allocations are some of it.
    PartlyHeap,
    /// Anonymous memory grew, and outstanding allocations did not, or by much less.
    NotHeap,
    /// Mapped files grew most.
    Files,
    /// Shared memory grew most.
    Shared,
    /// What is outstanding grew, and anonymous memory did not.
    Reuse,
}

impl Cause {
    /// As one word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::NoGrowth => "no_growth",
            Self::Heap => "heap",
            Self::PartlyHeap => "partly_heap",
            Self::NotHeap => "not_heap",
            Self::Files => "files",
            Self::Shared => "shared",
            Self::Reuse => "reuse",
        }
    }
}

/// What a process comes to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessVerdict {
    /// Of what is outstanding.
    pub trend: Trend,
    /// Nothing if it could not be read.
    pub memory: Option<MemoryGrowth>,
    /// What follows from the two.
    pub cause: Cause,
}
