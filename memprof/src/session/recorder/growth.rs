//! Watching where memory grows: processes that are followed and not probed, whose page faults the kernel side counts by stack.

use std::{collections::HashMap, os::unix::fs::FileExt as _};

use super::{Recorder, now};
use crate::{
    kernel::HugePages,
    model::{
        AnonymousMemory, Growth, GrowthOfProcess, GrowthOfStack, GrowthWarning, ImageId, Losses, ObjectId,
        ProfileFrame, RawFrame, RawStack, StackCounts, StackId, Timestamp, Touched, address_for_lookup,
    },
    plan::only_reads,
    session::observed::{Life, Observed},
    target,
};

/// An instruction is no longer.
const LONGEST_INSTRUCTION: usize = 15;

/// `syscall`
const SYSTEM_CALL: [u8; 2] = [0x0f, 0x05];

/// What is known beside the stacks and their counts.
pub(super) struct GrowthWatch {
    period: u64,
    started: Timestamp,
    /// Anonymous memory of each image when it was first watched. An image that began since had none.
    before: HashMap<ImageId, u64>,
    /// Whether the instruction at a place only reads.
    reads: HashMap<(ObjectId, u64), bool>,
    warnings: Vec<GrowthWarning>,
}

impl Recorder {
    /// Begins to follow a running process, which gets no probes.
    pub(in crate::session) fn follow(&mut self, pid: u32) -> anyhow::Result<()> {
        let index = self.begin_to_observe(pid)?;
        self.processes[index].takes_probes = false;
        self.tell_unwinder(index);
        Ok(())
    }

    /// Begins to count one of so many page faults of the processes that are followed.
    pub(in crate::session) fn watch_growth(&mut self, period: u64) -> anyhow::Result<()> {
        self.stacks.are_of_touched_memory();
        let huge_pages = self.kernel.watch_page_faults(period)?;
        let mut warnings = Vec::new();
        match huge_pages {
            HugePages::AsOnePage(error) if target::has_huge_pages() => {
                warnings.push(GrowthWarning::HugePagesAsOne(format!("{:#}", anyhow::Error::from(error))));
            }
            HugePages::Counted | HugePages::AsOnePage(_) => {}
        }
        warnings.extend(target::has_several_huge_page_sizes().then_some(GrowthWarning::SeveralHugePageSizes));
        let before = self.processes.iter().filter_map(|process| {
            let bytes = target::anonymous_memory(process.pid)?;
            Some((process.image, bytes))
        });
        let before = before.collect();
        self.growth = Some(GrowthWatch { period, started: now(), before, reads: HashMap::new(), warnings });
        Ok(())
    }

    /// What was touched so far, with `top` stacks of each process. Call [`Self::drain`] before.
    pub(in crate::session) fn growth(&mut self, top: Option<usize>) -> anyhow::Result<Growth<ProfileFrame>> {
        let due = self.kernel.page_faults_due()?;
        self.unwind_copies(std::time::Duration::ZERO);
        let now = now();
        self.processes.iter_mut().for_each(|process| process.jit.read(now));
        let mut totals = self.stacks.totals(&self.stack_counts(), std::iter::empty());
        let mut losses = self.past_losses;
        let mut processes = Vec::new();
        for index in 0..self.processes.len() {
            let counts = totals.remove(&self.processes[index].image).unwrap_or_default();
            let (process, process_losses) = self.growth_of(index, counts, top)?;
            losses += process_losses;
            let has_changed = process.anonymous.is_some_and(|memory| memory.change() != 0);
            if process.touched.pages() > 0 || has_changed || self.processes.len() == 1 {
                processes.push(process);
            }
        }
        processes.sort_by_key(|process| std::cmp::Reverse(process.touched.bytes()));
        // By now, whatever was under way then has been seen.
        let missed = due.saturating_sub(self.kernel.page_faults_seen()?);
        let watch = self.growth.as_ref();
        Ok(Growth {
            time: jiff::Timestamp::now(),
            elapsed: watch.map_or_else(Default::default, |watch| now.since(watch.started)),
            period: watch.map_or(1, |watch| watch.period),
            losses,
            missed,
            warnings: self.growth_warnings(&losses, missed),
            watched: self.processes.iter().filter(|process| process.life != Life::Settled).count(),
            processes,
        })
    }

