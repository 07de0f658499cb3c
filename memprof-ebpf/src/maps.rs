//! The maps. Sizes are defaults; the loader sets those that options change.

use aya_ebpf::{
    macros::map,
    maps::{Array, HashMap, PerCpuArray, PerCpuHashMap, RingBuf},
};
use memprof_common::{
    Binding, Cookie, ImageTotals, InFlight, MAX_SITES, MAX_TARGETS, NurseryEntry, NurseryKey, Site, StackRecord,
    StackTotals, Tracked,
};

/// Live blocks that userspace has not drained yet.
#[map]
pub static NURSERY: HashMap<NurseryKey, NurseryEntry> = HashMap::with_max_entries(1 << 18, 0);

/// Counts of each known stack. Its frames went through the ring once, when it was new.
#[map]
pub static STACKS: HashMap<u64, StackTotals> = HashMap::with_max_entries(1 << 16, 0);

/// Counts of each image.
#[map]
pub static TOTALS: PerCpuHashMap<u32, ImageTotals> = PerCpuHashMap::with_max_entries(MAX_TARGETS * 2, 0);

/// What each thread is doing in the allocator.
#[map]
pub static IN_FLIGHT: HashMap<u64, InFlight> = HashMap::with_max_entries(1 << 14, 0);

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

/// One word: how many images the kernel side has numbered.
#[map]
pub static EXECS: Array<u32> = Array::with_max_entries(1, 0);

/// How full the nursery is, as far as this CPU knows.
#[map]
pub static PRESSURE: PerCpuArray<Pressure> = PerCpuArray::with_max_entries(1, 0);

/// Room to capture stacks in. More than one for each CPU: a program can be preempted by another thread's.
#[map]
pub static SCRATCH: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(SCRATCH_SLOTS, 0);

/// Frees and stacks: frequent, and lossy under pressure.
#[map]
pub static EVENTS: RingBuf = RingBuf::with_byte_size(1 << 24, 0);

/// `execve`s, exits and calls for a drain: rare, and not to be crowded out by frees.
#[map]
pub static CONTROL: RingBuf = RingBuf::with_byte_size(1 << 16, 0);

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
    /// As it will go through the ring.
    pub record: StackRecord,
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
