//! What the kernel side tells: records, decoded and trusted.

use serde::{Deserialize, Serialize};

use super::{ImageId, RawFrame, StackId, Timestamp, Told};

/// A block that was allocated and, as far as the sender knew, not freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// The pointer that the allocator returned.
    pub address: u64,
    /// Bytes requested.
    pub size: u64,
    /// Where it was allocated.
    pub stack: StackId,
    /// When the allocator returned.
    pub time: Timestamp,
}

/// A block was freed that had left the nursery, or was never in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Free {
    /// The pointer.
    pub address: u64,
    /// When it was freed.
    pub time: Timestamp,
    /// What its thread has allocated last, if that was at this address.
    pub newest: Option<Newest>,
}

/// What a thread has allocated last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Newest {
    /// Where.
    pub stack: StackId,
    /// When the allocator returned.
    pub time: Timestamp,
}

/// A stack as it was captured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawStack {
    /// Its name in allocations.
    pub id: StackId,
    /// Whose it is.
    pub image: ImageId,
    /// When it was first seen: its addresses mean what was mapped at that time.
    pub time: Timestamp,
    /// From the allocator's caller outwards.
    pub frames: Box<[RawFrame]>,
    /// Why frames may be missing, if they may.
    pub truncated: Option<Truncation>,
}

/// A stack that could not be unwound where it was taken: the memory above its stack pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackCopy {
    /// Its name in the one allocation that it belongs to.
    pub id: StackId,
    /// Whose it is.
    pub image: ImageId,
    /// When it was taken.
    pub time: Timestamp,
    /// Those of the allocator's caller, to which it has returned.
    pub registers: CopiedRegisters,
    /// Bytes that the allocation requested.
    pub size: u64,
    /// From the stack pointer on.
    pub bytes: Box<[u8]>,
}

/// What an unwinding starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopiedRegisters {
    /// `rip`
    pub ip: u64,
    /// `rsp`
    pub sp: u64,
    /// `rbp`
    pub bp: u64,
}

impl StackCopy {
    /// The word at an address, if it was copied.
    pub fn word(&self, address: u64) -> Option<u64> {
        let start = usize::try_from(address.checked_sub(self.registers.sp)?).ok()?;
        let word = self.bytes.get(start..start.checked_add(8)?)?;
        word.try_into().ok().map(u64::from_ne_bytes)
    }
}

/// Why a stack may be without some of its outer frames, or have wrong ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
pub enum Truncation {
    /// It has more frames than are kept.
    #[error("more than 127 frames")]
    TooDeep,
    /// Code without unwind tables was crossed by its frame pointer, if it has one.
    #[error("code without unwind tables")]
    NoTable,
    /// Code was crossed that had just been mapped.
    #[error("code that had just been mapped")]
    UnknownCode,
    /// A frame was met that cannot be one.
    #[error("an implausible frame")]
    Implausible,
    /// The stack's memory could not be read.
    #[error("unreadable memory")]
    Unreadable,
}

/// One thing that happened, in the order in which the kernel side wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A block was freed.
    Free {
        /// Whose block.
        image: ImageId,
        /// Which.
        free: Free,
    },
    /// A block was allocated for which the nursery had no place.
    Allocation {
        /// Whose block.
        image: ImageId,
        /// The block.
        allocation: Allocation,
    },
    /// A stack was seen for the first time.
    Stack(RawStack),
    /// A stack could not be unwound yet.
    StackCopy(StackCopy),
    /// The process attached as `target` replaced its program.
    Exec {
        /// The number the process was attached under.
        target: u32,
        /// The image that is no more.
        previous: ImageId,
        /// The image that began.
        image: ImageId,
        /// When.
        time: Timestamp,
        /// Another thread than the main one did, and the probes went with the main one.
        by_other_thread: bool,
    },
    /// A process was forked, and is to be followed.
    Fork {
        /// The number that it was given.
        target: u32,
        /// Its pid.
        pid: u32,
        /// The pid of the process that forked it; zero if it was there, and has executed a program.
        parent: u32,
        /// The image that it begins with.
        image: ImageId,
        /// When.
        time: Timestamp,
    },
    /// The thread exited that the probes of the process attached as `target` are bound to; others may live on.
    ProbedThreadExit {
        /// The number the process was attached under.
        target: u32,
        /// The thread; the process's pid if it was the main one.
        thread: u32,
    },
    /// Of a call that is traced.
    Traced(Told),
    /// A table of the kernel side's passed its fill mark and wants to be drained.
    Filling,
}

