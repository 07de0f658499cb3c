//! From probes to profiles: keeps what the kernel side tells of every observed process.

mod candidates;
mod following;
mod frees;
mod growth;
mod looks;
mod mapped_code;
mod overhead;
mod probing;
mod profile;
mod samples;
mod stack_turns;
mod targets;
mod tracing;
mod untold;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    future::poll_fn,
    io,
    ops::ControlFlow,
    task::Poll,
    time::Duration,
};

use rustix::time::{ClockId, clock_gettime};

pub(super) use self::candidates::Candidate;
use self::{
    following::{Forked, Orphans},
    frees::Frees,
    growth::GrowthWatch,
    looks::Looks,
    overhead::Moments,
    targets::Targets,
    tracing::Tracing,
    untold::ToldImages,
};
use super::{
    code::CodeTables,
    histories::Histories,
    observed::{Life, Observed},
    options::Options,
    stacks::{Stacks, fingerprint},
};
use crate::{
    heap::Heap,
    kernel::{Following, Kernel, Reach, Settings, TargetId},
    model::{
        AttachPlan, EndedProcesses, Event, ImageId, Losses, ObjectId, OverheadLimit, RawStack, Sampling, Timestamp,
        Warning,
    },
    overhead::Prices,
    plan::Functions,
    target::{self, ObjectTable},
};

/// How many records are read from the rings before the nursery is looked at again: some tens of milliseconds' work, if each is a free of
/// one of millions of blocks.
const EVENTS_AT_ONCE: usize = 1 << 15;

/// How much was read of the rings.
enum Taken {
    All,
    Portion,
    /// The last was a copy of a stack that was taken after the unwinder was told last.
    UntilCopy,
}

/// Everything that is known so far.
pub(super) struct Recorder {
    kernel: Kernel,
    /// What the kernel side goes by. Windows need that blocks stay in the nursery, which all do that are sampled.
    sampling: Sampling,
    sample_bytes: Option<u64>,
    limit: Option<OverheadLimit>,
    prices: Prices,
    moments: Moments,
    objects: ObjectTable,
    functions: Functions,
    plans: HashMap<ObjectId, AttachPlan>,
    processes: Vec<Observed>,
    targets: Targets,
    following: Following,
    reach: Reach,
    orphans: Orphans,
    /// What was observed of processes that have ended, and are not in `processes` any more.
    ended: EndedProcesses,
    /// How many processes were followed too late to see their first moments.
    seen_late: u64,
    heaps: HashMap<ImageId, Heap>,
    stacks: Stacks,
    histories: Histories,
    looks: Looks,
    /// Of images that are over.
    past_losses: Losses,
    code: CodeTables,
    /// Whether some code is mapped no more, whose rows may go.
    has_unmapped_code: bool,
    mappings_lost: u64,
    images_told: ToldImages,
    warnings: Vec<Warning>,
    growth: Option<GrowthWatch>,
    tracing: Tracing,
    started: Timestamp,
    reported: Timestamp,
    /// When the unwinder was told last what code there is.
    told: Timestamp,
}

