//! From probes to profiles: keeps what the kernel side tells of every observed process.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    future::poll_fn,
    io,
    task::Poll,
    time::Duration,
};

use anyhow::{Context as _, bail};
use rustix::time::{ClockId, clock_gettime};

use super::{
    code::CodeTables,
    copies::unwind_copy,
    observed::{Life, Observed, exit_watch},
    stacks::{Stacks, fingerprint},
};
use crate::{
    heap::Heap,
    kernel::{Kernel, Sizes, TargetId, Unwind},
    model::{
        AttachPlan, Event, ImageId, Losses, MappingNotice, ObjectId, ProcessSnapshot, Profile, ProfileFrame, RawFrame,
        RawStack, Selection, Snapshot, StackCopy, StackId, Timestamp, Truncation, Warning,
    },
    plan::plan,
    target::{self, AddressSpace, ObjectTable, Process},
};

/// How often probing a process anew is tried while its threads come and go.
const MOST_ATTEMPTS: usize = 16;

/// Mappings that a copied stack needs are told of within this time, or not at all.
const PATIENCE: Duration = Duration::from_millis(200);

/// Everything that is known so far.
pub(super) struct Recorder {
    kernel: Kernel,
    objects: ObjectTable,
    plans: HashMap<ObjectId, AttachPlan>,
    processes: Vec<Observed>,
    heaps: HashMap<ImageId, Heap>,
    stacks: Stacks,
    /// Of images that are over.
    past_losses: Losses,
    code: CodeTables,
    mappings_lost: u64,
    warnings: Vec<Warning>,
    started: Timestamp,
    reported: Timestamp,
}

impl Recorder {
    /// Loads the programs. Needs a tokio runtime.
    pub(super) fn new(sizes: Sizes, unwind: Unwind, log_programs: bool) -> anyhow::Result<Self> {
        let kernel = Kernel::load(sizes, unwind, log_programs)?;
        log::debug!("{}", kernel.load_cost());
        log::debug!("kernel memory: {}", bytesize::ByteSize(kernel.memory_bytes()));
        Ok(Self {
            kernel,
            objects: ObjectTable::new(),
            plans: HashMap::new(),
            processes: Vec::new(),
            heaps: HashMap::new(),
            stacks: Stacks::default(),
            past_losses: Losses::default(),
            code: CodeTables::default(),
            mappings_lost: 0,
            warnings: Vec::new(),
            started: now(),
            reported: now(),
        })
    }

    /// The objects seen so far.
    pub(super) fn objects(&self) -> &ObjectTable {
        &self.objects
    }

    /// The objects seen so far, for those who see others.
    pub(super) fn objects_mut(&mut self) -> &mut ObjectTable {
        &mut self.objects
    }

    /// Attaches to a running process. An error if it cannot be profiled, and says why.
    pub(super) fn attach(&mut self, pid: u32) -> anyhow::Result<()> {
        if pid == std::process::id() {
            bail!("process {pid} is memprof itself, which it does not profile");
        }
        // Once to learn why not, and once more when nobody else can become this process.
        Process::find(pid)?;
        let exit = exit_watch(pid)?;
        let process = Process::find(pid)?;
        let target = self.next_target();
        let image = self.kernel.track(target, pid)?;
        // Followed before it is read: from here on, no change of its code is missed.
        let space = AddressSpace::read(process.thread, now(), &mut self.objects);
        let space = space.inspect_err(|_| self.kernel.untrack(target, pid))?;
        self.processes.push(Observed::new(pid, target, process.command, image, space, exit));
        let index = self.processes.len() - 1;
        self.tell_unwinder(index);
        log::debug!("unwinding rows: {}", bytesize::ByteSize(self.kernel.row_bytes()));
        let attached = self.probe_new_objects(index);
        // A process that ends meanwhile has no thread left to attach to, or no mappings to search.
        Process::find(pid).with_context(|| format!("process {pid} ended while memprof attached to it"))?;
        let functions = attached?;
        if functions == 0 {
            bail!("{}", self.no_allocator_in(index));
        }
        log::info!("attached to process {pid} ({}): {functions} functions", self.processes[index].command);
        Ok(())
    }

