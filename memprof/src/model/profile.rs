//! What is outstanding, as raw stacks ([`Profile`]) and as named ones ([`Report`]): one shape, two kinds of frame.

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize};

use super::{
    BuildId, Identity, Losses, ObjectId, Overhead, OverheadLimit, ProcessVerdict, Ranking, ScaledFigures,
    ScaledProcess, StackId, Suppressed, Totals, Trend, Truncation, Warning, lossy,
};

/// What was allocated and not freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outstanding {
    /// Bytes requested.
    pub bytes: u64,
    /// Number of blocks.
    pub allocations: u64,
}

impl std::ops::AddAssign for Outstanding {
    fn add_assign(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.allocations += other.allocations;
    }
}

/// Processes that were followed, have ended, and are not reported one by one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndedProcesses {
    /// How many.
    pub processes: u64,
    /// What they had not freed when they ended.
    pub outstanding: Outstanding,
    /// Over the observed time.
    pub totals: Totals,
}

/// How far an estimate is from the truth, typically: one standard deviation. Zero where every block is taken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct StandardError {
    /// Of the bytes.
    pub bytes: f64,
    /// Of the number of blocks.
    pub allocations: f64,
}

/// A return address and what it lies in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RawFrame {
    /// As found on the stack.
    pub address: u64,
    /// The object mapped there, and the offset in its file; nothing where no mapping is known.
    pub place: Option<(ObjectId, u64)>,
}

/// A frame of a profile: what was captured, and what only its process can tell of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProfileFrame {
    /// What was captured.
    pub raw: RawFrame,
    /// The name that the process itself gives to the function, where it was compiled at run time.
    pub jit_function: Option<Arc<str>>,
}

impl From<RawFrame> for ProfileFrame {
    fn from(raw: RawFrame) -> Self {
        Self { raw, jit_function: None }
    }
}

/// Where to look up what a return address (or its offset in a file) belongs to: one byte before it.
///
/// A return address is that of the instruction *after* the call. If the call is a function's last instruction, as with
/// one that never returns, that is already the next function, or no longer mapped; and in any case it may be the next
/// line. The byte before it is the call's last one.
pub fn address_for_lookup(return_address: u64) -> u64 {
    return_address.saturating_sub(1)
}

/// A function on a named stack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Its demangled name, if there is a symbol.
    pub function: Option<String>,
    /// Source file, as the compiler was given it, and its directory, if there is debug information.
    pub source: Option<Source>,
    /// Path of the object, as the target sees it; `[JIT]` where the function was compiled at run time and has a name.
    #[serde(serialize_with = "lossy::optional_path")]
    pub module: Option<PathBuf>,
    /// The object's build id.
    pub build_id: Option<BuildId>,
    /// Offset in the object's file of the return address.
    pub offset_in_file: Option<u64>,
    /// The return address in the process.
    pub address: u64,
    /// Whether the function was inlined into the next frame.
    pub inlined: bool,
}

/// A source location.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// Directory of the compilation, if known.
    #[serde(serialize_with = "lossy::optional_path")]
    pub directory: Option<PathBuf>,
    /// File, as the compiler was given it.
    #[serde(serialize_with = "lossy::path")]
    pub file: PathBuf,
    /// Line, from 1, if known.
    pub line: Option<u32>,
}

/// One block, for `--show-allocations`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveAllocation {
    /// Its pointer.
    pub address: u64,
    /// Bytes requested.
    pub size: u64,
    /// Time since it was allocated.
    pub age: Duration,
}

/// Blocks of one size that were allocated at about the same time, for profiles that are looked at again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockGroup {
    /// Bytes requested of each.
    pub size: u64,
    /// Time since they were allocated, cut to two digits.
    pub age: Duration,
    /// How many, and how many bytes in all. Estimates where blocks are sampled.
    pub outstanding: Outstanding,
}

/// What has gone by at one stack, over the observed time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackTotals {
    /// Allocations made there, freed since or not.
    pub allocations: u64,
    /// Bytes requested by them.
    pub allocated_bytes: u64,
    /// Of the allocations, those that were freed before the next drain, seconds later at most, or by their thread before it allocated
    /// again. Nothing where that cannot be told: while sampling or tracing.
    pub temporary: Option<u64>,
}

/// How old the blocks at a stack are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ages {
    /// Of the youngest.
    pub youngest: Duration,
    /// Half of them are at least as old.
    pub median: Duration,
    /// Of the oldest.
    pub oldest: Duration,
}