impl Recorder {
    /// Loads the programs. Needs a tokio runtime.
    pub(super) fn new(options: &Options) -> anyhow::Result<Self> {
        let has_windows = options.max_overhead.is_some();
        let sampling = match options.sampling.bytes() {
            None if has_windows => Sampling::by_bytes(1),
            _ => options.sampling,
        };
        let settings = Settings {
            sizes: options.sizes,
            unwind: options.unwind,
            sampling,
            has_windows,
            traces: options.trace.is_some(),
            reach: options.reach,
            following: options.following,
            log: options.log_programs,
        };
        let kernel = Kernel::load(&settings)?;
        log::debug!("{}", kernel.load_cost());
        log::debug!("kernel memory: {}", bytesize::ByteSize(kernel.memory_bytes()));
        let mut recorder = Self {
            kernel,
            sampling,
            sample_bytes: options.sampling.bytes(),
            limit: options.max_overhead,
            prices: Prices::default(),
            moments: Moments::default(),
            objects: ObjectTable::new(),
            functions: options.functions.clone(),
            plans: HashMap::new(),
            processes: Vec::new(),
            targets: Targets::default(),
            following: options.following,
            reach: options.reach,
            orphans: Orphans::default(),
            ended: EndedProcesses::default(),
            seen_late: 0,
            heaps: HashMap::new(),
            stacks: Stacks::new(sampling),
            histories: Histories::default(),
            looks: Looks::default(),
            past_losses: Losses::default(),
            code: CodeTables::default(),
            has_unmapped_code: false,
            mappings_lost: 0,
            images_told: ToldImages::default(),
            warnings: Vec::new(),
            growth: None,
            tracing: Tracing::new(options.trace.is_some()),
            started: now(),
            reported: now(),
            told: now(),
        };
        recorder.offer_targets()?;
        Ok(recorder)
    }

    /// The objects seen so far.
    pub(super) fn objects(&self) -> &ObjectTable {
        &self.objects
    }

    /// The objects seen so far, for those who see others.
    pub(super) fn objects_mut(&mut self) -> &mut ObjectTable {
        &mut self.objects
    }

    /// Whether every observed process has ended, and all that they did is known.
    pub(super) fn is_over(&self) -> bool {
        self.processes.iter().all(|process| process.life == Life::Settled)
    }

    /// Whether the processes that were asked for have ended; others that they forked may run on.
    pub(super) fn has_ended_as_asked(&self) -> bool {
        self.processes.iter().all(|process| process.is_followed || process.life == Life::Settled)
    }