    fn growth_of(
        &mut self,
        index: usize,
        counts: HashMap<StackId, StackCounts>,
        top: Option<usize>,
    ) -> anyhow::Result<(GrowthOfProcess<ProfileFrame>, Losses)> {
        let image = self.processes[index].image;
        let (_, losses) = self.kernel.totals(image)?;
        let period = self.growth.as_ref().map_or(1, |watch| watch.period);
        let none = Touched { period, ..Touched::default() };
        let without_stack = Touched { samples: losses.stacks(), ..none };
        let (mut touched, mut only_read) = (without_stack, none);
        let mut stacks = Vec::new();
        for (id, StackCounts { units, .. }) in counts {
            let stack_touched = Touched::of_units(units, period);
            if self.is_read(image, id) {
                only_read += stack_touched;
            } else {
                touched += stack_touched;
                stacks.push((id, stack_touched));
            }
        }
        stacks.sort_by_key(|(id, touched)| (std::cmp::Reverse(touched.bytes()), *id));
        let process = &self.processes[index];
        let truncated = stacks.iter().filter(|(id, _)| self.is_truncated(process, *id)).count();
        let shown = stacks.iter().take(top.unwrap_or(usize::MAX)).map(|(id, touched)| {
            let (frames, truncated) = self.frames(process, *id);
            GrowthOfStack { id: *id, touched: *touched, frames, truncated }
        });
        let growth = GrowthOfProcess {
            pid: process.pid,
            command: process.command.clone(),
            exited: process.life == Life::Settled,
            touched,
            only_read,
            without_stack,
            anonymous: self.anonymous_memory(process),
            stacks: shown.collect(),
            all_stacks: stacks.len(),
            truncated_stacks: truncated,
        };
        Ok((growth, losses))
    }

    fn anonymous_memory(&self, process: &Observed) -> Option<AnonymousMemory> {
        if process.life != Life::Running {
            return None;
        }
        let now = target::anonymous_memory(process.pid)?;
        let before = self.growth.as_ref()?.before.get(&process.image).copied().unwrap_or_default();
        Some(AnonymousMemory { before, now })
    }

    /// Whether the instruction that touched the memory only reads. Then the page is one of zeros, or a file's.
    fn is_read(&mut self, image: ImageId, stack: StackId) -> bool {
        let place = self.stacks.get(image, stack).and_then(innermost_place);
        let (Some(place), Some(watch)) = (place, &mut self.growth) else { return false };
        let objects = &self.objects;
        *watch.reads.entry(place).or_insert_with(|| {
            let file = objects.get(place.0).and_then(|object| object.file.as_ref());
            file.is_some_and(|file| reads_at(file, place.1).unwrap_or(false))
        })
    }

    fn growth_warnings(&self, losses: &Losses, missed: u64) -> Vec<GrowthWarning> {
        let mut warnings: Vec<_> = GrowthWarning::of_losses(losses).collect();
        warnings.extend((missed > 0).then_some(GrowthWarning::Missed(missed)));
        warnings.extend(self.growth.iter().flat_map(|watch| watch.warnings.iter().cloned()));
        warnings.extend((self.mappings_lost > 0).then_some(GrowthWarning::MappingsLost(self.mappings_lost)));
        warnings
    }
}

/// Where the instruction is that touched the memory.
fn innermost_place(stack: &RawStack) -> Option<(ObjectId, u64)> {
    let RawFrame { place, .. } = stack.frames.first()?;
    place.map(|(object, offset_in_file)| (object, address_for_lookup(offset_in_file)))
}

/// Whether the instruction there only reads. After a system call, it is the kernel that has touched the memory, to write to it.
fn reads_at(file: &std::fs::File, offset_in_file: u64) -> std::io::Result<bool> {
    let mut bytes = [0; 1 + LONGEST_INSTRUCTION];
    let start = offset_in_file.saturating_sub(1);
    let count = file.read_at(&mut bytes, start)?;
    let is_system_call = bytes.starts_with(&SYSTEM_CALL) && offset_in_file > 0;
    let skipped = (offset_in_file - start) as usize;
    Ok(!is_system_call && bytes.get(skipped..count).is_some_and(only_reads))
}
