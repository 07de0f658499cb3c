//! What memprof itself takes: its memory, open files and threads do not grow with time.

use std::fs;

use crate::support::numbers;

/// What its memory may grow by after the warm-up, in KiB: what 20,000 live blocks take (48 bytes each), of which there may have been few
/// until then; what is kept of stacks from one turn of their tables to the next; and what its allocator does with all that. The least
/// counts of each half: what waits to be taken in comes on top at times.
const MEMORY_KIB: u64 = 4 * 1024;

/// Open files: those of processes that have just been forked, or have just ended, and of probes of which some are there within windows only.
const FILES: u64 = 64;

/// The thread that takes out probes when a window ends.
const THREADS: u64 = 1;

/// Its memory is what it has allocated itself: kernel tables are mapped, too, and count as resident page by page when they are read first.
#[derive(Clone, Copy, Debug)]
struct Footprint {
    memory_kib: u64,
    files: u64,
    threads: u64,
}

impl Footprint {
    fn of(pid: u32) -> Self {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let figure = |name: &str| numbers(status.lines().find(|line| line.starts_with(name)).unwrap())[0];
        let files = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
        Self { memory_kib: figure("RssAnon:"), files, threads: figure("Threads:") }
    }
}

/// What one memprof took, moment by moment.
#[derive(Debug, Default)]
pub struct Footprints {
    after_warm_up: Vec<Footprint>,
}

impl Footprints {
    pub fn take(&mut self, pid: u32) {
        self.after_warm_up.push(Footprint::of(pid));
    }

    /// Nothing has grown since the first that was taken.
    ///
    /// Copies of stacks wait in its memory for what they run through to be known, no more at once than the ring had room for, in KiB; and
    /// its allocator need not give back what they took.
    pub fn check(&self, copies_kib: u64) {
        let all = &self.after_warm_up;
        let Some(first) = all.first() else { return };
        let is_as_small =
            |later: &Footprint| later.files <= first.files + FILES && later.threads <= first.threads + THREADS;
        assert!(all.iter().all(is_as_small), "{all:?}");
        let (earlier, later) = all.split_at(all.len() / 2);
        let least = |of: &[Footprint]| of.iter().map(|footprint| footprint.memory_kib).min();
        let has_grown =
            least(earlier).zip(least(later)).is_some_and(|(earlier, later)| later > earlier + MEMORY_KIB + copies_kib);
        assert!(!has_grown, "{all:?}");
    }
}

/// What is told of it to who watches.
impl std::fmt::Display for Footprints {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [Some(first), Some(last)] = [self.after_warm_up.first(), self.after_warm_up.last()] else { return Ok(()) };
        let Footprint { memory_kib, files, threads } = last;
        let first = first.memory_kib;
        write!(formatter, "{first} to {memory_kib} KiB, {files} files, {threads} threads")
    }
}