/// What one stack holds. Serialized, it is without frames and groups: a saved profile has samples for these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct StackSnapshot<F> {
    /// Its name.
    pub id: StackId,
    /// What it holds, of the allocations selected.
    pub outstanding: Outstanding,
    /// Of `outstanding`.
    pub standard_error: StandardError,
    /// Scaled to the whole time, where only windows of it were observed.
    pub scaled: Option<ScaledFigures>,
    /// Change of its outstanding bytes (all, not just those selected) since the previous report, or since the start.
    pub growth_bytes: i64,
    /// Over the observed time, of all allocations, not just those selected.
    pub totals: StackTotals,
    /// What it held when its process held most ([`Peak`]), selected or not.
    pub at_peak: Outstanding,
    /// Of the blocks selected that were recorded.
    pub ages: Ages,
    /// Of its outstanding bytes (all, not just those selected).
    pub trend: Trend,
    /// From the allocator's caller outwards. Empty where the stack was lost.
    #[serde(skip)]
    pub frames: Vec<F>,
    /// Why frames may be missing, if they may.
    pub truncated: Option<Truncation>,
    /// The blocks selected, oldest first, if asked for.
    pub allocations: Vec<LiveAllocation>,
    /// The blocks selected, by size and age, if asked for.
    #[serde(skip)]
    pub groups: Vec<BlockGroup>,
}

/// The most that was outstanding at any drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peak {
    /// What was outstanding.
    pub outstanding: Outstanding,
    /// Since observation began.
    pub elapsed: Duration,
}

/// What was outstanding at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryPoint {
    /// Since observation began.
    pub elapsed: Duration,
    /// Outstanding bytes.
    pub bytes: u64,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct ProcessSnapshot<F> {
    /// Its pid.
    pub pid: u32,
    /// Its command name.
    pub command: String,
    /// Whose it is.
    pub identity: Identity,
    /// Whether it has exited.
    pub exited: bool,
    /// All that is outstanding, selected or not.
    pub outstanding: Outstanding,
    /// Of `outstanding`, and of the frees in `totals`.
    pub standard_error: StandardError,
    /// Scaled to the whole time, where only windows of it were observed: all other figures are of what was observed.
    pub scaled: Option<ScaledProcess>,
    /// What it costs the process to be observed; nothing where that is not known.
    pub overhead: Option<Overhead>,
    /// Whether it grows, and whether that is why its memory does.
    pub verdict: ProcessVerdict,
    /// Change of the outstanding bytes since the previous report, or since the start.
    pub growth_bytes: i64,
    /// When it held most.
    pub peak: Peak,
    /// Its outstanding bytes from the beginning of the observation to now, in a bounded number of points.
    pub history: Vec<HistoryPoint>,
    /// Over the observed time. While sampling, the frees are estimates: what was allocated and is not outstanding.
    pub totals: Totals,
    /// The first of the selected stacks, in the order asked for.
    pub stacks: Vec<StackSnapshot<F>>,
    /// How many stacks were selected, shown or not.
    pub selected_stacks: usize,
    /// Which of them are left out, and not among `selected_stacks`; nothing where no suppressions were given.
    #[serde(default)]
    pub suppressed: Option<Suppressed>,
    /// How many stacks that hold something may be without some of their frames.
    pub truncated_stacks: usize,
}

/// Of which moment stacks are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Moment {
    /// That of the report.
    #[default]
    Now,
    /// That at which each process held most.
    Peak,
}

/// The state of all observed processes at one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct Snapshot<F> {
    /// Wall-clock time.
    pub time: jiff::Timestamp,
    /// Since observation began.
    pub elapsed: Duration,
    /// Since the previous report, or since the start.
    pub since_previous: Duration,
    /// Bytes allocated for each sampling point; nothing if every block is taken, and all figures are exact.
    pub sample_bytes: Option<u64>,
    /// The most that a process may be made to bear; nothing if all is observed whatever it costs.
    pub max_overhead: Option<OverheadLimit>,
    /// Over the observed time, all processes.
    pub losses: Losses,
    /// What the reader should know.
    pub warnings: Vec<Warning>,
    /// Which moment the stacks' [`StackSnapshot::outstanding`] is of.
    pub moment: Moment,
    /// What watching the whole machine had shown before, if that was done.
    pub ranking: Option<Ranking>,
    /// In the order in which they were attached, or that of their growth in a sweep.
    pub processes: Vec<ProcessSnapshot<F>>,
    /// Beside those.
    pub ended: EndedProcesses,
}

/// Sums by raw stack.
pub type Profile = Snapshot<ProfileFrame>;

/// A profile with names, ready to show.
pub type Report = Snapshot<Frame>;

impl Outstanding {
    /// Adds, and stays at the largest number there is: what was read from a file can be anything.
    pub fn add_saturating(&mut self, other: Self) {
        self.bytes = self.bytes.saturating_add(other.bytes);
        self.allocations = self.allocations.saturating_add(other.allocations);
    }
}

