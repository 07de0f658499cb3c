//! The kernel stage, and the only door to aya and to perf events: loads the programs, attaches a plan, drains the maps
//! and the rings. It decides nothing.

mod attach;
mod btf;
mod buckets;
mod decode;
mod detach;
mod extents;
mod fdinfo;
mod grace;
mod load;
mod mapped_array;
mod mappings;
mod memory;
mod multi;
mod page_faults;
mod probe;
mod programs;
mod stack_tables;
mod support;
mod tables;
mod timing;
mod trap;
mod undisturbed;
mod uprobe_events;

use std::{collections::HashSet, io, ops::ControlFlow, path::PathBuf};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, MapError, PerCpuArray, PerCpuValues, Queue, RingBuf},
    programs::{Program, ProgramError},
};
use memprof_common::{
    Calls, FreeRecord, ImageTotals, MAX_TARGETS, NurseryEntry, Tracked,
    buckets::{FREE, image_key},
    unwind::{Row, Rule},
};
use tokio::io::unix::AsyncFd;

use self::{
    attach::Probes,
    buckets::{BucketTable, KeyTable},
    load::{Logger, take, try_loading, try_watching_page_faults},
    mappings::MappingWatch,
    page_faults::PageFaultWatch,
    programs::Programs,
    stack_tables::StackTables,
    tables::Tables,
    timing::Timing,
};
pub use self::{
    attach::{Attachee, Reach},
    decode::record as decode_record,
    load::{Following, LoadCost, Settings, Sizes, Unwind},
    mappings::decode_notice,
    page_faults::HugePages,
    support::{Check, Outcome, checks, page_faults, programs, require},
    tables::{CodeChanges, MappedCode, NoRoom},
};
use crate::model::{
    Allocation, AttachPlan, CallCounts, Event, ImageId, Losses, MappingNotice, Object, ObjectId, RunTimes, StackCounts,
    StackId, Totals, TrapCosts,
};

