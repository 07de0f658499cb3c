//! What code the observed processes have mapped, and what depends on it: the unwinder's tables, stacks that came as copies, names
//! of compiled code.

use std::{collections::HashSet, time::Duration};

use super::{Recorder, fingerprint_of, note_jit, now};
use crate::{
    model::{MappingEvent, StackCopy},
    session::{
        copies::unwind_copy,
        observed::{Life, Observed},
    },
    target,
};

/// Mappings that a copied stack needs are told of within this time, or not at all.
pub(super) const PATIENCE: Duration = Duration::from_millis(200);

/// How many copies are unwound before the rings are looked at again: a millisecond's work or so. With all that a ring has room for it
/// would be more than ten, within which a program that loads the next library fills it anew.
const COPIES_AT_ONCE: usize = 128;

impl Recorder {
    pub(super) fn take_mappings(&mut self) -> anyhow::Result<()> {
        let living = self.processes.iter().filter(|process| process.life != Life::Settled);
        let known: Vec<_> = living.map(|process| (process.target, process.changes)).collect();
        self.look_for_unmapped_code();
        let follows = self.follows();
        let Self { kernel, objects, processes, orphans, .. } = self;
        let lost = kernel.drain_mappings(|notice| match running(processes, notice.pid()) {
            Some(process) => process.take_notice(notice, objects),
            None if follows => orphans.keep(notice),
            None => {}
        });
        if lost > 0 {
            let are_read = self.read_mappings_again();
            let is_unchanged =
                |(target, changes)| self.kernel.tells_of_code() && self.kernel.code_changes(target) == changes;
            // Of what came and went meanwhile nothing is left to read, be it of one of these processes or a process itself.
            if !are_read || follows || !known.into_iter().all(is_unchanged) {
                self.mappings_lost += lost;
            }
        }
        Ok(())
    }

    /// Reads the mappings of processes of which the kernel side says that code is unmapped.
    fn look_for_unmapped_code(&mut self) {
        for process in self.processes.iter_mut().filter(|process| process.life == Life::Running) {
            if !self.kernel.awaits_code(process.target) {
                continue;
            }
            process.note_new_code();
            self.has_unmapped_code = true;
            let (changes, start) = (self.kernel.code_changes(process.target), now());
            let mapped = read_mappings(process.pid);
            // If the thread that was asked has just ended, another is, the next time; if all have, no code is run any more.
            if !mapped.is_empty() {
                process.space.retain(mapped.into_iter().map(|event| event.addresses), start..now());
                process.changes = changes;
            }
        }
    }

    /// Makes up for lost notices. Says whether every process still had its mappings.
    fn read_mappings_again(&mut self) -> bool {
        let mut are_all_read = true;
        for process in self.processes.iter_mut().filter(|process| process.life != Life::Settled) {
            let mapped = if process.life == Life::Running { read_mappings(process.pid) } else { Vec::new() };
            are_all_read &= !mapped.is_empty();
            for event in mapped {
                process.space.add(&self.objects.map(&event));
                process.note_new_code();
            }
        }
        are_all_read
    }

    /// Reads the mappings of processes with stacks that run through code which no notice has told of.
    pub(super) fn look_for_unknown_code(&mut self) {
        for image in self.stacks.images_of_copies() {
            let Some(process) = self.processes.iter_mut().find(|process| process.image == image) else { continue };
            if process.life != Life::Running || !process.may_read_mappings() {
                continue;
            }
            for event in read_mappings(process.pid) {
                process.space.fill(&self.objects.map(&event));
            }
            process.note_new_code();
        }
    }

    pub(super) fn tell_unwinder_what_is_new(&mut self) {
        for index in 0..self.processes.len() {
            let process = &self.processes[index];
            if process.life != Life::Settled && process.has_new_code {
                self.tell_unwinder(index);
            }
        }
    }

    pub(super) fn tell_unwinder(&mut self, index: usize) {
        let process = &mut self.processes[index];
        process.has_new_code = false;
        let stack_end = *process.stack_end.get_or_insert_with(|| target::stack_end(process.pid));
        let mappings = process.space.current();
        self.code.update(&mut self.kernel, &self.objects, process.target, mappings, stack_end, process.changes);
    }

    /// Unwinds what the kernel side could not, now that more is known of what was mapped; what is older than `patience`
    /// in any case.
    pub(super) fn unwind_copies(&mut self, patience: Duration) {
        self.stacks.retry_copies();
        while self.unwind_some_copies(patience) > 0 {}
    }

    /// The same of some that have not been tried yet. Says how many are left.
    pub(super) fn unwind_some_copies(&mut self, patience: Duration) -> usize {
        let Self { kernel, code, objects, processes, stacks, .. } = self;
        let now = now();
        let unwind = |copy: &StackCopy| {
            let process = processes.iter_mut().find(|process| process.image == copy.image)?;
            let must_be = process.life != Life::Running || now.since(copy.time) >= patience;
            let stack = unwind_copy(kernel, code, objects, &process.space, copy, must_be)?;
            note_jit(processes, objects, &stack);
            Some(stack)
        };
        stacks.unwind_copies(COPIES_AT_ONCE, unwind, |object| fingerprint_of(objects, object))
    }

    pub(super) fn update_jit_names(&mut self) {
        let now = now();
        for process in &mut self.processes {
            process.jit.update(process.pid, process.life == Life::Running, now);
        }
    }

    /// Drops the rows of what no process has mapped any more, unless stacks wait that may need them.
    pub(super) fn drop_rows_of_unmapped_code(&mut self) {
        if !self.has_unmapped_code || !self.stacks.images_of_copies().is_empty() {
            return;
        }
        self.has_unmapped_code = false;
        let living = || self.processes.iter().filter(|process| process.life != Life::Settled);
        let mapped = living().flat_map(|process| process.space.current()).map(|mapping| mapping.object);
        let kept: HashSet<_> = mapped.chain(living().flat_map(|process| process.expected.iter().copied())).collect();
        self.code.retain(&mut self.kernel, &self.objects, &kept);
    }
}

/// What a process has mapped, as one of its living threads tells: its first may have ended. Nothing if all have.
fn read_mappings(pid: u32) -> Vec<MappingEvent> {
    let time = now();
    let mapped = target::threads(pid).map(|thread| target::read_mappings(thread, time).unwrap_or_default());
    let events = mapped.into_iter().find(|events| !events.is_empty()).unwrap_or_default();
    events.into_iter().map(|event| MappingEvent { pid, ..event }).collect()
}

fn running(processes: &mut [Observed], pid: u32) -> Option<&mut Observed> {
    processes.iter_mut().find(|process| process.pid == pid && process.life != Life::Settled)
}
