//! Every doubt that a user is told of, with the remedy in the text.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Losses;

/// A doubt about the figures, or about what was observed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Warning {
    /// Allocations were dropped at a full nursery.
    #[error(
        "{0} allocations were not recorded because the nursery was full, and the ring buffer too; what is shown is too low by up to that many \
         (larger: --nursery-entries)"
    )]
    NurseryFull(u64),
    /// Allocations were dropped at a full ring, while tracing.
    #[error(
        "{0} allocations were not traced because the ring buffer was full; they are missing from the trace and from all figures \
         (larger: --ring-size)"
    )]
    AllocationsRingFull(u64),
    /// Allocations were dropped at a nursery full of samples.
    #[error(
        "{0} sampled allocations were not recorded because the nursery was full; the estimates lack what these stand for \
         (larger: --nursery-entries, or --sample)"
    )]
    SamplesFull(u64),
    /// Frees were dropped at a full ring.
    #[error(
        "{0} frees were not recorded because the ring buffer was full; up to that many blocks shown as outstanding were \
         freed (larger: --ring-size)"
    )]
    FreesRingFull(u64),
    /// Stacks were dropped at a full ring.
    #[error("{0} allocations have no stack because the ring buffer was full (larger: --ring-size)")]
    StacksRingFull(u64),
    /// Stacks were dropped at a full table.
    #[error("{0} allocations have no stack because the stack table was full (larger: --stack-entries)")]
    StacksTableFull(u64),
    /// Stacks could not be read.
    #[error("{0} allocations have no stack because the target's stack could not be read")]
    StacksUnreadable(u64),
    /// Calls did not return where they were expected.
    #[error(
        "{0} calls into the allocator were not seen to return (a longjmp or an exception out of it, or a return probe that the kernel \
         skipped); what they allocated is not shown"
    )]
    MissedReturns(u64),
    /// Too many threads.
    #[error("{0} calls into the allocator were not followed because too many threads were in it (larger: --threads)")]
    InFlightFull(u64),
    /// Probes had to be attached again while the target ran.
    #[error(
        "process {pid} was without probes for a moment after {cause}: what it allocated and freed in between is not known"
    )]
    ProbesInterrupted {
        /// The process.
        pid: u32,
        /// What happened.
        cause: &'static str,
    },
    /// Probes were lost.
    #[error("process {pid} could not be probed again after {cause}: what it has done since is not known")]
    ProbesLost {
        /// The process.
        pid: u32,
        /// What happened.
        cause: &'static str,
    },
    /// Links are bound to a thread that is gone, and no probes can take their place.
    #[error(
        "the first thread of process {pid} has ended: what it does since may be missed, unseen, where probes are taken out of the same \
         functions, by another tool or when memprof leaves another process (with CAP_SYS_ADMIN, it attaches through another thread)"
    )]
    FirstThreadEnded {
        /// The process.
        pid: u32,
    },
    /// A process was left alone, since it could not be observed within the limit.
    #[error(
        "process {pid} is not observed any more: following its frees alone takes {share:.1} % of its CPU time, and \
         --max-overhead is {limit} %; its figures are those of the moment when that was certain"
    )]
    TooCostly {
        /// The process.
        pid: u32,
        /// In percent.
        share: Percent,
        /// In percent.
        limit: Percent,
    },
    /// The image has no allocator function known to memprof.
    #[error("process {pid} executed {command}, in which no allocator function was found; nothing is recorded of it")]
    NoAllocator {
        /// The process.
        pid: u32,
        /// What it runs.
        command: String,
    },
    /// An executable may have an allocator that cannot be found.
    #[error("{}: {reason}; what it allocates there is not seen", path.display())]
    AllocatorUnnamed {
        /// As the target sees it.
        path: PathBuf,
        /// Why.
        reason: &'static str,
    },
    /// A function cannot be probed.
    #[error("{}: not probed: {function}; what it allocates is not seen", path.display())]
    FunctionLeftOut {
        /// As the target sees it.
        path: PathBuf,
        /// Which, and why.
        function: String,
    },
    /// A function that the user named is nowhere.
    #[error("process {pid} has no function {function} (--function): no object that it has mapped so far defines it")]
    NoSuchFunction {
        /// The process.
        pid: u32,
        /// Its name.
        function: &'static str,
    },
    /// Processes that were to be attached to, and could not be.
    #[error("{}", reason.said_of(*count, names))]
    LeftOut {
        /// Why not.
        reason: LeftOut,
        /// How many.
        count: usize,
        /// Some of them.
        names: String,
    },
    /// A file that was mapped could not be opened.
    #[error("{} cannot be read: its functions are shown as offsets", path.display())]
    ObjectUnreadable {
        /// As the target sees it.
        path: PathBuf,
    },
    /// Processes that were forked were probed once they ran.
    #[error(
        "{0} forked processes were observed from a moment after their start on: what they allocated before is not known (it is with \
         --follow-children=exact, and with sweep --all)"
    )]
    SeenLate(u64),
    /// Too many processes were forked at once.
    #[error("{0} forked processes were not observed because too many were at once; nothing is known of them")]
    NotFollowed(u64),
    /// Of ended processes sums are known, and not what of these is selected and not suppressed.
    #[error(
        "{processes} more processes have ended and held {bytes} bytes in all, of which it is not known what is selected and not suppressed"
    )]
    EndedUnjudged {
        /// How many.
        processes: u64,
        /// What they held together.
        bytes: u64,
    },
    /// The kernel dropped mmap events.
    #[error("the kernel dropped {0} notices of new mappings; code that is mapped no more may have no names")]
    MappingsLost(u64),
    /// What is shown comes from a log of calls.
    #[error("this is a log of calls (mtrace), which tells neither ages nor whose it is")]
    Log,
    /// What the writer of a log has put into it for its reader.
    #[error("the log says: {0}")]
    LogRemark(String),
    /// A log frees what it has not allocated.
    #[error("{count} frees in the log are of blocks that it has not allocated, or has freed before: {lines}")]
    LogFreesUnknown {
        /// How many.
        count: u64,
        /// The first of them.
        lines: String,
    },
    /// A log allocates what it has not freed.
    #[error("{count} blocks were allocated again in the log without a free, which is missing: {lines}")]
    LogRepeats {
        /// How many.
        count: u64,
        /// The first of them.
        lines: String,
    },
    /// A log has lines that mean nothing.
    #[error("{count} lines of the log are not understood, and left out: {lines}")]
    LogUnreadable {
        /// How many.
        count: u64,
        /// The first of them.
        lines: String,
    },
    /// A saved profile is another tool's.
    #[error(
        "this profile was not written by memprof: what was lost while it was recorded is not known, nor are growth, verdicts and peaks"
    )]
    Foreign,
    /// A saved profile has been changed.
    #[error(
        "another tool has rewritten this profile since memprof saved it: what memprof had noted beside its samples does not fit \
         them any more, and is left out"
    )]
    Rewritten,
    /// A saved profile is none of a heap, but a difference of two.
    #[error(
        "this profile has negative figures, as a difference of two has; they count as nothing (memprof diff compares profiles)"
    )]
    NegativeFigures,
    /// Ages in a saved profile are not known to the nanosecond.
    #[error(
        "{0} allocations may be older than asked for, or not: ages in a saved profile are cut to two digits; they are not shown"
    )]
    AgesCut(u64),
    /// Nor are sizes, where there are many.
    #[error(
        "sizes in this profile are cut, since its stacks had blocks of very many sizes: of {0} allocations it is not certain whether \
         they are within the sizes asked for"
    )]
    SizesCut(u64),
    /// Ages were not saved.
    #[error("the ages of allocations are not in this profile: none is taken for old")]
    AgesUnknown,
    /// Sizes and ages were not saved.
    #[error("{0} stacks are left out: the sizes and ages of what they hold are not in this profile")]
    GroupsUnknown(usize),
    /// Single blocks were not saved.
    #[error("single allocations are not in this profile (record it with --show-allocations)")]
    AllocationsNotSaved,
    /// What stacks held at the peak was not saved.
    #[error("what stacks held at the peak is not in this profile")]
    PeakUnknown,
    /// Temporary allocations are not told.
    #[error("temporary allocations are not counted in this profile: its stacks are in the order of what they hold")]
    TemporaryUnknown,
    /// Any of these, read back from where it was saved.
    #[error("{0}")]
    Recorded(String),
}