/// What an image did over the observed time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Successful allocations.
    pub allocations: u64,
    /// Bytes requested by them.
    pub allocated_bytes: u64,
    /// Frees of observed allocations.
    pub frees: u64,
    /// Bytes of those.
    pub freed_bytes: u64,
}

/// What is known of the allocations of one stack, freed since or not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackCounts {
    /// How many, in [units](super::Sampling::units).
    pub units: u64,
    /// Bytes requested by them. While sampling, an estimate.
    pub bytes: u64,
    /// How many of them outlived a drain, and were not freed by their thread before it allocated again.
    pub lasting: i64,
}

impl std::ops::AddAssign for StackCounts {
    fn add_assign(&mut self, other: Self) {
        self.units += other.units;
        self.bytes = self.bytes.wrapping_add(other.bytes);
        self.lasting += other.lasting;
    }
}

/// What was lost, by cause. Zero everywhere means that the figures are exact. While sampling, of what was taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Losses {
    /// Allocations forgotten: the nursery was full, and the ring too.
    pub nursery_full: u64,
    /// Frees forgotten: the ring was full.
    pub frees_ring_full: u64,
    /// Allocations without a stack: the ring was full.
    pub stacks_ring_full: u64,
    /// Allocations without a stack: the stack table was full.
    pub stacks_table_full: u64,
    /// Allocations without a stack: it could not be read.
    pub stacks_unreadable: u64,
    /// Allocator calls that were not seen to return.
    pub missed_returns: u64,
    /// Allocator calls not followed: too many threads.
    pub in_flight_full: u64,
    /// Page faults that may have brought memory in, or not: what is mapped there could not be found.
    pub faults_unresolved: u64,
    /// Allocations forgotten, while tracing: the ring was full.
    #[serde(default)]
    pub allocations_ring_full: u64,
}

impl Losses {
    /// Allocations that are missing from the figures.
    pub fn allocations(&self) -> u64 {
        self.nursery_full + self.allocations_ring_full + self.missed_returns + self.in_flight_full
    }

    /// Frees that are missing: blocks reported outstanding that may not be.
    pub fn frees(&self) -> u64 {
        self.frees_ring_full
    }

    /// Allocations that are counted, but whose stack is not known.
    pub fn stacks(&self) -> u64 {
        self.stacks_ring_full + self.stacks_table_full + self.stacks_unreadable
    }

    /// Whether nothing was lost.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl std::ops::AddAssign for Losses {
    fn add_assign(&mut self, other: Self) {
        self.nursery_full += other.nursery_full;
        self.frees_ring_full += other.frees_ring_full;
        self.stacks_ring_full += other.stacks_ring_full;
        self.stacks_table_full += other.stacks_table_full;
        self.stacks_unreadable += other.stacks_unreadable;
        // A call is counted on one CPU and may be taken back on another.
        self.missed_returns = self.missed_returns.wrapping_add(other.missed_returns);
        self.in_flight_full += other.in_flight_full;
        self.faults_unresolved += other.faults_unresolved;
        self.allocations_ring_full += other.allocations_ring_full;
    }
}

impl std::ops::AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.allocations += other.allocations;
        self.allocated_bytes += other.allocated_bytes;
        self.frees += other.frees;
        self.freed_bytes += other.freed_bytes;
    }
}