impl<F> Snapshot<F> {
    /// That nothing is known of this moment, and nothing was lost.
    pub fn empty(time: jiff::Timestamp) -> Self {
        Self {
            time,
            elapsed: Duration::ZERO,
            since_previous: Duration::ZERO,
            sample_bytes: None,
            max_overhead: None,
            losses: Losses::default(),
            warnings: Vec::new(),
            moment: Moment::Now,
            ranking: None,
            processes: Vec::new(),
            ended: EndedProcesses::default(),
        }
    }

    /// The same snapshot, each stack's frames replaced by `name(frames)`.
    pub fn map_frames<G>(mut self, mut name: impl FnMut(Vec<F>) -> Vec<G>) -> Snapshot<G> {
        let processes = std::mem::take(&mut self.processes);
        self.with_processes(processes.into_iter().map(|process| process.map_frames(&mut name)).collect())
    }

    /// Whether it is what a log of calls comes to: nothing is known of ages, nor of time.
    pub fn is_of_log(&self) -> bool {
        self.warnings.contains(&Warning::Log)
    }

    /// The same, but for its processes.
    #[must_use]
    pub fn with_processes<G>(&self, processes: Vec<ProcessSnapshot<G>>) -> Snapshot<G> {
        Snapshot {
            time: self.time,
            elapsed: self.elapsed,
            since_previous: self.since_previous,
            sample_bytes: self.sample_bytes,
            max_overhead: self.max_overhead,
            losses: self.losses,
            warnings: self.warnings.clone(),
            moment: self.moment,
            ranking: self.ranking.clone(),
            processes,
            ended: self.ended,
        }
    }
}

impl<F> ProcessSnapshot<F> {
    /// One of which no more is known than its name.
    pub fn empty(pid: u32, command: String) -> Self {
        Self {
            pid,
            command,
            identity: Identity::default(),
            exited: false,
            outstanding: Outstanding::default(),
            standard_error: StandardError::default(),
            scaled: None,
            overhead: None,
            verdict: ProcessVerdict::NONE,
            growth_bytes: 0,
            peak: Peak::default(),
            history: Vec::new(),
            totals: Totals::default(),
            stacks: Vec::new(),
            selected_stacks: 0,
            suppressed: None,
            truncated_stacks: 0,
        }
    }

    /// The same, but for its stacks, the first of `selected_stacks`.
    #[must_use]
    pub fn with_stacks<G>(&self, stacks: Vec<StackSnapshot<G>>, selected_stacks: usize) -> ProcessSnapshot<G> {
        ProcessSnapshot {
            pid: self.pid,
            command: self.command.clone(),
            identity: self.identity.clone(),
            exited: self.exited,
            outstanding: self.outstanding,
            standard_error: self.standard_error,
            scaled: self.scaled,
            overhead: self.overhead,
            verdict: self.verdict,
            growth_bytes: self.growth_bytes,
            peak: self.peak,
            history: self.history.clone(),
            totals: self.totals,
            stacks,
            selected_stacks,
            suppressed: self.suppressed.clone(),
            truncated_stacks: self.truncated_stacks,
        }
    }

    fn map_frames<G>(mut self, name: &mut impl FnMut(Vec<F>) -> Vec<G>) -> ProcessSnapshot<G> {
        let stacks = std::mem::take(&mut self.stacks);
        self.with_stacks(stacks.into_iter().map(|stack| stack.map_frames(name)).collect(), self.selected_stacks)
    }
}

impl<F> StackSnapshot<F> {
    /// One that holds nothing, as far as is known.
    pub fn empty(id: StackId, frames: Vec<F>) -> Self {
        Self {
            id,
            outstanding: Outstanding::default(),
            standard_error: StandardError::default(),
            scaled: None,
            growth_bytes: 0,
            totals: StackTotals::default(),
            at_peak: Outstanding::default(),
            ages: Ages::default(),
            trend: Trend::NONE,
            frames,
            truncated: None,
            allocations: Vec::new(),
            groups: Vec::new(),
        }
    }

    fn map_frames<G>(self, name: &mut impl FnMut(Vec<F>) -> Vec<G>) -> StackSnapshot<G> {
        StackSnapshot {
            id: self.id,
            outstanding: self.outstanding,
            standard_error: self.standard_error,
            scaled: self.scaled,
            growth_bytes: self.growth_bytes,
            totals: self.totals,
            at_peak: self.at_peak,
            ages: self.ages,
            trend: self.trend,
            frames: name(self.frames),
            truncated: self.truncated,
            allocations: self.allocations,
            groups: self.groups,
        }
    }
}
