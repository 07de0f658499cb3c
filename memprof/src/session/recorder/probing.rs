//! Attaching: which objects of a process are probed, and when.

use std::time::Duration;

use anyhow::{Context as _, bail};

use super::{Recorder, candidates::NoAllocator, now};
use crate::{
    kernel::{Attachee, KernelError, Reach, TargetId},
    model::{AttachPlan, ObjectId, Warning},
    plan::plan,
    session::observed::{Life, Observed, exit_watch},
    target::{self, AddressSpace, Process},
};

/// How often probing a process anew is tried while its threads come and go.
const MOST_ATTEMPTS: usize = 16;

/// What came of searching objects.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Probed {
    /// Allocator functions in them.
    functions: usize,
    /// Of these, those that were not probed before.
    attached: usize,
}

impl Recorder {
    /// Attaches to a running process. An error if it cannot be profiled, and says why.
    pub(in crate::session) fn attach(&mut self, pid: u32) -> anyhow::Result<()> {
        if self.processes.is_empty() {
            // What there is to tell so far is of nobody's who is observed.
            self.kernel.drain_mappings(drop);
        }
        let index = self.begin_to_observe(pid)?;
        let attached = self.attach_probes(index);
        // Else others fill the room for notices, where many processes are attached to.
        self.take_mappings()?;
        if attached.is_err() {
            let process = self.processes.remove(index);
            self.has_unmapped_code = true;
            self.forget(process.image)?;
            self.release(process.target, pid);
        }
        let functions = attached?;
        log::info!("attached to process {pid} ({}): {functions} functions", self.processes[index].command);
        Ok(())
    }

    /// Makes a running process a target, without probes.
    pub(super) fn begin_to_observe(&mut self, pid: u32) -> anyhow::Result<usize> {
        if pid == std::process::id() {
            bail!("process {pid} is memprof itself, which it does not profile");
        }
        // Once to learn why not, and once more when nobody else can become this process.
        Process::find(pid)?;
        let exit = exit_watch(pid)?;
        let process = Process::find(pid)?;
        let target = self.take_target()?;
        let image = self.kernel.track(target, pid)?;
        // Followed before it is read: from here on, no change of its code is missed.
        let changes = self.kernel.code_changes(target);
        let space = AddressSpace::read(process.thread, now(), &mut self.objects);
        let space = space.inspect_err(|_| self.release(target, pid))?;
        let mut observed = Observed::new(pid, target, process.command, image, space, exit);
        observed.changes = changes;
        self.processes.push(observed);
        Ok(self.processes.len() - 1)
    }

    /// Probes what a running process has mapped; how many functions that is.
    fn attach_probes(&mut self, index: usize) -> anyhow::Result<usize> {
        let pid = self.processes[index].pid;
        self.tell_unwinder(index);
        log::debug!("unwinding rows: {}", bytesize::ByteSize(self.kernel.row_bytes()));
        let attached = self.probe_new_objects(index);
        // A process that ends meanwhile has no thread left to attach to, or no mappings to search.
        Process::find(pid).with_context(|| format!("process {pid} ended while memprof attached to it"))?;
        let functions = attached?.functions;
        if functions == 0 {
            return Err(NoAllocator(self.no_allocator_in(index)).into());
        }
        self.warn_of_missing_functions(index);
        self.begin_metering(index)?;
        Ok(functions)
    }

    fn take_target(&mut self) -> anyhow::Result<TargetId> {
        self.targets.take().context("too many processes at once")
    }

    fn release(&mut self, target: TargetId, pid: u32) {
        self.kernel.untrack(target, pid);
        self.targets.give_back(target);
    }