/// As its text.
impl Serialize for Warning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Warning {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::Recorded)
    }
}

/// Why a process is left out where many are attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LeftOut {
    /// It has ended.
    Ended,
    /// It has no allocator that is known.
    NoAllocator,
    /// Anything else.
    Refused,
}

impl LeftOut {
    fn said_of(self, count: usize, names: &str) -> String {
        let processes = if count == 1 { "process" } else { "processes" };
        match self {
            Self::Ended => format!("{count} {processes} ended before memprof attached: {names}"),
            Self::NoAllocator => format!(
                "{count} {processes} not observed, since no allocator function was found (`memprof doctor --pid` says what was \
                 searched): {names}"
            ),
            Self::Refused => format!("{count} {processes} could not be attached to: {names}"),
        }
    }
}

/// A percentage that can be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Percent {
    millionths: u64,
}

impl Percent {
    /// Of a share from 0 to 1.
    pub fn of_share(share: f64) -> Self {
        Self { millionths: (share * 1e6).round() as u64 }
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&(self.millionths as f64 / 1e4), formatter)
    }
}

impl Warning {
    /// The one process that it is about.
    pub fn pid(&self) -> Option<u32> {
        match self {
            Self::ProbesInterrupted { pid, .. }
            | Self::ProbesLost { pid, .. }
            | Self::FirstThreadEnded { pid }
            | Self::TooCostly { pid, .. }
            | Self::NoAllocator { pid, .. }
            | Self::NoSuchFunction { pid, .. } => Some(*pid),
            _ => None,
        }
    }