/// Why the kernel side failed. The kernel's own words are in the source.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// The programs or maps could not be loaded.
    #[error("cannot load the BPF programs")]
    Load(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The kernel's verifier does not accept a program.
    #[error("this kernel refuses the BPF program {program} (please report it, with what `memprof -v -- true` prints)")]
    Refused {
        /// Its name.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// A map operation failed.
    #[error("BPF map")]
    Map(#[from] MapError),
    /// A system call failed.
    #[error("{call}")]
    Call {
        /// What was asked of the kernel.
        call: &'static str,
        /// Its answer.
        source: io::Error,
    },
    /// A probe could not be attached.
    #[error("cannot probe {function} in {}", path.display())]
    Attach {
        /// The function.
        function: &'static str,
        /// The object, as the target sees it.
        path: PathBuf,
        /// What the kernel said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Another thread than the first was to be probed through, which only perf events can.
    #[error(
        "the functions in {} can be probed only through another thread than the process's first, which has ended: that needs CAP_SYS_ADMIN",
        path.display()
    )]
    FirstThreadEnded {
        /// The object, as the target sees it.
        path: PathBuf,
    },
    /// Something that this kernel is without.
    #[error("this kernel does not tell {0}")]
    Lacks(&'static str),
    /// A table of fixed size is full.
    #[error("too many {0} at once")]
    TooMany(&'static str),
}

/// A process whose probes fire, as the kernel side knows it: an index into `TARGETS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TargetId(pub u32);

/// The loaded programs and their maps. Dropping it detaches everything.
pub struct Kernel {
    // Links go before the programs they hold.
    probes: Probes,
    programs: Programs,
    events: AsyncFd<RingBuf<MapData>>,
    control: AsyncFd<RingBuf<MapData>>,
    nursery: BucketTable<NurseryEntry>,
    stacks: StackTables,
    /// That are in calls, or were.
    threads: KeyTable,
    images: KeyTable,
    /// Of each image; zero where there is none.
    totals: PerCpuArray<MapData, ImageTotals>,
    targets: Array<MapData, u32>,
    calls: PerCpuArray<MapData, Calls>,
    timing: Option<Timing>,
    tracked: HashMap<MapData, u32, Tracked>,
    spares: Queue<MapData, u32>,
    unfollowed: Array<MapData, u64>,
    execs: Array<MapData, u32>,
    mappings: MappingWatch,
    page_faults: PageFaultWatch,
    /// Whether the programs can tell what is mapped where.
    finds_areas: bool,
    tells_of_code: bool,
    tables: Tables,
    logger: Option<Logger>,
    images_numbered: u32,
    memory_bytes: u64,
    ring_bytes: u32,
    load_cost: LoadCost,
}

impl Kernel {
    /// Begins to follow a process: gives it a target and a first image, but no probes yet.
    pub fn track(&mut self, target: TargetId, pid: u32) -> Result<ImageId, KernelError> {
        let image = self.images_numbered;
        self.images_numbered += 1;
        let totals = self.images.claim_free(image_key(image)).ok_or(KernelError::TooMany("processes"))?;
        self.images.publish(totals, image_key(image));
        self.targets.set(target.0, image, 0)?;
        self.tracked.insert(pid, Tracked { target: target.0, leader_exited: 0, is_guest: 0 }, 0)?;
        Ok(ImageId(image))
    }

    /// Offers a target that is not in use for a process that is yet to be forked. Says whether there was room for the offer.
    pub fn offer(&mut self, target: TargetId) -> Result<bool, KernelError> {
        self.probes.reserve(target)?;
        Ok(self.spares.push(target.0, 0).is_ok())
    }

    /// Whether a process that was forked as this target still has the pid, as far as the programs have seen.
    pub fn is_tracked(&self, target: TargetId, pid: u32) -> bool {
        let tracked = self.tracked.get(&pid, 0);
        tracked.is_ok_and(|tracked| tracked.target == target.0 && tracked.leader_exited == 0)
    }

    /// How many processes were forked and could not be followed.
    pub fn unfollowed(&self) -> Result<u64, KernelError> {
        Ok(self.unfollowed.get(&0, 0)?)
    }

    /// How many images the programs have begun, at an `execve` or a fork. Each is told of at that time, unless the ring for that is full.
    pub fn images_begun(&self) -> Result<u32, KernelError> {
        Ok(self.execs.get(&0, 0)?)
    }

    /// Waits until all is told, or could not be, of the images that have begun. Takes some milliseconds.
    pub fn await_told(&self) -> Result<(), KernelError> {
        self.await_programs()
    }

    /// The image that a target has now, whether that was told or not.
    pub fn current_image(&self, target: TargetId) -> Result<ImageId, KernelError> {
        Ok(ImageId(self.targets.get(&target.0, 0)?))
    }

    /// The thread that a target's probes are bound to; nothing if they are bound to none.
    pub fn probed_thread(&self, target: TargetId) -> Option<u32> {
        self.probes.thread(target)
    }

    /// Forgets the images that are over and were never told of: all but the current ones of targets and those that are `known`. Returns
    /// what was lost of them. Takes some milliseconds.
    pub fn forget_untold(&mut self, known: &HashSet<ImageId>) -> Result<Losses, KernelError> {
        let mut images = self.images.keys().into_iter().map(|key| ImageId(key as u32)).collect::<HashSet<_>>();
        // One whose beginning is under way is a target's afterwards.
        self.await_told()?;
        for target in 0..MAX_TARGETS {
            images.remove(&self.current_image(TargetId(target))?);
        }
        let mut losses = Losses::default();
        for image in images.difference(known) {
            losses += self.totals(*image)?.1;
            self.forget(*image, &[])?;
        }
        Ok(losses)
    }

    /// Ends following a process that is gone: its pid can be another's from now on.
    pub fn untrack(&mut self, target: TargetId, pid: u32) {
        self.probes.detach(target);
        self.probes.forget_windows(target);
        self.tables.remove_code(target);
        // Another process that was forked meanwhile may have the pid already.
        if self.tracked.get(&pid, 0).is_ok_and(|tracked| tracked.target == target.0) {
            // An error means that the programs saw the pid reused, and have removed it.
            let _ = self.tracked.remove(&pid);
        }
    }

    /// Attaches what of `plan` is not attached yet, and says how many sites that is: to one process, or where the probes
    /// [reach everyone](Reach::Everyone) to all. Frees first, then returns, then entries: so nothing is recorded whose end could be
    /// missed.
    pub fn attach<'a>(
        &mut self,
        target: TargetId,
        process: Attachee,
        plan: &AttachPlan,
        object: impl Fn(ObjectId) -> Option<&'a Object>,
    ) -> Result<usize, KernelError> {
        self.probes.attach(&mut self.programs, target, process, plan, object)
    }

    /// Whether a process can be attached to when its first thread has ended.
    pub fn reaches_any_thread(&self) -> bool {
        self.programs.reach_any_thread()
    }

    /// Makes ready for that, lest it take long when there are no probes. What fails will fail again then.
    pub fn prepare_for_any_thread(&mut self) {
        if let Err(error) = self.programs.prepare_for_any_thread() {
            log::debug!("{error}");
        }
    }

    /// Lets what a target does count from here on, if it was not probed before it was [attached](Self::attach) to.
    pub fn begin_to_count(&mut self, target: TargetId) -> Result<(), KernelError> {
        self.probes.begin_to_count(target)
    }

    /// Ends all counting, for good, while the targets run on: what the programs have told and counted when this returns is of one moment.
    /// A call that has not returned by then is left out. Takes some milliseconds.
    pub fn stop_counting(&mut self) -> Result<(), KernelError> {
        self.probes.silence_all()?;
        self.await_programs()?;
        // Nobody enters a call any more. This is for those who are in one.
        self.threads.clear();
        self.await_programs()
    }

    /// Begins a window: attaches the probes of functions that only allocate, of these plans, whose other probes are attached.
    /// Allocations count when the target is [opened](Self::set_open).
    pub fn begin_window<'a>(
        &mut self,
        target: TargetId,
        plans: &[&AttachPlan],
        object: impl Fn(ObjectId) -> Option<&'a Object>,
    ) -> Result<(), KernelError> {
        self.probes.begin_window(&mut self.programs, target, plans, object)
    }

    /// Ends a window: detaches these probes. Returns before it is done. The target is to be closed.
    pub fn end_window(&mut self, target: TargetId) {
        self.probes.end_window(target);
    }

    /// Lets the target's allocations count from now on, or no more. Frees always do.
    pub fn set_open(&mut self, target: TargetId, is_open: bool) -> Result<(), KernelError> {
        self.probes.set_open(target, is_open)
    }

    /// How often the target's probes fired.
    pub fn calls(&self, target: TargetId) -> Result<CallCounts, KernelError> {
        Ok(decode::calls(self.calls.get(&target.0, 0)?.iter()))
    }

    /// What probes cost by themselves, of the kinds that are attached.
    pub fn trap_costs(&self) -> TrapCosts {
        self.probes.trap_costs()
    }

    /// Lets the kernel measure how long the programs run, which costs about 50 ns a run. Says whether it does.
    pub fn begin_timing(&mut self) -> bool {
        self.timing = Timing::begin(&self.programs);
        self.timing.is_some()
    }

    /// How often and how long they ran since then; nothing if that was not measured.
    pub fn end_timing(&mut self) -> Option<RunTimes> {
        self.timing.take().map(|timing| timing.end(&self.programs))
    }

    /// Whether the unwinder has an object's rows.
    pub fn has_rows(&self, object: ObjectId) -> bool {
        self.tables.has(object)
    }

    /// Gives the unwinder the rows of an object, for all targets that map it.
    pub fn add_rows(&mut self, object: ObjectId, rows: &[Row]) -> Result<(), NoRoom> {
        self.tables.add_rows(object, rows)
    }

    /// Takes the rows of an object away, which no target may have mapped any more.
    pub fn remove_rows(&mut self, object: ObjectId) {
        self.tables.remove_rows(object);
    }

    /// The unwinding rule for a byte of an object's code; `None` if the unwinder has no rows of it.
    pub fn rule_at(&self, object: ObjectId, offset_in_file: u64) -> Option<Rule> {
        self.tables.rule_at(object, offset_in_file)
    }

    /// Bytes of rows in use.
    pub fn row_bytes(&self) -> u64 {
        self.tables.row_bytes()
    }

    /// Rows for which there is room.
    pub fn free_rows(&mut self) -> u32 {
        self.tables.free_rows()
    }

    /// How often a target's code was unmapped or mapped over: to be asked for before one looks at what is mapped.
    pub fn code_changes(&self, target: TargetId) -> CodeChanges {
        self.tables.changes(target)
    }

    /// Whether this kernel tells of changes of code.
    pub fn tells_of_code(&self) -> bool {
        self.tells_of_code
    }

    /// Whether the unwinder leaves a target's stacks alone until it is told what is mapped, since some code is no more.
    pub fn awaits_code(&self, target: TargetId) -> bool {
        self.tables.awaits_code(target)
    }

    /// Tells the unwinder what code a target has mapped.
    pub fn set_code(&mut self, target: TargetId, code: &MappedCode<'_>) -> Result<(), NoRoom> {
        self.tables.set_code(target, code)
    }

    /// Makes the unwinder forget what it has cached of a target, whose program was replaced.
    pub fn renew_code(&mut self, target: TargetId) {
        self.tables.renew(target);
    }

    /// Detaches all probes of a target. Returns before it is done.
    pub fn detach(&mut self, target: TargetId) {
        self.probes.detach(target);
    }

    /// Has one of so many page faults of tracked processes counted at its stack, and every huge page: from now on
    /// [`Self::stack_totals`] are [`memprof_common::TOUCHED_PAGE`]s and [`memprof_common::TOUCHED_HUGE_PAGE`]s.
    pub fn watch_page_faults(&mut self, period: u64) -> Result<HugePages, KernelError> {
        if !self.finds_areas {
            return Err(KernelError::Lacks(load::AREAS));
        }
        self.page_faults.begin(self.programs.bpf_mut(), period)
    }

    /// How many page faults, of all processes, were to be counted by now.
    pub fn page_faults_due(&mut self) -> Result<u64, KernelError> {
        self.page_faults.due()
    }

    /// How many of them the program has seen. The kernel leaves out those that come while it is at work on a BPF map on the
    /// same CPU.
    pub fn page_faults_seen(&self) -> Result<u64, KernelError> {
        self.page_faults.seen()
    }

    /// Takes everything out of the nursery. Blocks that are allocated meanwhile may stay until the next time.
    pub fn drain_nursery(&mut self, mut apply: impl FnMut(ImageId, Allocation)) {
        self.nursery.take_all(|key, entry| {
            let (image, allocation) = decode::block(key, entry);
            apply(image, allocation);
        });
    }

    /// Tells what is in the nursery and leaves it there, while sampling. What is there all the time is told once.
    pub fn read_nursery(&self, mut apply: impl FnMut(ImageId, Allocation)) {
        self.nursery.for_each_whole(|key, entry| {
            let (image, allocation) = decode::block(key, entry);
            apply(image, allocation);
        });
    }

    /// Takes the blocks of an image that is over out of the nursery.
    pub fn remove_from_nursery(&mut self, image: ImageId) {
        self.nursery.remove_where(|entry| entry.image == image.0);
    }

    /// Takes records out of both rings: first frees and stacks in their order, `most` of them or all, then `execve`s and exits; so
    /// that of an image that was told of blocks, the beginning is told by then. `apply` says whether to go on with the former. Says
    /// whether nothing was left.
    pub fn drain_events(&mut self, most: usize, mut apply: impl FnMut(Event) -> ControlFlow<()>) -> bool {
        let (mut taken, mut stops, mut is_all) = (0, false, true);
        for (ring, most) in [(&mut self.events, most), (&mut self.control, usize::MAX)] {
            while taken < most && !stops {
                let Some(record) = ring.get_mut().next() else { break };
                taken += 1;
                match decode::record(&record) {
                    Some(event) => stops = apply(event).is_break(),
                    None => log::error!("a record of {} bytes is not understood", record.len()),
                }
            }
            is_all &= !std::mem::take(&mut stops) && taken < most;
        }
        is_all
    }

    /// No more records than that can wait in the rings.
    pub fn most_events(&self) -> usize {
        (self.ring_bytes as usize).max(rustix::param::page_size()).next_power_of_two() * 2 / size_of::<FreeRecord>()
    }

    /// Takes all notices of mappings; returns how many the kernel dropped.
    pub fn drain_mappings(&mut self, apply: impl FnMut(MappingNotice)) -> u64 {
        self.mappings.drain(apply)
    }

    /// Waits until no program runs any more that runs now.
    fn await_programs(&self) -> Result<(), KernelError> {
        self.stacks.await_programs()
    }

    /// Writes what the programs logged to the log.
    pub fn flush_log(&mut self) {
        if let Some(logger) = &mut self.logger {
            logger.flush();
        }
    }

    /// What an image did, as far as the kernel side counts it, and what was lost of it.
    pub fn totals(&self, image: ImageId) -> Result<(Totals, Losses), KernelError> {
        let Some(index) = self.images.find(image_key(image.0)) else { return Ok(Default::default()) };
        Ok(decode::totals(self.totals.get(&index, 0)?.iter()))
    }

    /// What was allocated at each stack, of all images, since the programs have known it. A stack can be told of in parts.
    pub fn stack_totals(&self, apply: impl FnMut(StackId, StackCounts)) {
        self.stacks.for_each(apply);
    }

    /// Whether the programs know so many stacks that they soon have no room for more.
    pub fn stacks_are_filling(&self) -> bool {
        self.stacks.is_filling()
    }

    /// Makes the programs forget all stacks that they know, and tells what [`Self::stack_totals`] would. A stack that is seen
    /// again is told again, as new.
    ///
    /// What the programs did before is told by drains that begin afterwards.
    pub fn take_stack_totals(&mut self, apply: impl FnMut(StackId, StackCounts)) -> Result<(), KernelError> {
        self.stacks.take_turns(apply)
    }

    /// Forgets an image that is over, and its stacks.
    pub fn forget(&mut self, image: ImageId, stacks: &[StackId]) -> Result<(), KernelError> {
        if let Some(totals) = self.images.find(image_key(image.0)) {
            // For the next one, which may be the programs' to begin.
            self.totals.set(totals, Self::zero_totals()?, 0)?;
            self.images.publish(totals, FREE);
        }
        stacks.iter().for_each(|stack| self.stacks.remove(*stack));
        Ok(())
    }

    /// Bytes of kernel memory that the maps hold, as the kernel accounts them.
    pub fn memory_bytes(&self) -> u64 {
        self.memory_bytes
    }

    /// What it took to load the programs.
    pub fn load_cost(&self) -> LoadCost {
        self.load_cost
    }

    /// Waits until a ring wants to be read, or a process that matters has mapped something.
    pub async fn readable(&mut self, matters: impl Fn(u32) -> bool) -> io::Result<()> {
        tokio::select! {
            ready = self.control.readable() => ready?.clear_ready(),
            ready = self.events.readable() => ready?.clear_ready(),
            ready = self.mappings.readable(matters) => ready?,
        }
        Ok(())
    }

    fn zero_totals() -> Result<PerCpuValues<ImageTotals>, KernelError> {
        let cpus = aya::util::nr_cpus().map_err(|(call, source)| KernelError::Call { call, source })?;
        PerCpuValues::try_from(vec![ImageTotals::default(); cpus])
            .map_err(|source| KernelError::Call { call: "per-CPU values", source })
    }
}

/// A program by name.
fn program<'a, P>(bpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, KernelError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = bpf.program_mut(name).ok_or_else(|| load::failed(format!("the object has no program {name}")))?;
    program.try_into().map_err(load::failed)
}