    /// Waits until there is something to drain.
    pub(super) async fn ready(&mut self) -> io::Result<()> {
        let follows = self.follows();
        let living = self.processes.iter().filter(|process| process.life != Life::Settled);
        let pids: HashSet<_> = living.map(|process| process.pid).collect();
        let processes = &mut self.processes;
        let end = poll_fn(|context| {
            // Each is asked, so that each will wake this task.
            let ended = processes.iter_mut().filter_map(|process| process.poll_end(context).then_some(())).count();
            if ended > 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::select! {
            readable = self.kernel.readable(|pid| follows || pids.contains(&pid)) => readable,
            () = end => Ok(()),
        }
    }

    /// Takes in everything that has happened. The order matters: a block that leaves the nursery must be in its heap
    /// before the ring is read, in which its free may already stand.
    pub(super) fn drain(&mut self) -> anyhow::Result<()> {
        let stack_totals = self.take_stack_totals()?;
        // Then the rings may hold what came meanwhile, which is for the next drain.
        let mut portions = self.kernel.most_events() / EVENTS_AT_ONCE + 1;
        self.stacks.retry_copies();
        loop {
            while !self.take_until_copies(&mut portions)? {}
            if self.unwind_some_copies(mapped_code::PATIENCE) == 0 {
                break;
            }
        }
        let settled = now();
        self.heaps.values_mut().for_each(|heap| heap.settle(settled));
        if stack_totals.is_some() || self.stacks.has_many_copies() {
            self.forget_idle_stacks(stack_totals.unwrap_or_default());
        }
        self.look_for_unknown_code();
        self.update_jit_names();
        self.settle_ended();
        self.drop_rows_of_unmapped_code();
        self.probe_what_is_new()?;
        self.drop_ended()?;
        self.offer_targets()?;
        self.kernel.flush_log();
        Ok(())
    }

    /// Has the last report be of one moment, though processes run on.
    pub(super) fn stop_counting(&mut self) -> anyhow::Result<()> {
        if !self.is_over() {
            self.kernel.stop_counting()?;
        }
        Ok(())
    }

    /// Whether it is growth that is watched.
    pub(super) fn watches_growth(&self) -> bool {
        self.growth.is_some()
    }

    /// Takes in blocks and events, and tells the unwinder what is new. Where a stack was copied, the unwinder waits for that: then the
    /// rest is left in the rings, lest they fill with copies. Says whether nothing is left.
    fn take_until_copies(&mut self, portions: &mut usize) -> anyhow::Result<bool> {
        self.images_told.expect(self.kernel.images_begun()?);
        let mut is_all = self.take_what_is_told(portions)?;
        if self.images_told.lack() > 0 {
            is_all = self.make_up_for_untold(portions)?;
        }
        self.forget_other_images();
        self.told = now();
        self.take_mappings()?;
        // Before what is new wants room; and again when no copy needs them any more.
        self.drop_rows_of_unmapped_code();
        self.tell_unwinder_what_is_new();
        self.trace_calls(is_all)?;
        Ok(is_all)
    }

    fn take_what_is_told(&mut self, portions: &mut usize) -> anyhow::Result<bool> {
        let mut occurrences = Vec::new();
        let is_all = self.take_blocks_and_events(portions, &mut occurrences);
        for event in occurrences {
            self.images_told.note(&event);
            self.take_occurrence(event)?;
        }
        Ok(is_all)
    }

    /// Empties the nursery, then the rings of what waited in them. Where that is much, the nursery is emptied again and again, lest it
    /// be full by the time that the rings are read.
    fn take_blocks_and_events(&mut self, portions: &mut usize, occurrences: &mut Vec<Event>) -> bool {
        while *portions > 0 {
            *portions -= 1;
            self.take_nursery();
            match self.take_events(occurrences) {
                Taken::All => return true,
                Taken::UntilCopy => return false,
                // What is traced is to be handed on before there is more.
                Taken::Portion if self.tracing.is_on() => return *portions == 0,
                Taken::Portion => {}
            }
        }
        true
    }

    fn take_nursery(&mut self) {
        if self.sampling.bytes().is_some() {
            self.read_samples();
            return;
        }
        let heaps = &mut self.heaps;
        self.kernel.drain_nursery(|image, allocation| heaps.entry(image).or_default().allocate(allocation));
    }

    /// Applies frees and stacks, and leaves the rest, which is rare, to the caller.
    fn take_events(&mut self, occurrences: &mut Vec<Event>) -> Taken {
        let Self { kernel, objects, processes, heaps, stacks, tracing, told: last_told, .. } = self;
        let mut frees = Frees::new(heaps);
        let mut taken = Taken::Portion;
        let is_all = kernel.drain_events(EVENTS_AT_ONCE, |event| {
            match event {
                Event::Free { image, free } => frees.push(image, free),
                Event::Allocation { image, allocation } => frees.allocate(image, allocation),
                Event::Traced(told) => tracing.take(told, &mut frees),
                Event::Stack(stack) => {
                    note_jit(processes, objects, &stack);
                    stacks.insert(stack, |object| fingerprint_of(objects, object));
                }
                Event::StackCopy(copy) => {
                    let is_news = copy.time > *last_told;
                    stacks.keep(copy);
                    if is_news {
                        taken = Taken::UntilCopy;
                        return ControlFlow::Break(());
                    }
                }
                other => occurrences.push(other),
            }
            ControlFlow::Continue(())
        });
        if is_all { Taken::All } else { taken }
    }

    fn take_occurrence(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Exec { target, previous, image, by_other_thread, time } => {
                let Some(index) = self.index_of(target) else { return Ok(()) };
                self.forget(previous)?;
                let known = self.processes[index].image;
                if image <= known {
                    // A later one was found already.
                    return if image == known { Ok(()) } else { self.forget(image) };
                }
                let process = &mut self.processes[index];
                Self::begin_image(process, image, time);
                self.histories.begin(image, time);
                if !process.is_about_to_start {
                    process.has_replaced_program = true;
                    process.expected.clear();
                }
                process.is_about_to_start = false;
                let ended = Warning::FirstThreadEnded { pid: process.pid };
                self.warnings.retain(|warning| *warning != ended);
                process.stack_end = None;
                process.jit.renew(process.pid);
                process.note_new_code();
                self.kernel.renew_code(process.target);
                if let Ok(command) = target::command_name(process.pid) {
                    process.command = command;
                }
                if let Ok(identity) = target::identity(process.pid) {
                    process.identity = identity;
                }
                if by_other_thread && self.reach == Reach::Targets {
                    self.probe_again(index, "one of its threads called execve");
                }
            }
            Event::ProbedThreadExit { target, thread } => {
                if let Some(index) = self.index_of(target) {
                    self.go_on_without(index, thread);
                }
            }
            Event::Fork { target, pid, parent, image, time } => {
                self.follow_forked(&Forked { target, pid, parent, image, time })?
            }
            Event::Filling
            | Event::Allocation { .. }
            | Event::Free { .. }
            | Event::Traced(_)
            | Event::Stack(_)
            | Event::StackCopy(_) => {}
        }
        Ok(())
    }

    fn index_of(&self, target: u32) -> Option<usize> {
        self.processes.iter().position(|process| process.target == TargetId(target) && process.life != Life::Settled)
    }

    /// Drops an image that is over. What was lost of it stays in the books.
    fn forget(&mut self, image: ImageId) -> anyhow::Result<()> {
        let (_, losses) = self.kernel.totals(image)?;
        self.past_losses += losses;
        if self.heaps.remove(&image).is_some() {
            self.remove_samples(image);
        }
        let stacks = self.stacks.forget(image);
        Ok(self.kernel.forget(image, &stacks)?)
    }

    /// Blocks of images that were over before they were drained. Every image that is current is known by now, its `execve` having been told
    /// before its first block and read after it, but for those that have begun since this drain did and could not be told of.
    fn forget_other_images(&mut self) {
        let current: BTreeSet<_> = self.processes.iter().map(|process| process.image).collect();
        let Self { heaps, images_told, .. } = self;
        let over = heaps.extract_if(|image, _| !current.contains(image) && images_told.counts_in(*image));
        let over: Vec<_> = over.map(|(image, _)| image).collect();
        over.into_iter().for_each(|image| self.remove_samples(image));
    }

    /// Marks those that had ended before this drain began: it has brought all that they did.
    fn settle_ended(&mut self) {
        let mut over = Vec::new();
        for index in 0..self.processes.len() {
            if self.processes[index].life != Life::Ended {
                continue;
            }
            self.end_moment();
            if let Err(error) = self.read_meter(index) {
                log::debug!("process {}: {error:#}", self.processes[index].pid);
            }
            let process = &mut self.processes[index];
            process.life = Life::Settled;
            process.jit.finish(now());
            self.kernel.untrack(process.target, process.pid);
            self.has_unmapped_code = true;
            over.push(process.image);
        }
        over.into_iter().for_each(|image| self.remove_samples(image));
    }

    fn warn(&mut self, warning: Warning) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }
}

/// Takes note of a stack that may run through code which its process has compiled.
fn note_jit(processes: &mut [Observed], objects: &ObjectTable, stack: &RawStack) {
    if let Some(process) = processes.iter_mut().find(|process| process.image == stack.image) {
        process.jit.note_stack(&stack.frames, |id| objects.get(id));
    }
}

/// A number of an object that is the same in every run.
fn fingerprint_of(objects: &ObjectTable, object: ObjectId) -> u64 {
    objects.get(object).map_or(0, |object| match &object.build_id {
        Some(build_id) => fingerprint(&build_id.0),
        None => fingerprint(object.path.as_os_str().as_encoded_bytes()),
    })
}

fn now() -> Timestamp {
    let time = clock_gettime(ClockId::Monotonic);
    let time = Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32);
    Timestamp(time.as_nanos() as u64)
}
