//! What of memprof's privileges it keeps, in which mode, and from when on.
//!
//! All but these are given up before anything of anybody else's is read; with a command, once that has been forked, which is to have what
//! memprof was started with. What only opening takes is given up when all is open.

use super::Options;
use crate::{
    privileges::{CapabilitySet, WRITING, give_up, in_effect, keep},
    render::Format,
};

/// For programs, maps and links, for perf events, and for looking into processes: libraries are opened and processes forked at any time.
const OBSERVING: CapabilitySet = CapabilitySet::BPF.union(CapabilitySet::PERFMON).union(CapabilitySet::SYS_PTRACE);

/// For files of processes: those that their users keep from others, and, by `/proc/PID/map_files`, those that have no name any more.
const READING: CapabilitySet = CapabilitySet::DAC_READ_SEARCH.union(CapabilitySet::CHECKPOINT_RESTORE);

/// In reserve: perf events of uprobes, on Debian's kernels all of them, and how long programs run. The kernel stage raises it.
const PROBING: CapabilitySet = CapabilitySet::SYS_ADMIN;

/// In reserve until everything is open: room for rings. The kernel stage raises it.
const OPENING: CapabilitySet = CapabilitySet::IPC_LOCK;

/// Who is observed, as far as it matters here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Observed {
    /// Processes that run.
    Processes,
    /// A command, which signals are passed on to, whatever user it becomes.
    Command,
}

/// Gives up what is never needed.
pub(super) fn reduce(observed: Observed) {
    let signalling = if observed == Observed::Command { CapabilitySet::KILL } else { CapabilitySet::empty() };
    keep(observing() | READING | signalling, PROBING | OPENING | WRITING);
}

/// Gives up what is needed to open perf events, where no more are going to be.
pub(super) fn reduce_to_what_is_open() {
    give_up(PROBING);
}

/// Gives up all but what reading takes.
pub(super) fn reduce_to_reading() {
    keep(observing() | READING, CapabilitySet::empty());
}

/// CAP_SYS_ADMIN stands for what was split off it, if that was not granted.
fn observing() -> CapabilitySet {
    if in_effect().contains(OBSERVING) { OBSERVING } else { OBSERVING | CapabilitySet::SYS_ADMIN }
}

/// Gives up what was needed to open rings and outputs. A file that each report replaces is opened again and again.
pub(super) fn settle(options: &Options) {
    let is_replaced = |format: Format| !format.is_appended();
    let writes =
        options.is_live || options.outputs.iter().any(|output| output.path.is_some() && is_replaced(output.format));
    give_up(if writes { OPENING } else { OPENING | WRITING });
}
