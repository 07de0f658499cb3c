//! The programs that run at probes, and the two ways in which they get there: one by one through perf events, or many at once.

use std::{
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    path::Path,
    time::Duration,
};

use aya::{
    Ebpf,
    programs::{
        ProgramError, UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope},
    },
};
use memprof_common::Cookie;

use super::{fdinfo::FdInfo, multi::MultiPrograms, program};

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
    /// All programs of `bpf` that are loaded, and those of `multi`.
    pub(super) fn new(bpf: Ebpf, multi: Option<MultiPrograms>) -> Self {
        Self { bpf, multi }
    }

    /// The maps.
    pub(super) fn bpf_mut(&mut self) -> &mut Ebpf {
        &mut self.bpf
    }

    /// Attaches a program at these places of a file. A process gets all its probes through perf events where its first thread is gone,
    /// which a link of many probes would be bound to.
    pub(super) fn attach(
        &mut self,
        name: &str,
        path: &Path,
        sites: &[(u64, Cookie)],
        whom: Whom,
    ) -> Result<Vec<Link>, AttachError> {
        let pid = match whom {
            Whom::Everyone => None,
            Whom::Thread { thread, is_leader: true } => Some(thread),
            Whom::Thread { .. } => return self.attach_singly(name, path, sites, whom),
        };
        match &self.multi {
            Some(multi) => Ok(vec![Link::Multi { _link: multi.attach(name, path, sites, pid)? }]),
            None => self.attach_singly(name, path, sites, whom),
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
            Err(error) => Err(error.into()),
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
