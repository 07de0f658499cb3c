//! The programs that run at probes, and the two ways in which they get there: one by one through perf events, or by links of many.

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use aya::{
    Ebpf,
    programs::{
        Program, ProgramError, UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope},
    },
};
use memprof_common::Cookie;

use super::{fdinfo::FdInfo, load::refused, multi::MultiPrograms, program, uprobe_events};
use crate::privileges::raise;

/// What goes wrong where a probe is attached.
pub(super) type AttachError = Box<dyn std::error::Error + Send + Sync>;

/// Whom a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// The process of this living thread, as long as the thread lives.
    Thread {
        /// Its number.
        thread: u32,
        /// Whether it is its process's first.
        is_leader: bool,
    },
    /// Every process that maps the file, now or later.
    Everyone,
}

/// For which functions probes are links of many, rather than perf events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Linked {
    /// The kernel has no such links.
    None,
    /// Those that are rarely called: what a target forks pays for breakpoints that links leave, but the more perf events there are, the
    /// longer they take to go.
    Rare,
    /// All.
    All,
}

/// What keeps probes where they are: when it is dropped they go.
#[derive(Debug)]
pub(super) enum Link {
    /// One.
    Single { _link: UProbeLink },
    /// Any number, of one program in one file.
    Multi { _link: OwnedFd },
}

/// The programs, and the maps that they use.
pub(super) struct Programs {
    bpf: Ebpf,
    linked: Linked,
    multi: Option<MultiPrograms>,
}

/// What the kernel tells of a loaded program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ProgramFigures {
    /// Instructions that the verifier looked at; 0 before Linux 5.16.
    pub(super) verified: u64,
    /// How often it ran, and for how long, while that was counted.
    pub(super) runs: u64,
    pub(super) run_time: Duration,
}

impl Programs {
    /// All programs of `bpf` that are loaded, and those of `multi`, for the probes that are `linked`.
    pub(super) fn new(bpf: Ebpf, linked: Linked, multi: Option<MultiPrograms>) -> Self {
        Self { bpf, linked, multi }
    }

    /// The maps.
    pub(super) fn bpf_mut(&mut self) -> &mut Ebpf {
        &mut self.bpf
    }

    /// Whether all probes of a process are links, which stay when its first thread ends that they are bound to. But others cannot join
    /// them, and the kernel takes their breakpoints out, unseen, when anybody's are taken out of the same place: it asks whose
    /// memory a link is for, and the thread has none any more (`uprobe_multi_link_filter` in kernel/trace/bpf_trace.c).
    pub(super) fn outlive_first_thread(&self) -> bool {
        self.linked == Linked::All
    }

    /// Loads what probes need that are bound to another thread than a process's first, which takes some hundred milliseconds.
    pub(super) fn prepare_for_any_thread(&mut self) -> Result<(), AttachError> {
        let programs = self.bpf.programs().filter(|(_, program)| matches!(program, Program::UProbe(_)));
        let names: Vec<_> = programs.map(|(name, _)| name.to_owned()).collect();
        names.iter().try_for_each(|name| self.single(name).map(drop))
    }

    /// Whether a process can be probed through any of its threads.
    pub(super) fn reach_any_thread(&self) -> bool {
        self.linked != Linked::All || uprobe_events::are_allowed()
    }

    /// Attaches a program at these places of a file, in functions that are rarely called or in others. A process gets all its probes
    /// through perf events where its first thread is gone, which a link of many probes would be bound to.
    pub(super) fn attach(
        &mut self,
        name: &str,
        path: &Path,
        sites: &[(u64, Cookie)],
        whom: Whom,
        is_rare: bool,
    ) -> Result<Vec<Link>, AttachError> {
        let pid = match whom {
            Whom::Everyone => None,
            Whom::Thread { thread, is_leader: true } => Some(thread),
            Whom::Thread { .. } => return self.attach_singly(name, path, sites, whom),
        };
        match &self.multi {
            Some(multi) if is_rare || self.linked == Linked::All => {
                Ok(vec![Link::Multi { _link: multi.attach(name, path, sites, pid)? }])
            }
            _ => self.attach_singly(name, path, sites, whom),
        }
    }

    fn attach_singly(
        &mut self,
        name: &str,
        path: &Path,
        sites: &[(u64, Cookie)],
        whom: Whom,
    ) -> Result<Vec<Link>, AttachError> {
        let scope = match whom {
            Whom::Everyone => UProbeScope::AllProcesses,
            Whom::Thread { thread, .. } => {
                UProbeScope::OneProcess(thread.try_into().map_err(|_| "there is no thread 0")?)
            }
        };
        let uprobe = self.single(name)?;
        let _raised = raise(uprobe_events::PRIVILEGE);
        let mut links = Vec::new();
        for &(offset, cookie) in sites {
            let location = UProbeAttachLocation::AbsoluteOffset(offset);
            let point = UProbeAttachPoint { location, cookie: Some(cookie.0) };
            let link = uprobe.attach(point, path, scope).and_then(|id| uprobe.take_link(id))?;
            links.push(Link::Single { _link: link });
        }
        Ok(links)
    }

    /// The program, loaded for perf events.
    fn single(&mut self, name: &str) -> Result<&mut UProbe, AttachError> {
        let uprobe = program::<UProbe>(&mut self.bpf, name)?;
        match uprobe.load() {
            Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(uprobe),
            Err(error) => Err(refused(name, error).into()),
        }
    }

    /// Of each program that is loaded, by name; one that is loaded twice comes twice.
    pub(super) fn figures(&self) -> impl Iterator<Item = (&str, ProgramFigures)> {
        let singly = self.bpf.programs().filter_map(|(name, program)| Some((name, program.fd().ok()?.as_fd())));
        let multi = self.multi.iter().flat_map(MultiPrograms::iter).map(|(name, program)| (name, program.as_fd()));
        singly.chain(multi).map(|(name, program)| (name, figures_of(program)))
    }
}

fn figures_of(program: BorrowedFd<'_>) -> ProgramFigures {
    let info = FdInfo::of(program);
    let number = |name| info.number(name).unwrap_or_default();
    ProgramFigures {
        verified: number("verified_insns"),
        runs: number("run_cnt"),
        run_time: Duration::from_nanos(number("run_time_ns")),
    }
}
