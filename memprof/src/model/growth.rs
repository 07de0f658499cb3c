//! Where memory grows: what page faults bring in, by the stacks that touch it. One shape, two kinds of frame, as in
//! [`super::Snapshot`].

use std::time::Duration;

use memprof_common::TOUCHED_HUGE_PAGE;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{Losses, StackId, Truncation};

/// Bytes of a page.
const PAGE_BYTES: u64 = 4096;

/// Pages that a huge page has beyond its first one.
const MORE_PAGES: u64 = 511;

/// Anonymous memory that was brought in. Of the page faults one in so many is counted, of the huge pages each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    /// Page faults that were counted.
    pub samples: u64,
    /// For how many page faults each stands.
    pub period: u64,
    /// Huge pages. The first page of each is among the others.
    pub huge_pages: u64,
}

impl Touched {
    /// What the kernel side has counted of one `period`.
    pub fn of_units(units: u64, period: u64) -> Self {
        Self { samples: units % TOUCHED_HUGE_PAGE, period, huge_pages: units / TOUCHED_HUGE_PAGE }
    }

    /// Pages of 4 KiB.
    pub fn pages(&self) -> u64 {
        self.samples * self.period + self.huge_pages * MORE_PAGES
    }

    /// The same in bytes.
    pub fn bytes(&self) -> u64 {
        self.pages() * PAGE_BYTES
    }

    /// How far `bytes` is from the truth, typically, if faults are sampled as if by chance: one standard deviation. Zero if each is
    /// counted.
    pub fn standard_error(&self) -> f64 {
        (self.samples as f64 * self.period as f64 * (self.period as f64 - 1.0)).sqrt() * PAGE_BYTES as f64
    }
}

impl std::ops::AddAssign for Touched {
    fn add_assign(&mut self, other: Self) {
        self.samples += other.samples;
        self.huge_pages += other.huge_pages;
    }
}

/// What the kernel says of a process's anonymous memory in RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnonymousMemory {
    /// When its growth was first watched, in bytes.
    pub before: u64,
    /// Now. Less than what was touched, if some of that was given back.
    pub now: u64,
}

impl AnonymousMemory {
    /// Change in bytes.
    pub fn change(&self) -> i64 {
        self.now.cast_signed().wrapping_sub(self.before.cast_signed())
    }
}

/// What one stack has touched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GrowthOfStack<F> {
    /// Its name.
    pub id: StackId,
    /// Anonymous memory that was not there before.
    pub touched: Touched,
    /// From the code that touched it outwards.
    pub frames: Vec<F>,
    /// Why frames may be missing, if they may.
    pub truncated: Option<Truncation>,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GrowthOfProcess<F> {
    /// Its pid.
    pub pid: u32,
    /// Its command name.
    pub command: String,
    /// Whether it has exited.
    pub exited: bool,
    /// By all its stacks, known or not.
    pub touched: Touched,
    /// What was only read, where nothing had been written: pages of zeros or of a file, which are no growth. Not in `touched`.
    pub only_read: Touched,
    /// Of `touched`, what has no stack.
    pub without_stack: Touched,
    /// The kernel's word; nothing once the process has exited.
    pub anonymous: Option<AnonymousMemory>,
    /// Those that touched most, first.
    pub stacks: Vec<GrowthOfStack<F>>,
    /// How many stacks have touched memory, shown or not.
    pub all_stacks: usize,
    /// How many of them may be without some of their frames.
    pub truncated_stacks: usize,
}

/// A doubt about the figures.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GrowthWarning {
    /// Stacks were dropped at a full ring.
    #[error("{0} page faults have no stack because the ring buffer was full")]
    StacksRingFull(u64),
    /// Stacks were dropped at a full table.
    #[error("{0} page faults have no stack because the stack table was full")]
    StacksTableFull(u64),
    /// Stacks could not be read.
    #[error("{0} page faults have no stack because it could not be read")]
    StacksUnreadable(u64),
    /// It could not be found what is mapped.
    #[error("{0} page faults are not counted because it could not be found what is mapped there")]
    Unresolved(u64),
    /// The kernel did not run the program.
    #[error("{0} page faults, of any processes, are not counted because the kernel was at work on a BPF map just then")]
    Missed(u64),
    /// Notices of mappings were lost.
    #[error("the kernel dropped {0} notices of new mappings; code that is mapped no more may have no names")]
    MappingsLost(u64),
    /// Huge pages cannot be told.
    #[error("this kernel does not tell of huge pages, each of which counts as one page of 4 KiB ({0})")]
    HugePagesAsOne(String),
    /// One fault can bring in more than one page and less than a huge one.
    #[error(
        "huge pages of several sizes are enabled (/sys/kernel/mm/transparent_hugepage); those smaller than 2 MiB count as one page of 4 KiB each"
    )]
    SeveralHugePageSizes,
    /// Any of these, read back from where it was saved.
    #[error("{0}")]
    Recorded(String),
}

