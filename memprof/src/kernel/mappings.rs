//! New mappings, as the kernel makes them: perf's `PERF_RECORD_MMAP2` and `PERF_RECORD_COMM` (perf_event_open(2)), from
//! every process on every CPU. So a process that is gone before anybody could read its `/proc/PID/maps` is known too.
//! Only executable mappings are reported, so that this costs next to nothing.

use std::{io, os::unix::ffi::OsStrExt as _, path::PathBuf, task::Poll};

use perf_event::{
    Builder, Clock, SampleFlag, Sampler,
    data::{
        Comm, Lost, Mmap2, RecordMetadata, Visitor,
        endian::Native,
        parse::{ParseConfig, Parser},
    },
    events::Software,
};
use tokio::io::unix::AsyncFd;

use super::KernelError;
use crate::{
    model::{FileIdentity, MappingEvent, MappingNotice, Timestamp},
    readiness,
};

/// Bytes of each CPU's ring: some thousand notices.
const RING_BYTES: usize = 1 << 19;

/// `PERF_RECORD_MISC_COMM_EXEC`: a name changed because of an `execve`.
const COMM_EXEC: u16 = 1 << 13;

/// `struct perf_event_header`, which the crate takes off each record.
const HEADER_BYTES: usize = 8;

/// One perf event, with its ring, for each CPU.
pub(super) struct MappingWatch {
    samplers: Vec<AsyncFd<Sampler>>,
    config: ParseConfig<Native>,
}

impl std::fmt::Debug for MappingWatch {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "MappingWatch({} CPUs)", self.samplers.len())
    }
}

impl MappingWatch {
    /// Begins to watch.
    pub(super) fn open() -> Result<Self, KernelError> {
        let builder = event();
        let cpus = aya::util::online_cpus().map_err(|(call, source)| KernelError::Call { call, source })?;
        let open = |cpu| {
            let sampler = builder.clone().one_cpu(cpu as usize).build()?.sampled(RING_BYTES)?;
            readiness::watch(sampler)
        };
        let samplers = cpus.into_iter().map(open).collect::<io::Result<_>>();
        let samplers = samplers.map_err(|source| KernelError::Call { call: "perf_event_open", source })?;
        Ok(Self { samplers, config: ParseConfig::from(*builder.attrs()) })
    }

    /// Takes all notices, oldest first, and returns how many the kernel dropped.
    pub(super) fn drain(&mut self, mut apply: impl FnMut(MappingNotice)) -> u64 {
        let mut notices = Vec::new();
        let mut lost = 0;
        for sampler in &mut self.samplers {
            while let Some(record) = sampler.get_mut().next_record() {
                match parse(&self.config, &record) {
                    Some(Told::Notice(time, notice)) => notices.push((time, notice)),
                    Some(Told::Lost(count)) => lost += count,
                    None => {}
                }
            }
        }
        // A process moves from CPU to CPU, and each has a ring of its own.
        notices.sort_by_key(|(time, _)| *time);
        notices.into_iter().for_each(|(_, notice)| apply(notice));
        lost
    }

    /// Waits until there is something to take.
    pub(super) async fn readable(&self) -> io::Result<()> {
        std::future::poll_fn(|context| {
            for sampler in &self.samplers {
                if let Poll::Ready(ready) = sampler.poll_read_ready(context) {
                    return Poll::Ready(ready.map(|mut guard| guard.clear_ready()));
                }
            }
            Poll::Pending
        })
        .await
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
    builder
}

enum Told {
    Notice(Timestamp, MappingNotice),
    Lost(u64),
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