    /// Attaches to a process that is about to become a command with these objects.
    pub(in crate::session) fn prepare(
        &mut self,
        pid: u32,
        command: String,
        objects: &[ObjectId],
    ) -> anyhow::Result<()> {
        let exit = exit_watch(pid)?;
        let target = self.take_target()?;
        let image = self.kernel.track(target, pid)?;
        self.processes.push(Observed::new(pid, target, command, image, AddressSpace::default(), exit));
        let index = self.processes.len() - 1;
        for &object in objects {
            self.code.load(&mut self.kernel, &self.objects, object);
        }
        self.processes[index].is_about_to_start = true;
        self.processes[index].expected = objects.to_vec();
        if self.probe_objects(index, objects)?.functions == 0 {
            log::warn!("{}", self.no_allocator_in(index));
        }
        self.warn_of_missing_functions(index);
        self.begin_metering(index)?;
        // All of it is of other processes, and the command's own notices need the room.
        self.kernel.drain_mappings(drop);
        Ok(())
    }

    pub(super) fn probe_what_is_new(&mut self) -> anyhow::Result<()> {
        for index in 0..self.processes.len() {
            let process = &self.processes[index];
            if process.life != Life::Running || !process.has_new_objects || !process.takes_probes {
                continue;
            }
            let pid = process.pid;
            // Anything but a library that it has loaded beside the allocator that is probed.
            let is_late = process.has_replaced_program || !process.is_probed;
            let probed = self.probe_new_objects(index);
            if matches!(probed, Ok(probed) if probed.functions > 0) {
                self.warn_of_missing_functions(index);
            }
            match probed {
                Ok(Probed { attached: 0, .. }) => {}
                Ok(Probed { functions, .. }) if self.sees_all_late(index) => {
                    log::info!("attached to process {pid} ({}): {functions} functions", self.processes[index].command);
                }
                Ok(_) if is_late => {
                    self.warn(Warning::ProbesInterrupted {
                        pid,
                        cause: "it executed a program with another allocator",
                    });
                }
                Ok(probed) => {
                    log::info!("process {pid} has mapped {} more allocator functions", probed.attached);
                }
                Err(error) => match left_out(&error) {
                    Some(doubt) => self.warn(doubt),
                    None => self.tolerate_if_ended(index, error)?,
                },
            }
        }
        Ok(())
    }

    /// Whether it is known anyway that a process is probed when it runs already.
    fn sees_all_late(&self, index: usize) -> bool {
        self.reach == Reach::Targets && self.processes[index].is_followed
    }

    /// Probes what of the process's objects has not been searched yet. A thread that ends meanwhile, while it is not the one that all
    /// probes are bound to, is not told of.
    fn probe_new_objects(&mut self, index: usize) -> anyhow::Result<Probed> {
        self.look_for_probed_thread(index);
        let process = &mut self.processes[index];
        process.has_new_objects = false;
        let objects: Vec<_> =
            process.space.objects().into_iter().filter(|object| !process.planned.contains(object)).collect();
        let probed = self.probe_objects(index, &objects);
        self.look_for_probed_thread(index);
        probed
    }

    fn probe_objects(&mut self, index: usize, objects: &[ObjectId]) -> anyhow::Result<Probed> {
        let probed = self.probe_each(index, objects);
        self.kernel.begin_to_count(self.processes[index].target)?;
        probed
    }

    fn probe_each(&mut self, index: usize, objects: &[ObjectId]) -> anyhow::Result<Probed> {
        let Observed { pid, is_probed: was_probed, .. } = self.processes[index];
        let attachee = Attachee { pid, thread: self.living_thread(index)?, was_probed };
        let mut probed = Probed::default();
        for &id in objects {
            let Some(object) = self.objects.get(id) else { continue };
            let plan = self.plans.entry(id).or_insert_with(|| plan([object], &self.functions));
            let process = &mut self.processes[index];
            if !plan.sites.is_empty() {
                log::debug!("process {}: {plan}", process.pid);
                let open = |id| self.objects.get(id).map(|object| &**object);
                probed.attached += self.kernel.attach(process.target, attachee, plan, open)?;
                self.prices.set_traps(self.kernel.trap_costs());
                process.is_probed = true;
                probed.functions += plan.sites.len();
            }
            process.planned.insert(id);
            let doubts = doubts_of(plan);
            doubts.into_iter().for_each(|doubt| self.warn(doubt));
        }
        Ok(probed)
    }

    fn living_thread(&self, index: usize) -> anyhow::Result<u32> {
        let pid = self.processes[index].pid;
        target::threads(pid).next().with_context(|| format!("process {pid} has ended"))
    }

