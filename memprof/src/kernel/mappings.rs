//! New mappings, as the kernel makes them: perf's `PERF_RECORD_MMAP2` and `PERF_RECORD_COMM` (perf_event_open(2)), from
//! every process on every CPU. So a process that is gone before anybody could read its `/proc/PID/maps` is known too.
//! Only executable mappings are reported, so that this costs next to nothing.

use std::{io, os::unix::ffi::OsStrExt as _, path::PathBuf, task::Poll};

use perf_event::{
    Builder, Clock, ReadFormat, SampleFlag, Sampler,
    data::{
        Comm, Lost, Mmap2, RecordMetadata, Visitor,
        endian::Native,
        parse::{ParseConfig, Parser},
    },
    events::Software,
};
use procfs::KernelVersion;
use tokio::io::unix::AsyncFd;

use super::KernelError;
use crate::{
    model::{FileIdentity, MappingEvent, MappingNotice, Timestamp},
    privileges::{CapabilitySet, raise},
    readiness,
};

/// What perf events of all processes take beside CAP_PERFMON, on kernels with Debian's change to `perf_event_open`: where
/// kernel.perf_event_paranoid is 3, as it is there by default, it asks for CAP_SYS_ADMIN.
pub(super) const PERF_EVENTS: CapabilitySet = CapabilitySet::SYS_ADMIN;

/// Bytes of each CPU's ring: some thousand notices.
const RING_BYTES: usize = 1 << 19;

/// `PERF_RECORD_MISC_COMM_EXEC`: a name changed because of an `execve`.
const COMM_EXEC: u16 = 1 << 13;

/// `struct perf_event_header`, which the crate takes off each record.
const HEADER_BYTES: usize = 8;

/// From here on the kernel can be asked how many records found no room. Before, it tells only once there is room again, and something to put there.
const COUNTS_LOST: KernelVersion = KernelVersion { major: 6, minor: 0, patch: 0 };

/// One perf event, with its ring, for each CPU.
pub(super) struct MappingWatch {
    rings: Vec<Ring>,
    config: ParseConfig<Native>,
    /// Read and not taken.
    waiting: Vec<(Timestamp, MappingNotice)>,
    /// How many the kernel has dropped of which nobody was told.
    lost: u64,
}

struct Ring {
    sampler: AsyncFd<Sampler>,
    /// Records that found no room, as far as is known.
    lost: u64,
}

impl std::fmt::Debug for MappingWatch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "MappingWatch({} CPUs)", self.rings.len())
    }
}

impl MappingWatch {
    /// Begins to watch.
    pub(super) fn open() -> Result<Self, KernelError> {
        let builder = event();
        // Beyond RLIMIT_MEMLOCK and kernel.perf_event_mlock_kb, rings take the one; Debian's kernels ask for the other.
        let _raised = raise(CapabilitySet::IPC_LOCK | PERF_EVENTS);
        let cpus = aya::util::online_cpus().map_err(|(call, source)| KernelError::Call { call, source })?;
        let open = |cpu| {
            let sampler = builder.clone().one_cpu(cpu as usize).build()?.sampled(RING_BYTES)?;
            Ok(Ring { sampler: readiness::watch(sampler)?, lost: 0 })
        };
        let rings = cpus.into_iter().map(open).collect::<io::Result<_>>();
        let rings = rings.map_err(|source| KernelError::Call { call: call_that_failed(&source), source })?;
        Ok(Self { rings, config: ParseConfig::from(*builder.attrs()), waiting: Vec::new(), lost: 0 })
    }

    /// Takes all notices, oldest first, and returns how many the kernel dropped.
    pub(super) fn drain(&mut self, mut apply: impl FnMut(MappingNotice)) -> u64 {
        self.read(|_| true);
        let mut notices = std::mem::take(&mut self.waiting);
        // A process moves from CPU to CPU, and each has a ring of its own.
        notices.sort_by_key(|(time, _)| *time);
        notices.into_iter().for_each(|(_, notice)| apply(notice));
        std::mem::take(&mut self.lost)
    }

    /// Empties the rings. Notices of the processes that matter wait to be taken.
    fn read(&mut self, matters: impl Fn(u32) -> bool) {
        for ring in &mut self.rings {
            let (sampler, mut told, mut bytes) = (ring.sampler.get_mut(), None, 0);
            while let Some(record) = sampler.next_record() {
                bytes += HEADER_BYTES + record.len();
                match parse(&self.config, &record) {
                    Some(Told::Notice(time, notice)) if matters(notice.pid()) => self.waiting.push((time, notice)),
                    Some(Told::Notice(..)) => {}
                    Some(Told::Lost(count)) => *told.get_or_insert(ring.lost) += count,
                    None => {}
                }
            }
            // To ask costs the CPU an interrupt. What was full when a record was dropped has been read just now.
            if bytes < RING_BYTES / 2 && told.is_none() {
                continue;
            }
            let counted = sampler.read_full().ok().and_then(|counts| counts.lost());
            let known = counted.or(told).unwrap_or(ring.lost);
            self.lost += known.saturating_sub(ring.lost);
            ring.lost = known;
        }
    }