/// As its text.
impl Serialize for GrowthWarning {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for GrowthWarning {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::Recorded)
    }
}

impl GrowthWarning {
    /// One for each cause of loss.
    pub fn of_losses(losses: &Losses) -> impl Iterator<Item = Self> + use<> {
        let if_any = |count: u64, warning: fn(u64) -> Self| (count > 0).then(|| warning(count));
        let causes = [
            if_any(losses.stacks_ring_full, Self::StacksRingFull),
            if_any(losses.stacks_table_full, Self::StacksTableFull),
            if_any(losses.stacks_unreadable, Self::StacksUnreadable),
            if_any(losses.faults_unresolved, Self::Unresolved),
        ];
        causes.into_iter().flatten()
    }
}

/// The growth of all observed processes up to one moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Growth<F> {
    /// Wall-clock time.
    pub time: jiff::Timestamp,
    /// Since it was first watched.
    pub elapsed: Duration,
    /// One in so many page faults is counted.
    pub period: u64,
    /// All processes, in page faults that were to be counted.
    pub losses: Losses,
    /// Page faults, of any processes on the machine, that were to be counted and not seen.
    pub missed: u64,
    /// What the reader should know.
    pub warnings: Vec<GrowthWarning>,
    /// Those that have touched most, first; without those of which there is nothing to say.
    pub processes: Vec<GrowthOfProcess<F>>,
    /// How many processes are watched.
    pub watched: usize,
}

impl<F> Growth<F> {
    /// Whether every page fault that was to be counted was, and has its stack.
    pub fn is_complete(&self) -> bool {
        self.losses.is_none() && self.missed == 0
    }

    /// The same, each stack's frames replaced by `name(frames)`.
    pub fn map_frames<G>(self, mut name: impl FnMut(Vec<F>) -> Vec<G>) -> Growth<G> {
        let processes = self.processes.into_iter().map(|process| process.map_frames(&mut name)).collect();
        Growth {
            time: self.time,
            elapsed: self.elapsed,
            period: self.period,
            losses: self.losses,
            missed: self.missed,
            warnings: self.warnings,
            processes,
            watched: self.watched,
        }
    }
}

impl<F> GrowthOfProcess<F> {
    fn map_frames<G>(self, name: &mut impl FnMut(Vec<F>) -> Vec<G>) -> GrowthOfProcess<G> {
        let stack = |GrowthOfStack { id, touched, frames, truncated }| GrowthOfStack {
            id,
            touched,
            frames: name(frames),
            truncated,
        };
        GrowthOfProcess {
            pid: self.pid,
            command: self.command,
            exited: self.exited,
            touched: self.touched,
            only_read: self.only_read,
            without_stack: self.without_stack,
            anonymous: self.anonymous,
            stacks: self.stacks.into_iter().map(stack).collect(),
            all_stacks: self.all_stacks,
            truncated_stacks: self.truncated_stacks,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_fault_stands_for_as_many_as_the_period_and_a_huge_page_for_itself() {
        let touched = Touched::of_units(10 + 2 * TOUCHED_HUGE_PAGE, 1);
        assert_eq!((touched.pages(), touched.bytes()), (10 + 2 * 511, 4096 * (10 + 2 * 511)));
        assert!(touched.standard_error().abs() < f64::EPSILON);
        let sampled = Touched::of_units(100 + TOUCHED_HUGE_PAGE, 17);
        assert_eq!(sampled.pages(), 1700 + 511);
        assert!((sampled.standard_error() / 4096.0 - (100.0 * 17.0 * 16.0_f64).sqrt()).abs() < 1e-9);
    }
}