    /// Attaches to a process that is about to become a command with these objects.
    pub(super) fn prepare(&mut self, pid: u32, command: String, objects: &[ObjectId]) -> anyhow::Result<()> {
        let exit = exit_watch(pid)?;
        let target = self.next_target();
        let image = self.kernel.track(target, pid)?;
        self.processes.push(Observed::new(pid, target, command, image, AddressSpace::default(), exit));
        let index = self.processes.len() - 1;
        for &object in objects {
            self.code.load(&mut self.kernel, &self.objects, object);
        }
        self.processes[index].is_about_to_start = true;
        if self.probe_objects(index, objects)? == 0 {
            log::warn!("{}", self.no_allocator_in(index));
        }
        Ok(())
    }

    /// Whether every observed process has ended, and all that they did is known.
    pub(super) fn is_over(&self) -> bool {
        self.processes.iter().all(|process| process.life == Life::Settled)
    }

    /// Waits until there is something to drain.
    pub(super) async fn ready(&mut self) -> io::Result<()> {
        let processes = &mut self.processes;
        let end = poll_fn(|context| {
            // Each is asked, so that each will wake this task.
            let ended = processes.iter_mut().filter_map(|process| process.poll_end(context).then_some(())).count();
            if ended > 0 { Poll::Ready(()) } else { Poll::Pending }
        });
        tokio::select! {
            readable = self.kernel.readable() => readable,
            () = end => Ok(()),
        }
    }

    /// Takes in everything that has happened. The order matters: a block that leaves the nursery must be in its heap
    /// before the ring is read, in which its free may already stand.
    pub(super) fn drain(&mut self) -> anyhow::Result<()> {
        self.take_nursery()?;
        let occurrences = self.take_events();
        for event in occurrences {
            self.take_occurrence(event)?;
        }
        self.forget_other_images();
        self.heaps.values_mut().for_each(Heap::settle);
        self.take_mappings()?;
        self.tell_unwinder_what_is_new();
        self.unwind_copies(PATIENCE);
        self.look_for_unknown_code();
        self.update_jit_names();
        self.settle_ended();
        self.probe_what_is_new()?;
        self.kernel.flush_log();
        Ok(())
    }

    /// What is outstanding now, and starts a new interval for growth. Call [`Self::drain`] before.
    pub(super) fn profile(&mut self, selection: &Selection) -> anyhow::Result<Profile> {
        self.unwind_copies(Duration::ZERO);
        let now = now();
        self.processes.iter_mut().for_each(|process| process.jit.read(now));
        let mut losses = self.past_losses;
        let mut stack_totals = HashMap::new();
        self.kernel.stack_totals(|stack, allocations| {
            stack_totals.insert(stack, allocations);
        })?;
        let mut processes = Vec::new();
        for index in 0..self.processes.len() {
            let (process, process_losses) = self.snapshot(index, selection, now, &stack_totals)?;
            processes.push(process);
            losses += process_losses;
        }
        let profile = Snapshot {
            time: jiff::Timestamp::now(),
            elapsed: now.since(self.started),
            since_previous: now.since(self.reported),
            losses,
            warnings: self.warnings(&losses),
            processes,
        };
        self.heaps.values_mut().for_each(Heap::mark_reported);
        self.reported = now;
        Ok(profile)
    }

    fn next_target(&self) -> TargetId {
        TargetId(self.processes.len() as u32)
    }

    fn take_mappings(&mut self) -> anyhow::Result<()> {
        self.look_for_unmapped_code();
        let Self { kernel, objects, processes, .. } = self;
        let lost = kernel.drain_mappings(|notice| match notice {
            MappingNotice::Mapped(event) => {
                if let Some(process) = running(processes, event.pid) {
                    let mapping = objects.map(&event);
                    process.jit.note_mapped(objects.get(mapping.object));
                    process.space.add(&mapping);
                    process.note_new_code();
                }
            }
            MappingNotice::Cleared { pid, time } => {
                if let Some(process) = running(processes, pid) {
                    process.space.clear(time);
                    process.note_new_code();
                }
            }
        });
        if lost > 0 {
            self.mappings_lost += lost;
            self.read_mappings_again();
        }
        Ok(())
    }

    /// Reads the mappings of processes of which the kernel side says that code is unmapped.
    fn look_for_unmapped_code(&mut self) {
        for process in self.processes.iter_mut().filter(|process| process.life != Life::Settled) {
            if !self.kernel.awaits_code(process.target) {
                continue;
            }
            process.changes = self.kernel.code_changes(process.target);
            process.note_new_code();
            let time = now();
            // An error means that it is gone, and runs no code any more.
            if let Ok(mapped) = target::read_mappings(process.pid, time) {
                process.space.retain(mapped.into_iter().map(|event| event.addresses), time);
            }
        }
    }

