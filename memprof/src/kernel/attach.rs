//! The probes of all targets: attached, bound to a thread, counting or not, within windows or always.

use std::collections::{HashMap, HashSet};

use aya::{
    Ebpf,
    maps::{Array, MapData},
};
use memprof_common::{Binding, Cookie, MAX_SITES, MAX_TARGETS, Site};

use super::{
    KernelError, TargetId,
    detach::Detaching,
    probe::{EXIT, Order, Probe, describe, in_order},
    programs::{AttachError, Link, Programs, Whom},
    take,
    trap::Traps,
};
use crate::model::{AttachPlan, Object, ObjectId, ProbeSite, TrapCosts};

/// Whom the probes reach.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// The targets, each by probes of its own.
    #[default]
    Targets,
    /// Every process that maps a probed file, now or later: one probe at each site does for all targets.
    Everyone,
}

/// The process that probes are attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachee {
    /// Its pid.
    pub pid: u32,
    /// Any living thread of it.
    pub thread: u32,
    /// Whether blocks of it may be known, since it was probed before.
    pub was_probed: bool,
}

/// All attached probes.
pub(super) struct Probes {
    reach: Reach,
    has_windows: bool,
    everywhere: HashSet<(ObjectId, u64)>,
    everyones: Vec<Link>,
    windows: HashMap<TargetId, Window>,
    traps: Traps,
    sites: Array<MapData, Site>,
    bindings: Array<MapData, Binding>,
    generations: HashMap<TargetId, u16>,
    numbers: HashMap<(ObjectId, u64), u32>,
    targets: HashMap<TargetId, Attached>,
    all_are_silent: bool,
    detaching: Detaching,
}

/// The probes of one target.
#[derive(Debug, Default)]
struct Attached {
    sites: HashSet<(ObjectId, u64)>,
    /// That they are bound to, the last of them at least; zero if they are everyone's.
    thread: u32,
    is_leader: bool,
    /// They count on when the thread ends.
    outlives_thread: bool,
    /// Nothing that they see counts yet.
    is_silent: bool,
    links: Vec<Link>,
    /// Those of the current window, with the order in which they go: function by function.
    windowed: Vec<((u32, bool), Link)>,
}

impl Attached {
    fn into_links(self) -> Vec<Link> {
        self.links.into_iter().chain(self.windowed.into_iter().map(|(_, link)| link)).collect()
    }
}

/// A target's current window, or the next one.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// From 1; 0 where there are no windows.
    number: u16,
    has_probes: bool,
    is_closed: bool,
}

impl Drop for Probes {
    fn drop(&mut self) {
        let links = self.targets.drain().flat_map(|(_, attached)| attached.into_links());
        let links: Vec<Link> = links.chain(self.everyones.drain(..)).chain(self.traps.take_links()).collect();
        self.detaching.begin(links);
    }
}

impl Probes {
    /// No probes yet.
    pub(super) fn new(bpf: &mut Ebpf, reach: Reach, has_windows: bool) -> Result<Self, KernelError> {
        Ok(Self {
            reach,
            has_windows,
            everywhere: HashSet::new(),
            everyones: Vec::new(),
            windows: HashMap::new(),
            traps: Traps::default(),
            sites: take(bpf, "SITES")?.try_into()?,
            bindings: take(bpf, "BINDINGS")?.try_into()?,
            generations: HashMap::new(),
            numbers: HashMap::new(),
            targets: HashMap::new(),
            all_are_silent: false,
            detaching: Detaching::default(),
        })
    }

