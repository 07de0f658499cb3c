//! The shared vocabulary: what crosses from one stage of the pipeline to the next. Data and its invariants, no I/O.

mod difference;
mod event;
mod failure;
mod growth;
mod identity;
mod lossy;
mod memory;
mod object;
mod overhead;
mod plan;
mod process;
mod profile;
mod ranking;
mod sampling;
mod selection;
mod suppressed;
mod trace;
mod trend;
mod warning;

pub use difference::{
    Change, Difference, DifferenceSelection, DifferenceSort, DifferenceWarning, Held, ProcessDifference, Side,
    StackDifference,
};
pub use event::{
    Allocation, CopiedRegisters, Event, Free, Losses, Newest, RawStack, StackCopy, StackCounts, Totals, Truncation,
};
pub use failure::{FailWhen, Failure, FailureCause, Judgement};
pub use growth::{AnonymousMemory, Growth, GrowthOfProcess, GrowthOfStack, GrowthWarning, Touched};
pub use identity::{ImageId, ObjectId, StackId, Timestamp};
pub use memory::{Cause, MemoryGrowth, ProcessVerdict};
pub use object::{BuildId, FileIdentity, Mapping, MappingEvent, MappingNotice, Object, ObjectKind};
pub use overhead::{
    CallCounts, Overhead, OverheadLimit, RunTime, RunTimes, ScaledFigures, ScaledProcess, TrapCost, TrapCosts,
};
pub use plan::{
    AllocatorFunction, AttachPlan, Choice, Emulation, EntryReason, Pointer, ProbeSite, Release, SearchedObject, Size,
};
pub use process::{Identity, Memory, Sighting};
pub use profile::{
    Ages, BlockGroup, EndedProcesses, Frame, HistoryPoint, LiveAllocation, Moment, Outstanding, Peak, ProcessSnapshot,
    Profile, ProfileFrame, RawFrame, Report, Snapshot, Source, StackSnapshot, StackTotals, StandardError,
    address_for_lookup,
};
pub use ranking::{Ranking, Watched};
pub use sampling::{Sampling, WEIGHT_OF_ONE};
pub use selection::{Selection, Sort};
pub use suppressed::{Suppressed, SuppressedBy};
pub use trace::{Caller, Deed, ThreadId, Told, TraceEvent, TracedCall};
pub use trend::{Course, Trend};
pub use warning::{LeftOut, Percent, Warning};