    /// Makes up for lost notices.
    fn read_mappings_again(&mut self) {
        for process in self.processes.iter_mut().filter(|process| process.life == Life::Running) {
            // What is gone by now has no mappings to read; the report says that notices were lost.
            for event in target::read_mappings(process.pid, now()).unwrap_or_default() {
                process.space.add(&self.objects.map(&event));
                process.note_new_code();
            }
        }
    }

    /// Reads the mappings of processes with stacks that run through code which no notice has told of.
    fn look_for_unknown_code(&mut self) {
        for image in self.stacks.images_of_copies() {
            let Some(process) = self.processes.iter_mut().find(|process| process.image == image) else { continue };
            if process.life != Life::Running || !process.may_read_mappings() {
                continue;
            }
            for event in target::read_mappings(process.pid, now()).unwrap_or_default() {
                process.space.add(&self.objects.map(&event));
            }
            process.note_new_code();
        }
    }

    fn update_jit_names(&mut self) {
        let now = now();
        for process in &mut self.processes {
            process.jit.update(process.pid, process.life == Life::Running, now);
        }
    }

    fn tell_unwinder_what_is_new(&mut self) {
        for index in 0..self.processes.len() {
            let process = &self.processes[index];
            if process.life != Life::Settled && process.has_new_code {
                self.tell_unwinder(index);
            }
        }
    }

    fn tell_unwinder(&mut self, index: usize) {
        let process = &mut self.processes[index];
        process.has_new_code = false;
        let stack_end = *process.stack_end.get_or_insert_with(|| target::stack_end(process.pid));
        let mappings = process.space.current();
        self.code.update(&mut self.kernel, &self.objects, process.target, mappings, stack_end, process.changes);
    }

    fn take_nursery(&mut self) -> anyhow::Result<()> {
        let heaps = &mut self.heaps;
        Ok(self.kernel.drain_nursery(|image, allocation| heaps.entry(image).or_default().allocate(allocation))?)
    }

    /// Applies frees and stacks; returns the rest, which is rare.
    fn take_events(&mut self) -> Vec<Event> {
        let Self { kernel, objects, processes, heaps, stacks, .. } = self;
        let mut occurrences = Vec::new();
        kernel.drain_events(|event| match event {
            Event::Free { image, address, time } => {
                // Not known: allocated before the attach, or by an image that is over.
                heaps.get_mut(&image).map(|heap| heap.free(address, time));
            }
            Event::Stack(stack) => {
                note_jit(processes, objects, &stack);
                stacks.insert(stack, |object| fingerprint_of(objects, object));
            }
            Event::StackCopy(copy) => stacks.keep(copy),
            other => occurrences.push(other),
        });
        occurrences
    }

