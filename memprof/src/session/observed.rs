//! A process under observation.

use std::{
    collections::HashSet,
    os::fd::OwnedFd,
    task::Context,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::unix::AsyncFd;

use super::{jit::JitNames, meter::Meter};
use crate::{
    kernel::{CodeChanges, TargetId},
    model::{Identity, ImageId, MappingNotice, ObjectId},
    readiness,
    target::{self, AddressSpace, ObjectTable},
};

/// What a session knows of one process.
pub(super) struct Observed {
    pub(super) pid: u32,
    pub(super) target: TargetId,
    pub(super) command: String,
    pub(super) identity: Identity,
    /// The image it runs now, or ran last.
    pub(super) image: ImageId,
    pub(super) space: AddressSpace,
    pub(super) jit: JitNames,
    /// Objects that have been searched for allocator functions, and probed where they have any.
    pub(super) planned: HashSet<ObjectId>,
    /// Objects that the command which it is to become will map.
    pub(super) expected: Vec<ObjectId>,
    /// Whether objects may have been mapped since.
    pub(super) has_new_objects: bool,
    /// Whether the unwinder has yet to be told of what is mapped.
    pub(super) has_new_code: bool,
    /// How often code was mapped over its code, before the notices that have been taken in.
    pub(super) changes: CodeChanges,
    /// Where its main thread's stack ends, once that was looked up.
    pub(super) stack_end: Option<u64>,
    mappings_read: Option<Instant>,
    /// Whether it is still memprof's own child, which has yet to become the command.
    pub(super) is_about_to_start: bool,
    /// Whether it was followed, and not asked for.
    pub(super) is_followed: bool,
    /// Whether it has become another program than the one that was attached or launched.
    pub(super) has_replaced_program: bool,
    /// Whether it is to have probes, where there is something to probe.
    pub(super) takes_probes: bool,
    /// Whether it has any probes.
    pub(super) is_probed: bool,
    pub(super) life: Life,
    /// Whether it was looked at when it had ended.
    pub(super) has_been_looked_at_last: bool,
    /// What observing it costs; nothing before it is attached.
    pub(super) meter: Option<Meter>,
    /// Nothing if it has ended, be it before it could be watched.
    exit: Option<AsyncFd<OwnedFd>>,
}

/// How far a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Life {
    /// It runs.
    Running,
    /// It had ended when it was first heard of. It is not known whether what is being read holds all that it did.
    Ending,
    /// It has ended, but what it did last has not been read yet.
    Ended,
    /// It has ended, and all that it did is known.
    Settled,
}

impl Observed {
    /// Begins to watch for the end of a process.
    pub(super) fn new(
        pid: u32,
        target: TargetId,
        command: String,
        image: ImageId,
        space: AddressSpace,
        exit: AsyncFd<OwnedFd>,
    ) -> Self {
        let identity = target::identity(pid).unwrap_or_default();
        Self { exit: Some(exit), identity, ..Self::unwatched(pid, target, command, image, space) }
    }

    fn unwatched(pid: u32, target: TargetId, command: String, image: ImageId, space: AddressSpace) -> Self {
        Self {
            pid,
            target,
            command,
            identity: Identity::default(),
            image,
            space,
            jit: JitNames::of(pid),
            planned: HashSet::new(),
            expected: Vec::new(),
            has_new_objects: true,
            has_new_code: true,
            changes: CodeChanges::default(),
            stack_end: None,
            mappings_read: None,
            is_about_to_start: false,
            is_followed: false,
            has_replaced_program: false,
            takes_probes: true,
            is_probed: false,
            life: Life::Running,
            has_been_looked_at_last: false,
            meter: None,
            exit: None,
        }
    }

    /// A process that was forked; without `exit` it has ended meanwhile.
    pub(super) fn forked(
        pid: u32,
        target: TargetId,
        command: String,
        image: ImageId,
        space: AddressSpace,
        exit: Option<AsyncFd<OwnedFd>>,
    ) -> Self {
        let life = if exit.is_some() { Life::Running } else { Life::Ending };
        let identity = exit.as_ref().and_then(|_| target::identity(pid).ok()).unwrap_or_default();
        Self { is_followed: true, life, exit, identity, ..Self::unwatched(pid, target, command, image, space) }
    }

    /// Whether it has ended and all that it did is known; and was not left alone while it ran.
    pub(super) fn has_ended(&self) -> bool {
        self.life == Life::Settled && !self.meter.as_ref().is_some_and(|meter| meter.has_given_up)
    }

    /// Remembers that something was mapped or unmapped.
    pub(super) fn note_new_code(&mut self) {
        self.has_new_objects = true;
        self.has_new_code = true;
    }

    /// Takes in what the kernel tells of its address space.
    pub(super) fn take_notice(&mut self, notice: MappingNotice, objects: &mut ObjectTable) {
        match notice {
            MappingNotice::Mapped(event) => {
                let mapping = objects.map(&event);
                self.jit.note_mapped(objects.get(mapping.object));
                self.space.add(&mapping);
            }
            MappingNotice::Cleared { time, .. } => self.space.clear(time),
        }
        self.note_new_code();
    }

    /// Whether enough time has passed to read its mappings again, of its own accord.
    pub(super) fn may_read_mappings(&mut self) -> bool {
        const LEAST: Duration = Duration::from_millis(100);
        let may = self.mappings_read.is_none_or(|time| time.elapsed() >= LEAST);
        if may {
            self.mappings_read = Some(Instant::now());
        }
        may
    }

    /// Whether it has just ended; registers for a wake-up if not.
    pub(super) fn poll_end(&mut self, context: &mut Context<'_>) -> bool {
        let has_ended = match self.life {
            Life::Running => self.exit.as_ref().is_some_and(|exit| exit.poll_read_ready(context).is_ready()),
            Life::Ending => true,
            Life::Ended | Life::Settled => false,
        };
        if has_ended {
            self.life = Life::Ended;
            self.exit = None;
        }
        has_ended
    }
}

/// A descriptor that becomes readable when all threads of the process are gone. It means this very process, whatever
/// becomes of its pid.
pub(super) fn exit_watch(pid: u32) -> anyhow::Result<AsyncFd<OwnedFd>> {
    let raw = i32::try_from(pid).ok().and_then(Pid::from_raw);
    let raw = raw.with_context(|| format!("no process has the pid {pid}"))?;
    let descriptor = match pidfd_open(raw, PidfdFlags::NONBLOCK) {
        Err(rustix::io::Errno::SRCH) => anyhow::bail!("no process has the pid {pid}"),
        other => other.context("pidfd_open")?,
    };
    Ok(readiness::watch(descriptor)?)
}
