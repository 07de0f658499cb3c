//! What the growth of a process's memory comes from.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Memory, Trend};

/// How memory has changed since observation of a process began, and its outstanding bytes in the same time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemoryGrowth {
    /// What it is now.
    pub now: Memory,
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessVerdict {
    /// Of what is outstanding.
    pub trend: Trend,
    /// Nothing if it could not be read.
    pub memory: Option<MemoryGrowth>,
    /// What follows from the two.
    pub cause: Cause,
}

impl ProcessVerdict {
    /// Of nothing that is known.
    pub const NONE: Self = Self { trend: Trend::NONE, memory: None, cause: Cause::Unknown };
}