    fn take_occurrence(&mut self, event: Event) -> anyhow::Result<()> {
        match event {
            Event::Exec { target, previous, image, by_other_thread, .. } => {
                let Some(index) = self.index_of(target) else { return Ok(()) };
                self.forget(previous)?;
                let process = &mut self.processes[index];
                process.image = image;
                process.has_replaced_program = !process.is_about_to_start;
                process.is_about_to_start = false;
                process.stack_end = None;
                process.jit.renew(process.pid);
                process.note_new_code();
                self.kernel.renew_code(process.target);
                if let Ok(command) = target::command_name(process.pid) {
                    process.command = command;
                }
                if by_other_thread {
                    self.probe_again(index, "one of its threads called execve");
                }
            }
            Event::ProbedThreadExit { target, thread } => {
                if let Some(index) = self.index_of(target) {
                    let is_main = thread == self.processes[index].pid;
                    self.probe_again(index, if is_main { "its main thread ended" } else { "one of its threads ended" });
                }
            }
            Event::NurseryFilling | Event::Free { .. } | Event::Stack(_) | Event::StackCopy(_) => {}
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
        self.heaps.remove(&image);
        let stacks = self.stacks.forget(image);
        self.kernel.forget(image, &stacks);
        Ok(())
    }

    /// Blocks of images that were over before they were drained. Every image that is current is known by now: its
    /// `execve` was told before its first block, and has been read after it.
    fn forget_other_images(&mut self) {
        let current: BTreeSet<_> = self.processes.iter().map(|process| process.image).collect();
        self.heaps.retain(|image, _| current.contains(image));
    }

    /// Marks those that had ended before this drain began: it has brought all that they did.
    fn settle_ended(&mut self) {
        let mut has_settled = false;
        for process in self.processes.iter_mut().filter(|process| process.life == Life::Ended) {
            process.life = Life::Settled;
            process.jit.finish(now());
            self.kernel.untrack(process.target, process.pid);
            has_settled = true;
        }
        if has_settled {
            let living = self.processes.iter().filter(|process| process.life != Life::Settled);
            let mapped: HashSet<_> = living.flat_map(|process| process.space.objects()).collect();
            self.code.retain(&mut self.kernel, &self.objects, &mapped);
        }
    }

    fn probe_what_is_new(&mut self) -> anyhow::Result<()> {
        for index in 0..self.processes.len() {
            let process = &self.processes[index];
            if process.life != Life::Running || !process.has_new_objects {
                continue;
            }
            let pid = process.pid;
            // Anything but a library that it has loaded beside the allocator that is probed.
            let is_late = process.has_replaced_program || !process.is_probed;
            match self.probe_new_objects(index) {
                Ok(0) => {}
                Ok(_) if is_late => {
                    self.warn(Warning::ProbesInterrupted {
                        pid,
                        cause: "it executed a program with another allocator",
                    });
                }
                Ok(sites) => log::info!("process {pid} has mapped {sites} more allocator functions"),
                Err(error) => self.tolerate_if_ended(index, error)?,
            }
        }
        Ok(())
    }

    /// Probes what of the process's objects has not been searched yet; returns the number of sites.
    fn probe_new_objects(&mut self, index: usize) -> anyhow::Result<usize> {
        let process = &mut self.processes[index];
        process.has_new_objects = false;
        let objects: Vec<_> =
            process.space.objects().into_iter().filter(|object| !process.planned.contains(object)).collect();
        self.probe_objects(index, &objects)
    }

    fn probe_objects(&mut self, index: usize, objects: &[ObjectId]) -> anyhow::Result<usize> {
        let thread = self.living_thread(index)?;
        let mut sites = 0;
        for &id in objects {
            let Some(object) = self.objects.get(id) else { continue };
            let plan = self.plans.entry(id).or_insert_with(|| plan([object]));
            let process = &mut self.processes[index];
            if !plan.sites.is_empty() {
                log::debug!("process {}: {plan}", process.pid);
                let open = |id| self.objects.get(id).map(|object| &**object);
                self.kernel.attach(process.target, thread, plan, open)?;
                process.is_probed = true;
                sites += plan.sites.len();
            }
            process.planned.insert(id);
        }
        Ok(sites)
    }

    fn living_thread(&self, index: usize) -> anyhow::Result<u32> {
        let pid = self.processes[index].pid;
        target::threads(pid).next().with_context(|| format!("process {pid} has ended"))
    }

    /// Attaches everything anew to a thread that lives: probes are bound to one, and go with it.
    fn probe_again(&mut self, index: usize, cause: &'static str) {
        let process = &mut self.processes[index];
        let (pid, target) = (process.pid, process.target);
        let planned: Vec<_> = std::mem::take(&mut process.planned).into_iter().collect();
        // A thread may end just when it was chosen.
        for _ in 0..MOST_ATTEMPTS {
            if self.living_thread(index).is_err() {
                return;
            }
            self.kernel.detach(target);
            match self.probe_objects(index, &planned) {
                Ok(_) => return self.warn(Warning::ProbesInterrupted { pid, cause }),
                Err(error) => log::debug!("process {pid}: {error:#}"),
            }
        }
        log::error!("process {pid} could not be probed again after {cause}: nothing more is recorded of it");
    }

    fn tolerate_if_ended(&self, index: usize, error: anyhow::Error) -> anyhow::Result<()> {
        if self.living_thread(index).is_err() {
            return Ok(());
        }
        Err(error)
    }

    fn warn(&mut self, warning: Warning) {
        if !self.warnings.contains(&warning) {
            self.warnings.push(warning);
        }
    }

    fn warnings(&mut self, losses: &Losses) -> Vec<Warning> {
        for warning in self.objects.take_warnings() {
            self.warn(warning);
        }
        let mut warnings: Vec<_> = Warning::of_losses(losses).collect();
        warnings.extend(self.warnings.iter().cloned());
        warnings.extend((self.mappings_lost > 0).then_some(Warning::MappingsLost(self.mappings_lost)));
        warnings.extend(self.processes.iter().filter_map(|process| self.without_allocator(process)));
        warnings
    }

    fn without_allocator(&self, process: &Observed) -> Option<Warning> {
        let has_sites = |object| self.plans.get(&object).is_some_and(|plan| !plan.sites.is_empty());
        let is_bare = !process.is_about_to_start && !process.space.objects().into_iter().any(has_sites);
        is_bare.then(|| Warning::NoAllocator { pid: process.pid, command: process.command.clone() })
    }

    fn no_allocator_in(&self, index: usize) -> String {
        let process = &self.processes[index];
        let searched =
            process.planned.iter().filter_map(|object| self.plans.get(object)).flat_map(|plan| &plan.searched);
        let mut searched: Vec<_> = searched.map(ToString::to_string).collect();
        searched.sort();
        format!(
            "no allocator function found in process {} ({}); searched: {}",
            process.pid,
            process.command,
            searched.join(", ")
        )
    }

    fn snapshot(
        &self,
        index: usize,
        selection: &Selection,
        now: Timestamp,
        stack_totals: &HashMap<StackId, u64>,
    ) -> anyhow::Result<(ProcessSnapshot<ProfileFrame>, Losses)> {
        let process = &self.processes[index];
        let (mut totals, losses) = self.kernel.totals(process.image)?;
        let nothing = Heap::new();
        let heap = self.heaps.get(&process.image).unwrap_or(&nothing);
        totals += heap.freed();
        let own_totals = self.stacks.totals(process.image, stack_totals);
        let total_allocations = |stack| match stack {
            StackId::UNKNOWN => losses.stacks(),
            stack => own_totals.get(&stack).copied().unwrap_or_default(),
        };
        let name = |stack| self.stacks.name(stack);
        let selected = heap.select(selection, now, name, total_allocations, |stack| self.frames(process, stack));
        let holding: HashSet<_> = heap.outstanding_by_stack().map(|(stack, _)| name(stack)).collect();
        let snapshot = ProcessSnapshot {
            pid: process.pid,
            command: process.command.clone(),
            exited: process.life == Life::Settled,
            outstanding: heap.outstanding(),
            growth_bytes: heap.growth_bytes(),
            peak_bytes: heap.peak_bytes(),
            totals,
            stacks: selected.shown,
            selected_stacks: selected.selected,
            truncated_stacks: holding.into_iter().filter(|stack| self.is_truncated(process, *stack)).count(),
        };
        Ok((snapshot, losses))
    }

    fn is_truncated(&self, process: &Observed, stack: StackId) -> bool {
        self.stacks.get(process.image, stack).is_some_and(|stack| stack.truncated.is_some())
    }

    /// Unwinds what the kernel side could not, now that more is known of what was mapped; what is older than `patience`
    /// in any case.
    fn unwind_copies(&mut self, patience: Duration) {
        let Self { kernel, code, objects, processes, stacks, .. } = self;
        let now = now();
        let unwind = |copy: &StackCopy| {
            let process = processes.iter_mut().find(|process| process.image == copy.image)?;
            let must_be = process.life != Life::Running || now.since(copy.time) >= patience;
            let stack = unwind_copy(kernel, code, objects, &process.space, copy, must_be)?;
            note_jit(processes, objects, &stack);
            Some(stack)
        };
        stacks.unwind_copies(unwind, |object| fingerprint_of(objects, object));
    }

    /// The frames of a stack, and why some may be missing. What the unwinder had not been told of is looked up now.
    fn frames(&self, process: &Observed, stack: StackId) -> (Vec<ProfileFrame>, Option<Truncation>) {
        let Some(stack) = self.stacks.get(process.image, stack) else { return (Vec::new(), None) };
        let late = |address| process.space.find_return_address(address, stack.time);
        let object = |id| self.objects.get(id);
        let frame = |frame: &RawFrame| {
            let raw = RawFrame { place: frame.place.or_else(|| late(frame.address)), ..*frame };
            ProfileFrame { raw, jit_function: process.jit.name(&raw, stack.time, object) }
        };
        (stack.frames.iter().map(frame).collect(), stack.truncated)
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

fn running(processes: &mut [Observed], pid: u32) -> Option<&mut Observed> {
    processes.iter_mut().find(|process| process.pid == pid && process.life != Life::Settled)
}

fn now() -> Timestamp {
    let time = clock_gettime(ClockId::Monotonic);
    let time = Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32);
    Timestamp(time.as_nanos() as u64)
}
