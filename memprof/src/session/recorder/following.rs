//! Processes that are forked while others are observed. The kernel side makes each a target before it runs, and tells of it.

use std::collections::VecDeque;

use super::{Recorder, now};
use crate::{
    kernel::{Following, Reach, TargetId},
    model::{ImageId, MappingNotice, Timestamp, Warning},
    session::observed::{Life, Observed, exit_watch},
    target::{self, AddressSpace},
};

/// Notices of mappings that are kept for processes of which nothing was told yet.
const MOST_ORPHANS: usize = 1 << 14;

/// How many processes that were followed, and ended with something outstanding, are kept to be reported.
const MOST_ENDED: usize = 16;

/// A process, as it is forked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Forked {
    pub(super) target: u32,
    pub(super) pid: u32,
    /// Zero if it is followed since it has executed a program.
    pub(super) parent: u32,
    pub(super) image: ImageId,
    pub(super) time: Timestamp,
}

/// Mappings, told of before their process was. Rings are read one after the other, so that this happens.
#[derive(Debug, Default)]
pub(super) struct Orphans(VecDeque<MappingNotice>);

impl Orphans {
    pub(super) fn keep(&mut self, notice: MappingNotice) {
        if self.0.len() == MOST_ORPHANS {
            self.0.pop_front();
        }
        self.0.push_back(notice);
    }

    /// Those of a process since it was forked, in their order; or of one that has executed a program, since it began to.
    fn take(&mut self, forked: &Forked) -> Vec<MappingNotice> {
        let is_beginning = |notice: &&MappingNotice| match notice {
            MappingNotice::Cleared { pid, time } => *pid == forked.pid && *time <= forked.time,
            MappingNotice::Mapped(_) => false,
        };
        let since = match forked.parent {
            0 => self.0.iter().rev().find(is_beginning).map_or(forked.time, MappingNotice::time),
            _ => forked.time,
        };
        let is_its = |notice: &MappingNotice| notice.pid() == forked.pid && notice.time() >= since;
        let (taken, kept): (VecDeque<_>, _) = self.0.drain(..).partition(is_its);
        self.0 = kept;
        taken.into()
    }
}

impl Recorder {
    /// Whether processes are followed that nobody has named.
    pub(super) fn follows(&self) -> bool {
        self.following != Following::Nobody
    }

    /// Sees to it that there are targets for processes that will be forked.
    pub(super) fn offer_targets(&mut self) -> anyhow::Result<()> {
        while self.follows()
            && let Some(target) = self.targets.take_for_offer()
        {
            self.kernel.offer(target)?;
        }
        Ok(())
    }

    /// Begins to observe a process that was forked.
    pub(super) fn follow_forked(&mut self, forked: &Forked) -> anyhow::Result<()> {
        let &Forked { pid, parent, image, time, .. } = forked;
        // What the parent had mapped, and what was told of the child already.
        self.take_mappings()?;
        let target = TargetId(forked.target);
        self.targets.note_accepted();
        if self.reach == Reach::Targets {
            self.seen_late += 1;
        }
        let changes = self.kernel.code_changes(target);
        let exit = exit_watch(pid).ok().filter(|_| self.kernel.is_tracked(target, pid));
        let of_parent = self.processes.iter().rev().find(|process| process.pid == parent);
        let mut space = of_parent.map_or_else(AddressSpace::default, |parent| parent.space.inherited(time));
        let inherited = of_parent.map_or_else(String::new, |parent| parent.command.clone());
        if exit.is_some() {
            target::read_mappings(pid, now())
                .into_iter()
                .flatten()
                .for_each(|event| space.fill(&self.objects.map(&event)));
        }
        let command = target::command_name(pid).ok().filter(|_| exit.is_some()).unwrap_or(inherited);
        let mut process = Observed::forked(pid, target, command, image, space, exit);
        process.changes = changes;
        self.orphans.take(forked).into_iter().for_each(|notice| process.take_notice(notice, &mut self.objects));
        self.processes.push(process);
        let index = self.processes.len() - 1;
        if self.processes[index].life == Life::Running {
            self.tell_unwinder(index);
            self.begin_metering(index)?;
        }
        match parent {
            0 => log::debug!("process {pid} has executed {}", self.processes[index].command),
            _ => log::debug!("process {pid} was forked by process {parent}"),
        }
        Ok(())
    }

    /// Adds up the followed processes that have ended, and drops them: at once if nothing is outstanding, and of the others those that
    /// have least, if there are many.
    pub(super) fn drop_ended(&mut self) -> anyhow::Result<()> {
        let outstanding = |recorder: &Self, process: &Observed| {
            recorder.heaps.get(&process.image).map(|heap| heap.outstanding()).unwrap_or_default()
        };
        let over = self.processes.iter().filter(|process| process.is_followed && process.has_ended());
        let mut over: Vec<_> = over.map(|process| (outstanding(self, process), process.target)).collect();
        over.sort_by_key(|(outstanding, _)| std::cmp::Reverse(outstanding.bytes));
        let kept = over.iter().take(MOST_ENDED).filter(|(outstanding, _)| outstanding.allocations > 0).count();
        for (outstanding, target) in over.split_off(kept) {
            self.ended.outstanding += outstanding;
            self.drop_process(target)?;
        }
        Ok(())
    }

    fn drop_process(&mut self, target: TargetId) -> anyhow::Result<()> {
        let Some(index) = self.processes.iter().position(|process| process.target == target) else { return Ok(()) };
        let process = self.processes.remove(index);
        let (mut totals, _) = self.kernel.totals(process.image)?;
        if let Some(heap) = self.heaps.get(&process.image) {
            totals += heap.freed();
        }
        self.ended.processes += 1;
        self.ended.totals += totals;
        self.warnings.retain(|warning| warning.pid() != Some(process.pid));
        self.forget(process.image)?;
        self.targets.give_back(target);
        Ok(())
    }

    /// What is to be said of processes that were followed.
    pub(super) fn warnings_of_following(&self) -> anyhow::Result<Vec<Warning>> {
        let unfollowed = if self.follows() { self.kernel.unfollowed()? } else { 0 };
        let warnings = [
            (self.seen_late > 0).then_some(Warning::SeenLate(self.seen_late)),
            (unfollowed > 0).then_some(Warning::NotFollowed(unfollowed)),
        ];
        Ok(warnings.into_iter().flatten().collect())
    }
}