    /// Waits until there is something to take of a process that matters, or something was lost.
    pub(super) async fn readable(&mut self, matters: impl Fn(u32) -> bool) -> io::Result<()> {
        while self.waiting.is_empty() && self.lost == 0 {
            self.rings_readable().await?;
            self.read(&matters);
        }
        Ok(())
    }

    async fn rings_readable(&self) -> io::Result<()> {
        std::future::poll_fn(|context| {
            for ring in &self.rings {
                if let Poll::Ready(ready) = ring.sampler.poll_read_ready(context) {
                    return Poll::Ready(ready.map(|mut guard| guard.clear_ready()));
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// What failed, with the remedy. An event that may not be opened is answered otherwise (EACCES).
fn call_that_failed(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM) => "perf's rings are more locked memory than this user may have (ulimit -l, or CAP_IPC_LOCK)",
        Some(libc::EACCES) => {
            "perf_event_open (on Debian's kernels, CAP_SYS_ADMIN, or less than 3 in /proc/sys/kernel/perf_event_paranoid)"
        }
        _ => "perf_event_open",
    }
}

fn event() -> Builder<'static> {
    let mut builder = Builder::new(Software::DUMMY);
    builder
        .any_pid()
        .mmap(true)
        .mmap2(true)
        .comm(true)
        .comm_exec(true)
        .sample_id_all(true)
        .sample(SampleFlag::TIME)
        .clockid(Clock::MONOTONIC)
        .wakeup_watermark(1)
        .enabled(true);
    if KernelVersion::current().is_ok_and(|version| version >= COUNTS_LOST) {
        builder.read_format(ReadFormat::LOST);
    }
    builder
}

enum Told {
    Notice(Timestamp, MappingNotice),
    Lost(u64),
}

/// What a record of the kernel's tells, whole, as it lies in the ring: nothing if it is of another kind, or is none.
pub fn decode_notice(record: &[u8]) -> Option<MappingNotice> {
    match Parser::new(record, ParseConfig::<Native>::from(*event().attrs())).parse_record(Reader) {
        Ok(Some(Told::Notice(_, notice))) => Some(notice),
        Ok(_) | Err(_) => None,
    }
}

fn parse(config: &ParseConfig<Native>, record: &perf_event::Record<'_>) -> Option<Told> {
    let mut bytes = Vec::with_capacity(HEADER_BYTES + record.len());
    bytes.extend_from_slice(&record.ty().to_ne_bytes());
    bytes.extend_from_slice(&record.misc().to_ne_bytes());
    bytes.extend_from_slice(&((HEADER_BYTES + record.len()) as u16).to_ne_bytes());
    record.data().iter().for_each(|part| bytes.extend_from_slice(part));
    let mut parser = Parser::new(bytes.as_slice(), config.clone());
    match parser.parse_record(Reader) {
        Ok(told) => told,
        Err(error) => {
            log::error!("a perf record of type {} is not understood: {error}", record.ty());
            None
        }
    }
}

struct Reader;

impl<'a> Visitor<'a> for Reader {
    type Output = Option<Told>;

    fn visit_unimplemented(self, _: RecordMetadata) -> Self::Output {
        None
    }

    fn visit_lost(self, lost: Lost, _: RecordMetadata) -> Self::Output {
        Some(Told::Lost(lost.lost))
    }

    fn visit_comm(self, comm: Comm<'a>, metadata: RecordMetadata) -> Self::Output {
        let time = time_of(&metadata)?;
        let is_exec = metadata.misc() & COMM_EXEC != 0;
        is_exec.then_some(Told::Notice(time, MappingNotice::Cleared { pid: comm.pid, time }))
    }

    fn visit_mmap2(self, mapping: Mmap2<'a>, metadata: RecordMetadata) -> Self::Output {
        let time = time_of(&metadata)?;
        let event = MappingEvent {
            pid: mapping.pid,
            addresses: mapping.addr..mapping.addr.saturating_add(mapping.len),
            offset_in_file: mapping.pgoff,
            identity: identity_of(&mapping),
            path: PathBuf::from(std::ffi::OsStr::from_bytes(&mapping.filename)),
            time,
        };
        Some(Told::Notice(time, MappingNotice::Mapped(event)))
    }
}

fn time_of(metadata: &RecordMetadata) -> Option<Timestamp> {
    metadata.sample_id().time().map(Timestamp)
}

fn identity_of(mapping: &Mmap2<'_>) -> Option<FileIdentity> {
    let inode = mapping.ino().filter(|&inode| inode != 0)?;
    Some(FileIdentity { device_major: mapping.maj()?, device_minor: mapping.min()?, inode })
}