    /// Whether it is about allocations or frees of an observed process that are missing from the figures, or may be.
    pub fn is_loss(&self) -> bool {
        matches!(
            self,
            Self::NurseryFull(_)
                | Self::SamplesFull(_)
                | Self::AllocationsRingFull(_)
                | Self::FreesRingFull(_)
                | Self::StacksRingFull(_)
                | Self::StacksTableFull(_)
                | Self::StacksUnreadable(_)
                | Self::MissedReturns(_)
                | Self::InFlightFull(_)
                | Self::ProbesInterrupted { .. }
                | Self::ProbesLost { .. }
                | Self::FirstThreadEnded { .. }
                | Self::TooCostly { .. }
                | Self::NoAllocator { .. }
                | Self::AllocatorUnnamed { .. }
                | Self::FunctionLeftOut { .. }
                | Self::NoSuchFunction { .. }
                | Self::SeenLate(_)
                | Self::NotFollowed(_)
                | Self::EndedUnjudged { .. }
                | Self::LogFreesUnknown { .. }
                | Self::LogRepeats { .. }
                | Self::LogUnreadable { .. }
                | Self::Foreign
                | Self::Rewritten
                | Self::NegativeFigures
                | Self::AgesCut(_)
                | Self::SizesCut(_)
                | Self::AgesUnknown
                | Self::GroupsUnknown(_)
        )
    }

    /// One warning for each cause of loss.
    pub fn of_losses(losses: &Losses, is_sampled: bool) -> impl Iterator<Item = Self> + use<> {
        let nursery_full: fn(u64) -> Self = if is_sampled { Self::SamplesFull } else { Self::NurseryFull };
        [
            (losses.nursery_full, nursery_full),
            (losses.allocations_ring_full, Self::AllocationsRingFull),
            (losses.frees_ring_full, Self::FreesRingFull),
            (losses.stacks_ring_full, Self::StacksRingFull),
            (losses.stacks_table_full, Self::StacksTableFull),
            (losses.stacks_unreadable, Self::StacksUnreadable),
            (losses.missed_returns, Self::MissedReturns),
            (losses.in_flight_full, Self::InFlightFull),
        ]
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, warning)| warning(count))
    }
}
