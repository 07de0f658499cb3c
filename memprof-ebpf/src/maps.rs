//! The maps. Sizes are defaults; the loader sets those that options change.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    macros::map,
    maps::{Array, HashMap, PerCpuArray, Queue, RingBuf},
};
use memprof_common::{
    Binding, Cookie, ImageTotals, InFlight, MAX_FRAMES, MAX_SITES, MAX_SPARES, MAX_TARGETS, NurseryEntry, Site,
    StackCopyRecord, StackRecord, StackTotals, StackTurn, Tracked,
    buckets::Line,
    tables::{CachedRule, MappedCode, Space},
};

use crate::{
    areas::Node,
    memo::{MEMOS_A_CPU, Memo, Start},
    unwind::WINDOW_BYTES,
};

/// Keys of all tables: where each key is says what is at the same place in the table's array of values.
#[map]
pub static KEYS: Array<Line> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Live blocks that userspace has not drained yet. The loader sets the size of this and of the other tables.
#[map]
pub static NURSERY: Array<NurseryEntry> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Counts of each known stack. Its frames went through the ring once, when it was entered.
#[map]
pub static STACKS: Array<StackTotals> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Takes turns with [`STACKS`].
#[map]
pub static MORE_STACKS: Array<StackTotals> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Which of the two it is.
#[map]
pub static STACK_TURN: Array<StackTurn> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Counts of each image.
#[map]
pub static TOTALS: PerCpuArray<ImageTotals> = PerCpuArray::with_max_entries(1, 0);

/// What each thread is doing in the allocator.
#[map]
pub static IN_FLIGHT: Array<InFlight> = Array::with_max_entries(1, 0);

/// The current image of each target.
#[map]
pub static TARGETS: Array<u32> = Array::with_max_entries(MAX_TARGETS, 0);

/// The probes of each target that count.
#[map]
pub static BINDINGS: Array<Binding> = Array::with_max_entries(MAX_TARGETS, 0);

/// The extent of the code around each probed function.
#[map]
pub static SITES: Array<Site> = Array::with_max_entries(MAX_SITES, 0);

/// Processes whose `execve` and exit matter, by pid.
#[map]
pub static TRACKED: HashMap<u32, Tracked> = HashMap::with_max_entries(MAX_TARGETS, 0);

/// Targets for processes that are yet to be forked. Userspace sees to it that there are some.
#[map]
pub static SPARES: Queue<u32> = Queue::with_max_entries(MAX_SPARES, 0);

/// One word: how many processes could not be followed.
#[map]
pub static UNFOLLOWED: Array<u64> = Array::with_max_entries(1, 0);

/// One word: how many images the kernel side has numbered.
#[map]
pub static EXECS: Array<u32> = Array::with_max_entries(1, 0);

/// How full the nursery is, as far as this CPU knows.
#[map]
pub static PRESSURE: PerCpuArray<Pressure> = PerCpuArray::with_max_entries(1, 0);

/// Room to capture stacks in. More than one for each CPU: a program can be preempted by another thread's.
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(SCRATCH_SLOTS, 0);

/// Room to copy stacks to, for each slot of [`SCRATCH`].
#[map]
pub static COPIES: PerCpuArray<StackCopyRecord> = PerCpuArray::with_max_entries(SCRATCH_SLOTS, 0);

/// Frees and stacks: frequent, and lossy under pressure.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 24, 0);

/// `execve`s, exits and calls for a drain: rare, and not to be crowded out by frees.
#[map]
pub static CONTROL: RingBuf = RingBuf::with_byte_size(1 << 16, 0);

/// Unwinding rows of every object, see [`memprof_common::unwind`]. Appended to; the loader sets the size.
#[map]
pub static ROWS: Array<u64> = Array::with_max_entries(1 << 22, BPF_F_MMAPABLE);

/// What code every target has mapped, in runs.
#[map]
pub static MAPPINGS: Array<MappedCode> = Array::with_max_entries(1 << 16, BPF_F_MMAPABLE);

/// Each target's address space.
#[map]
pub static SPACES: Array<Space> = Array::with_max_entries(MAX_TARGETS, BPF_F_MMAPABLE);

/// Rules by pc, of all targets.
#[map]
pub static CACHE: Array<CachedRule> = Array::with_max_entries(1 << CachedRule::INDEX_BITS, 0);

/// A node of a maple tree, to be looked through. One for each CPU will do: page faults do not interrupt each other there.
#[map]
pub static NODE: PerCpuArray<Node> = PerCpuArray::with_max_entries(1, 0);

/// One word: how often the program for page faults ran on this CPU, for whatever process.
#[map]
pub static FAULTS_SEEN: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

/// See [`crate::memo`].
#[map]
pub static MEMOS: PerCpuArray<Memo> = PerCpuArray::with_max_entries(MEMOS_A_CPU, 0);

/// Slots of [`SCRATCH`].
pub const SCRATCH_SLOTS: u32 = 4;

/// Net insertions into the nursery on one CPU, which may be negative where others allocate what this one frees.
#[repr(C)]
pub struct Pressure {
    /// Insertions less removals.
    pub net: i64,
    /// `net` when userspace was last called, or its minimum since.
    pub base: i64,
}

/// A stack being captured.
#[repr(C)]
pub struct Scratch {
    /// Nonzero while in use.
    pub busy: u64,
    /// Being unwound.
    pub walk: Walk,
    /// As it will go through the ring.
    pub record: StackRecord,
}

/// The state of an unwinding.
#[repr(C)]
pub struct Walk {
    /// Registers to start from.
    pub ip: u64,
    /// See `ip`.
    pub sp: u64,
    /// See `ip`.
    pub bp: u64,
    /// Of the pcs, and of what it was seeded with.
    pub hash: u64,
    /// Number of frames.
    pub depth: u64,
    /// Whose stack.
    pub target: u32,
    /// See [`memprof_common::tables::ended`].
    pub ended: u32,
    /// See [`memprof_common::tables::Space::generation`].
    pub generation: u64,
    /// See [`memprof_common::tables::Space::stack_end`].
    pub stack_end: u64,
    /// What it began with.
    pub start: Start,
    /// While words are noted for a memo: where rbp was saved; zero while it is in the register.
    pub bp_place: u64,
    /// Address of the first word of the window.
    pub window_start: u64,
    /// Offset in the window of the last word that is there.
    pub window_last: u64,
    /// Return addresses, from the allocator's caller outwards, as in [`memprof_common::StackFrame::address`].
    pub pcs: [u64; MAX_FRAMES + 1],
    /// What lies there.
    pub window: [u64; (WINDOW_BYTES / 8) as usize],
}

/// The image that a probe's cookie stands for; none if the probe was replaced.
#[inline(always)]
pub fn image_of(cookie: Cookie) -> Option<u32> {
    let binding = BINDINGS.get(cookie.target())?;
    if binding.generation != cookie.generation() {
        return None;
    }
    TARGETS.get(cookie.target()).copied()
}
