//! Where a process's perf map is, and how far it has been read.
//!
//! The process chooses what lies there. So nothing but a regular file is opened, by no link, which belongs to one of the
//! process's users or to root, and which was written to since the process began: one of an earlier process with the same
//! pid tells of other code. No more than [`MOST_BYTES`] of it are read.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::OwnedFd,
        unix::fs::{FileExt as _, MetadataExt as _},
    },
    time::{Duration, SystemTime},
};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2},
    param::clock_ticks_per_second,
    time::{ClockId, clock_gettime},
};

use super::{process::threads, stat::Stat};
use crate::regular_file::open_regular_in;

/// How much of a file is read.
const MOST_BYTES: u64 = 64 << 20;

/// How much of what was read last is compared, to see whether the file was written anew since.
const LANDMARK_BYTES: usize = 64;

/// How coarse the times of files and processes are.
const CLOCK_GRAIN: Duration = Duration::from_millis(100);

/// The perf map of one program.
#[derive(Debug, Default)]
pub struct PerfMapFile {
    place: Option<Place>,
    open: Option<OpenMap>,
}

/// Where the file is to be looked for, also when the process is gone.
#[derive(Debug)]
struct Place {
    /// `/tmp` in the process's mount namespace.
    directory: OwnedFd,
    /// With the pid that the process has for itself.
    name: String,
    /// Its real, effective, saved and file system user, as we see them.
    users: Vec<u32>,
    /// In clock ticks since the boot; tells it from another process with its pid.
    start_ticks: u64,
    /// When it began, by the clock that files are stamped with: the earliest that this has ever come to, since that clock can be set.
    started: SystemTime,
}

#[derive(Debug)]
struct OpenMap {
    file: File,
    device_and_inode: (u64, u64),
    /// Behind the last whole line that was read.
    offset: u64,
    /// What stands before it.
    landmark: Vec<u8>,
}

impl PerfMapFile {
    /// Looks where the file of a living process is to be. If it is gone, what was known stays so.
    pub fn locate(&mut self, pid: u32) {
        let Ok(place) = Place::of(pid) else { return };
        match &self.place {
            Some(known) if known.start_ticks != place.start_ticks => {}
            Some(known) => self.place = Some(Place { started: known.started.min(place.started), ..place }),
            None => self.place = Some(place),
        }
    }

    /// Whether the file was there and is open.
    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Opens the file, if there is one by now, and none is open or another one. Once open, it can be read when the
    /// process has deleted it. Returns whether it was opened.
    pub fn open(&mut self) -> bool {
        let Some(Ok(found)) = self.place.as_mut().map(|place| place.open().and_then(OpenMap::new)) else {
            return false;
        };
        let is_other = self.open.as_ref().is_none_or(|known| known.device_and_inode != found.device_and_inode);
        if is_other {
            self.open = Some(found);
        }
        is_other
    }

    /// Forgets what was open, so that it is read from the start.
    pub fn close(&mut self) {
        self.open = None;
    }

    /// The whole lines that were written since the last time; all of them if the file was written anew.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn read_new_lines(&mut self) -> io::Result<Vec<u8>> {
        let mut lines = self.read_open()?;
        if self.open() {
            lines.extend(self.read_open()?);
        }
        Ok(lines)
    }

    fn read_open(&mut self) -> io::Result<Vec<u8>> {
        self.open.as_mut().map_or(Ok(Vec::new()), OpenMap::read_new_lines)
    }
}

impl Place {
    fn of(pid: u32) -> io::Result<Self> {
        // If the first thread has exited, only the others have a root directory.
        let thread = threads(pid).next().ok_or(io::ErrorKind::NotFound)?;
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(CWD, format!("/proc/{thread}/root"), directory, Mode::empty())?;
        let within = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let directory = openat2(root, "tmp", directory, Mode::empty(), within)?;
        let status = fs::read(format!("/proc/{thread}/status"))?;
        let own_pid = numbers(&status, b"NStgid:").last().copied().ok_or(io::ErrorKind::InvalidData)?;
        let name = format!("perf-{own_pid}.map");
        let start_ticks = Stat::read(pid, pid)?.started;
        Ok(Self { directory, name, users: numbers(&status, b"Uid:"), start_ticks, started: time_of(start_ticks) })
    }

    fn open(&mut self) -> io::Result<File> {
        self.started = self.started.min(time_of(self.start_ticks));
        let file = open_regular_in(&self.directory, &self.name)?;
        let stat = file.metadata()?;
        if stat.uid() != 0 && !self.users.contains(&stat.uid()) {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is another user's"));
        }
        if stat.modified()? + CLOCK_GRAIN < self.started {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it is an earlier process's"));
        }
        Ok(file)
    }
}

/// When so many ticks since the boot had gone by, by the clock that files are stamped with, as it is set now.
fn time_of(ticks: u64) -> SystemTime {
    let since_boot = clock_gettime(ClockId::Boottime);
    let since_boot = Duration::new(since_boot.tv_sec.unsigned_abs(), since_boot.tv_nsec as u32);
    let then = Duration::from_millis(ticks.saturating_mul(1000) / clock_ticks_per_second().max(1));
    SystemTime::now() - since_boot.saturating_sub(then)
}

impl OpenMap {
    fn new(file: File) -> io::Result<Self> {
        let stat = file.metadata()?;
        Ok(Self { device_and_inode: (stat.dev(), stat.ino()), file, offset: 0, landmark: Vec::new() })
    }

    fn read_new_lines(&mut self) -> io::Result<Vec<u8>> {
        let end = self.file.metadata()?.len().min(MOST_BYTES);
        if !self.is_continued(end) {
            (self.offset, self.landmark) = (0, Vec::new());
        }
        let mut bytes = vec![0; end.saturating_sub(self.offset) as usize];
        let read = read_at_most(&self.file, &mut bytes, self.offset)?;
        let whole_lines = bytes[..read].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        bytes.truncate(whole_lines);
        self.offset += whole_lines as u64;
        if whole_lines > 0 {
            self.landmark = bytes[whole_lines.saturating_sub(LANDMARK_BYTES)..].to_vec();
        }
        Ok(bytes)
    }

    /// Whether what was read still stands where it stood.
    fn is_continued(&self, end: u64) -> bool {
        let mut landmark = vec![0; self.landmark.len()];
        let start = self.offset - landmark.len() as u64;
        self.offset <= end && self.file.read_exact_at(&mut landmark, start).is_ok() && landmark == self.landmark
    }
}

/// Fills as much of `bytes` as there is; the file may shrink meanwhile.
fn read_at_most(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// The numbers in a line of `/proc/PID/status`.
fn numbers(status: &[u8], field: &[u8]) -> Vec<u32> {
    let line = status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    let words = std::str::from_utf8(line).unwrap_or_default().split_ascii_whitespace();
    words.filter_map(|word| word.parse().ok()).collect()
}