    /// Attaches what of `plan` is not attached yet; how many sites that is. What a process that was not probed before does counts when it is to
    /// [begin](Self::begin_to_count).
    pub(super) fn attach<'a>(
        &mut self,
        programs: &mut Programs,
        target: TargetId,
        process: Attachee,
        plan: &AttachPlan,
        object: impl Fn(ObjectId) -> Option<&'a Object>,
    ) -> Result<usize, KernelError> {
        let attached = match self.reach {
            Reach::Targets => self.targets.get(&target).map(|attached| &attached.sites),
            Reach::Everyone => Some(&self.everywhere),
        };
        let is_new =
            |site: &&ProbeSite| attached.is_none_or(|there| !there.contains(&(site.object, site.offset_in_file)));
        let sites: Vec<&ProbeSite> = plan.sites.iter().filter(is_new).collect();
        self.begin(programs, target, process, &sites, &object)?;
        let has_windowed = self.window(target).has_probes;
        let probes = in_order(&sites).into_iter().filter(|probe| has_windowed || !probe.is_windowed());
        let known = self.everyones.len();
        let attached = self.attach_probes(programs, target, &probes.collect::<Vec<_>>(), &object);
        if attached.is_err() {
            // Another target may try again: nothing is to be there twice.
            let links = self.everyones.split_off(known);
            self.detaching.begin(links);
        }
        attached?;
        let there = match self.reach {
            Reach::Targets => &mut self.targets.entry(target).or_default().sites,
            Reach::Everyone => &mut self.everywhere,
        };
        there.extend(sites.iter().map(|site| (site.object, site.offset_in_file)));
        Ok(sites.len())
    }

    /// Before the probes, so that the end of the thread that they are bound to cannot be missed.
    fn begin<'a>(
        &mut self,
        programs: &Programs,
        target: TargetId,
        Attachee { pid, thread, was_probed }: Attachee,
        sites: &[&ProbeSite],
        object: impl Fn(ObjectId) -> Option<&'a Object>,
    ) -> Result<(), KernelError> {
        if sites.is_empty() && self.targets.contains_key(&target) {
            return Ok(());
        }
        let thread = if self.reach == Reach::Targets { thread } else { 0 };
        let is_leader = thread == pid;
        if let Some(site) = sites.first()
            && self.reach == Reach::Targets
            && !is_leader
            && !programs.reach_any_thread()
        {
            let path = object(site.object).map(|object| object.path.clone()).unwrap_or_default();
            return Err(KernelError::FirstThreadEnded { path });
        }
        let attached = self.targets.entry(target).or_default();
        (attached.thread, attached.is_leader) = (thread, is_leader);
        attached.outlives_thread = is_leader && programs.outlive_first_thread();
        // Else the frees of blocks that nobody knows would fill the ring, which nobody reads while the other probes go in.
        attached.is_silent = !was_probed && !sites.is_empty();
        self.bind(target)
    }

    /// Lets a target's probes count, if they did not: all are in that belong together.
    pub(super) fn begin_to_count(&mut self, target: TargetId) -> Result<(), KernelError> {
        match self.targets.get_mut(&target) {
            Some(attached) if attached.is_silent => {
                attached.is_silent = false;
                self.bind(target)
            }
            _ => Ok(()),
        }
    }

    /// Has no probe count any more, of any target, now or later.
    pub(super) fn silence_all(&mut self) -> Result<(), KernelError> {
        self.all_are_silent = true;
        (0..MAX_TARGETS).try_for_each(|target| self.bind(TargetId(target)))
    }

    /// Makes a target ready for a process that is yet to be forked.
    pub(super) fn reserve(&mut self, target: TargetId) -> Result<(), KernelError> {
        self.bind(target)
    }

    /// Begins a window: attaches the probes of what only allocates, of these plans. They do not count before the target is
    /// [opened](Self::set_open).
    pub(super) fn begin_window<'a>(
        &mut self,
        programs: &mut Programs,
        target: TargetId,
        plans: &[&AttachPlan],
        object: impl Fn(ObjectId) -> Option<&'a Object>,
    ) -> Result<(), KernelError> {
        let window = self.window(target);
        let (Some(attached), false) = (self.targets.get(&target), window.has_probes) else { return Ok(()) };
        let sites = attached.sites.clone();
        self.windows.insert(target, Window { has_probes: true, ..window });
        let is_attached = |site: &&ProbeSite| sites.contains(&(site.object, site.offset_in_file));
        let sites: Vec<_> = plans.iter().flat_map(|plan| &plan.sites).filter(is_attached).collect();
        let probes = in_order(&sites).into_iter().filter(Probe::is_windowed);
        self.attach_probes(programs, target, &probes.collect::<Vec<_>>(), object)
    }

    /// Ends a window: detaches its probes, which takes a second or two and is not waited for. The target is to be closed. From here on
    /// its probes, and the calls that they have opened, mean nothing.
    pub(super) fn end_window(&mut self, target: TargetId) {
        let window = self.window(target);
        let number = window.number.checked_add(1).unwrap_or(1);
        self.windows.insert(target, Window { number, has_probes: false, ..window });
        // The index is in range, as it was when they were attached.
        let _ = self.bind(target);
        let Some(attached) = self.targets.get_mut(&target) else { return };
        let mut links = std::mem::take(&mut attached.windowed);
        // What was attached first is called most: each breakpoint is gone as soon as it is its turn.
        links.sort_by_key(|(order, _)| *order);
        self.detaching.begin(links.into_iter().map(|(_, link)| link));
    }

    /// Whoever is this target next begins with its first window.
    pub(super) fn forget_windows(&mut self, target: TargetId) {
        self.windows.remove(&target);
    }

    /// Lets allocations count, or not.
    pub(super) fn set_open(&mut self, target: TargetId, is_open: bool) -> Result<(), KernelError> {
        let window = Window { is_closed: !is_open, ..self.window(target) };
        self.windows.insert(target, window);
        self.bind(target)
    }

    /// The thread that a target's probes are bound to; nothing if they are bound to none.
    pub(super) fn thread(&self, target: TargetId) -> Option<u32> {
        self.targets.get(&target).map(|attached| attached.thread).filter(|thread| *thread != 0)
    }

    /// What the probes that are in use cost.
    pub(super) fn trap_costs(&self) -> TrapCosts {
        self.traps.costs()
    }

    fn window(&self, target: TargetId) -> Window {
        let first = Window { number: self.has_windows.into(), has_probes: true, is_closed: false };
        self.windows.get(&target).copied().unwrap_or(first)
    }

    fn bind(&mut self, target: TargetId) -> Result<(), KernelError> {
        let attached = self.targets.get(&target);
        let thread = attached.map_or(0, |attached| attached.thread);
        let outlives_thread = attached.is_some_and(|attached| attached.outlives_thread).into();
        let is_silent = self.all_are_silent || attached.is_some_and(|attached| attached.is_silent);
        let generation = if is_silent {
            Binding::NO_GENERATION
        } else {
            self.generations.get(&target).copied().unwrap_or_default().into()
        };
        let Window { number, is_closed, .. } = self.window(target);
        let (window, is_closed) = (number.into(), is_closed.into());
        let binding = Binding { generation, thread, outlives_thread, window, is_closed };
        Ok(self.bindings.set(target.0, binding, 0)?)
    }

    /// Attaches these, those of one program in one object together.
    fn attach_probes<'a>(
        &mut self,
        programs: &mut Programs,
        target: TargetId,
        probes: &[Probe<'_>],
        object: impl Fn(ObjectId) -> Option<&'a Object>,
    ) -> Result<(), KernelError> {
        for together in probes.chunk_by(Probe::goes_with) {
            let Some(first) = together.first() else { continue };
            let object = object(first.site.object).ok_or(KernelError::TooMany("objects forgotten"))?;
            let order = (self.number(first.site)?, first.order == Order::Return);
            let links = self.attach_together(programs, target, together, object)?;
            let attached = self.targets.entry(target).or_default();
            match self.reach {
                Reach::Everyone => self.everyones.extend(links),
                Reach::Targets if self.has_windows && first.is_windowed() => {
                    attached.windowed.extend(links.into_iter().map(|link| (order, link)));
                }
                Reach::Targets => attached.links.extend(links),
            }
        }
        Ok(())
    }

    fn attach_together(
        &mut self,
        programs: &mut Programs,
        target: TargetId,
        probes: &[Probe<'_>],
        object: &Object,
    ) -> Result<Vec<Link>, KernelError> {
        let mut sites = Vec::new();
        for probe in probes {
            sites.push((probe.offset_in_file, self.cookie(programs, target, probe)?));
        }
        let (function, program) =
            probes.first().map_or(("nothing", ""), |first| (first.site.function.name, first.program));
        let failed_here = |source: AttachError| KernelError::Attach { function, path: object.path.clone(), source };
        let path = object.reachable_path().ok_or_else(|| failed_here("the file cannot be opened".into()))?;
        let is_rare = probes.iter().all(|probe| probe.site.function.is_rare);
        programs.attach(program, &path, &sites, self.whom(target), is_rare).map_err(failed_here)
    }

    fn whom(&self, target: TargetId) -> Whom {
        match (self.reach, self.targets.get(&target)) {
            (Reach::Targets, Some(Attached { thread, is_leader, .. })) => {
                Whom::Thread { thread: *thread, is_leader: *is_leader }
            }
            (Reach::Targets, None) => Whom::Thread { thread: 0, is_leader: false },
            (Reach::Everyone, _) => Whom::Everyone,
        }
    }

    fn cookie(&mut self, programs: &mut Programs, target: TargetId, probe: &Probe<'_>) -> Result<Cookie, KernelError> {
        let number = self.number(probe.site)?;
        let is_stepped = match probe.program {
            // On a `ret`.
            EXIT => self.traps.steps(programs),
            _ => self.traps.is_stepped(programs, &probe.site.choice),
        };
        let generation = self.generations.get(&target).copied().unwrap_or_default();
        let cookie = match self.reach {
            Reach::Everyone => Cookie::of_everyone(number),
            Reach::Targets => Cookie::new(target.0, generation, number),
        };
        let cookie = cookie.stepped(is_stepped);
        let is_windowed = self.has_windows && probe.is_windowed();
        Ok(if is_windowed { cookie.in_window(self.window(target).number) } else { cookie })
    }

    /// Detaches all probes of a target. They mean nothing any more at once, and [go later](super::detach).
    pub(super) fn detach(&mut self, target: TargetId) {
        let Some(attached) = self.targets.remove(&target) else { return };
        let generation = self.generations.entry(target).or_default();
        *generation = generation.wrapping_add(1);
        // The index is in range, as it was when they were attached.
        let _ = self.bind(target);
        self.detaching.begin(attached.into_links());
    }

    fn number(&mut self, site: &ProbeSite) -> Result<u32, KernelError> {
        let key = (site.object, site.offset_in_file);
        if let Some(&number) = self.numbers.get(&key) {
            return Ok(number);
        }
        let number = self.numbers.len() as u32;
        if number >= MAX_SITES {
            return Err(KernelError::TooMany("probed functions"));
        }
        self.sites.set(number, describe(site), 0)?;
        self.numbers.insert(key, number);
        Ok(number)
    }
}