    /// The thread has ended that a process's probes are bound to.
    pub(super) fn go_on_without(&mut self, index: usize, thread: u32) {
        let Observed { pid, target, image, .. } = self.processes[index];
        // Where another thread calls `execve`, that ends the first, and has more to say of it.
        let has_new_image = self.kernel.current_image(target).is_ok_and(|current| current != image);
        if has_new_image || self.living_thread(index).is_err() {
            return;
        }
        if self.kernel.reaches_any_thread() {
            self.kernel.prepare_for_any_thread();
            let is_first = thread == pid;
            self.probe_again(index, if is_first { "its main thread ended" } else { "one of its threads ended" });
        } else if self.lives_on(index) {
            self.warn(Warning::FirstThreadEnded { pid });
        }
    }

    /// Whether a process has a living thread that is not about to end. There is a moment when one that is killed does not show it.
    fn lives_on(&self, index: usize) -> bool {
        const MOMENT: Duration = Duration::from_millis(2);
        std::thread::sleep(MOMENT);
        self.living_thread(index).is_ok()
    }

    /// Attaches everything anew to a thread that lives: probes are bound to one, and go with it.
    pub(super) fn probe_again(&mut self, index: usize, cause: &'static str) {
        let process = &mut self.processes[index];
        if !process.takes_probes {
            return;
        }
        let (pid, target) = (process.pid, process.target);
        let planned: Vec<_> = std::mem::take(&mut process.planned).into_iter().collect();
        // A thread may end just when it was chosen.
        for _ in 0..MOST_ATTEMPTS {
            if self.living_thread(index).is_err() {
                return;
            }
            self.kernel.detach(target);
            match self.probe_objects(index, &planned) {
                Ok(_) if !self.is_bound_to_living(index) => {}
                Ok(_) => return self.warn(Warning::ProbesInterrupted { pid, cause }),
                Err(error) => log::debug!("process {pid}: {error:#}"),
            }
        }
        self.warn(Warning::ProbesLost { pid, cause });
    }

    fn tolerate_if_ended(&self, index: usize, error: anyhow::Error) -> anyhow::Result<()> {
        if self.living_thread(index).is_err() {
            return Ok(());
        }
        Err(error)
    }

    /// The user's own functions that no object defines which was searched so far.
    fn warn_of_missing_functions(&mut self, index: usize) {
        let planned = &self.processes[index].planned;
        let sites = || planned.iter().filter_map(|object| self.plans.get(object)).flat_map(|plan| &plan.sites);
        let is_defined = |name: &str| sites().any(|site| site.function.name == name || site.aliases.contains(&name));
        let missing: Vec<_> =
            self.functions.own().map(|function| function.name).filter(|name| !is_defined(name)).collect();
        let pid = self.processes[index].pid;
        self.warnings.retain(|warning| !matches!(warning, Warning::NoSuchFunction { pid: of, .. } if *of == pid));
        missing.into_iter().for_each(|function| self.warn(Warning::NoSuchFunction { pid, function }));
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
}

/// What was left out since it could not be probed with the privileges that there are.
fn left_out(error: &anyhow::Error) -> Option<Warning> {
    match error.downcast_ref() {
        Some(KernelError::FirstThreadEnded { path }) => {
            let function = "its functions (the process's first thread has ended, which takes CAP_SYS_ADMIN)".to_owned();
            Some(Warning::FunctionLeftOut { path: path.clone(), function })
        }
        _ => None,
    }
}

/// What in an object should have been probed, perhaps, and could not.
fn doubts_of(plan: &AttachPlan) -> Vec<Warning> {
    let doubts = plan.searched.iter().flat_map(|searched| {
        let path = || searched.path.clone();
        let left_out =
            searched.left_out.iter().cloned().map(move |function| Warning::FunctionLeftOut { path: path(), function });
        let unnamed = searched.unnamed.map(|reason| Warning::AllocatorUnnamed { path: path(), reason });
        left_out.chain(unnamed)
    });
    doubts.collect()
}
