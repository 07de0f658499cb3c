//! Probes: which program serves which behaviour, and in which order they go in and out.

use std::{
    collections::{HashMap, HashSet},
    thread::JoinHandle,
};

use aya::{
    Ebpf,
    maps::{Array, MapData},
};
use memprof_common::{Binding, Cookie, MAX_SITES, NO_ARGUMENT, Site, result};

use super::{
    KernelError, TargetId,
    programs::{AttachError, Link, Programs, Whom},
    take,
    trap::Traps,
};
use crate::model::{AllocatorFunction, AttachPlan, Object, ObjectId, Pointer, ProbeSite, Release, Size, TrapCosts};

/// The programs for a function: what runs at its entry, and at its return. What is frequent has programs of its own; for the
/// rest, the site tells the programs what they are to do.
fn programs_for(function: &AllocatorFunction) -> (&'static str, Option<&'static str>) {
    use self::{Pointer as P, Release as R, Size as S};
    match (function.size, function.pointer, function.release) {
        (S::None, _, R::Always(0)) => ("free", None),
        (S::None, ..) => ("free_described", None),
        (S::Argument(0), P::Returned, R::None) => ("enter_size0", Some("return_pointer")),
        (S::Argument(1), P::Returned, R::None) => ("enter_size1", Some("return_pointer")),
        (S::Product(0), P::Returned, R::None) => ("enter_product0", Some("return_pointer")),
        (S::Argument(1), P::Returned, R::OnSuccess(0)) => ("enter_resize", Some("return_resized")),
        (_, P::Returned, R::None) => ("enter_described", Some("return_pointer")),
        (_, P::Returned, R::OnSuccess(_)) => ("enter_described", Some("return_resized")),
        _ => ("enter_described", Some("return_described")),
    }
}

/// One program to attach at one site.
#[derive(Clone, Copy, Debug)]
struct Probe<'a> {
    order: Order,
    program: &'static str,
    offset_in_file: u64,
    site: &'a ProbeSite,
}

/// The order of attaching. A block must not be recorded while its free could be missed, nor a call be opened while its
/// return could. Resizing goes before plain allocation, since it releases too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Order {
    Free,
    Return,
    EnterResize,
    Enter,
}

impl Probe<'_> {
    /// Whether the two can be attached together, being neighbours in order.
    fn goes_with(&self, next: &Self) -> bool {
        let kind = |probe: &Self| (probe.order, probe.program, probe.site.object, probe.is_windowed());
        kind(self) == kind(next)
    }

    /// Whether it is there within windows only, where there are windows. What frees blocks is always there.
    fn is_windowed(&self) -> bool {
        self.site.function.release == Release::None
    }
}

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
}

/// Threads that wait for probes to go.
const MOST_DETACHERS: usize = 64;

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
    detaching: Vec<JoinHandle<()>>,
}

/// The probes of one target.
#[derive(Debug, Default)]
struct Attached {
    sites: HashSet<(ObjectId, u64)>,
    thread: u32,
    is_leader: bool,
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
        self.traps.release();
        let links = self.targets.drain().flat_map(|(_, attached)| attached.into_links());
        let links: Vec<Link> = links.chain(self.everyones.drain(..)).collect();
        self.drop_elsewhere(links);
        for detaching in self.detaching.drain(..) {
            let _ = detaching.join();
        }
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
            detaching: Vec::new(),
        })
    }

    /// Attaches what of `plan` is not attached yet; how many sites that is.
    pub(super) fn attach<'a>(
        &mut self,
        programs: &mut Programs,
        target: TargetId,
        process: Attachee,
        plan: &AttachPlan,
        object: impl Fn(ObjectId) -> Option<&'a Object>,
    ) -> Result<usize, KernelError> {
        if !self.targets.contains_key(&target) {
            self.begin(target, process)?;
        }
        let attached = match self.reach {
            Reach::Targets => self.targets.get(&target).map(|attached| &attached.sites),
            Reach::Everyone => Some(&self.everywhere),
        };
        let is_new =
            |site: &&ProbeSite| attached.is_none_or(|there| !there.contains(&(site.object, site.offset_in_file)));
        let sites: Vec<&ProbeSite> = plan.sites.iter().filter(is_new).collect();
        let has_windowed = self.window(target).has_probes;
        let probes = in_order(&sites).into_iter().filter(|probe| has_windowed || !probe.is_windowed());
        let known = self.everyones.len();
        let attached = self.attach_probes(programs, target, &probes.collect::<Vec<_>>(), object);
        // Another target may try again: nothing is to be there twice.
        attached.inspect_err(|_| self.everyones.truncate(known))?;
        let there = match self.reach {
            Reach::Targets => &mut self.targets.entry(target).or_default().sites,
            Reach::Everyone => &mut self.everywhere,
        };
        there.extend(sites.iter().map(|site| (site.object, site.offset_in_file)));
        Ok(sites.len())
    }

    /// Before the probes, so that the end of the thread that they go with cannot be missed.
    fn begin(&mut self, target: TargetId, Attachee { pid, thread }: Attachee) -> Result<(), KernelError> {
        let thread = if self.reach == Reach::Targets { thread } else { 0 };
        let attached = Attached { thread, is_leader: thread == pid, ..Attached::default() };
        self.targets.insert(target, attached);
        self.bind(target, thread)
    }

    /// Makes a target ready for a process that is yet to be forked.
    pub(super) fn reserve(&mut self, target: TargetId) -> Result<(), KernelError> {
        self.bind(target, 0)
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
        let thread = self.targets.get(&target).map_or(0, |attached| attached.thread);
        // The index is in range, as it was when they were attached.
        let _ = self.bind(target, thread);
        let Some(attached) = self.targets.get_mut(&target) else { return };
        let mut links = std::mem::take(&mut attached.windowed);
        // What was attached first is called most: each breakpoint is gone as soon as it is its turn.
        links.sort_by_key(|(order, _)| *order);
        self.drop_elsewhere(links.into_iter().map(|(_, link)| link));
    }

    /// Whoever is this target next begins with its first window.
    pub(super) fn forget_windows(&mut self, target: TargetId) {
        self.windows.remove(&target);
    }

    /// Lets allocations count, or not.
    pub(super) fn set_open(&mut self, target: TargetId, is_open: bool) -> Result<(), KernelError> {
        let window = Window { is_closed: !is_open, ..self.window(target) };
        self.windows.insert(target, window);
        let thread = self.targets.get(&target).map_or(0, |attached| attached.thread);
        self.bind(target, thread)
    }

    /// What the probes that are in use cost.
    pub(super) fn trap_costs(&self) -> TrapCosts {
        self.traps.costs()
    }

    fn window(&self, target: TargetId) -> Window {
        let first = Window { number: self.has_windows.into(), has_probes: true, is_closed: false };
        self.windows.get(&target).copied().unwrap_or(first)
    }

    fn bind(&mut self, target: TargetId, thread: u32) -> Result<(), KernelError> {
        let generation = self.generations.get(&target).copied().unwrap_or_default().into();
        let Window { number, is_closed, .. } = self.window(target);
        let binding = Binding { generation, thread, window: number.into(), is_closed: is_closed.into() };
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
        programs.attach(program, &path, &sites, self.whom(target)).map_err(failed_here)
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

    /// Detaches all probes of a target. They mean nothing any more at once; they go elsewhere and later: each takes a grace period
    /// of the kernel's, about 0.1 s. Of links of many probes each takes one, all at the same time; of perf events the kernel takes one
    /// after the other (`event_mutex` in kernel/trace/trace_event_perf.c).
    pub(super) fn detach(&mut self, target: TargetId) {
        let Some(attached) = self.targets.remove(&target) else { return };
        let generation = self.generations.entry(target).or_default();
        *generation = generation.wrapping_add(1);
        // The index is in range, as it was when they were attached.
        let _ = self.bind(target, 0);
        self.drop_elsewhere(attached.into_links());
    }

    fn drop_elsewhere(&mut self, links: impl IntoIterator<Item = Link>) {
        self.detaching.retain(|detaching| !detaching.is_finished());
        let (mut singles, mut multis) = (Vec::new(), Vec::new());
        for link in links {
            match link {
                Link::Single { .. } => singles.push(link),
                Link::Multi { .. } => multis.push(link),
            }
        }
        let at_once = multis.len().div_ceil(MOST_DETACHERS).max(1);
        let mut multis = multis.into_iter().peekable();
        let mut parts = vec![singles];
        while multis.peek().is_some() {
            parts.push(multis.by_ref().take(at_once).collect());
        }
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        self.detaching.extend(parts.map(|part| std::thread::spawn(|| drop(part))));
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

/// What the programs know of a site: how far the object's code goes from the probed instruction, and what the function's
/// arguments mean.
fn describe(site: &ProbeSite) -> Site {
    /// As good as infinite, and yet so that sums do not overflow.
    const EVERYWHERE: u64 = 1 << 62;
    let function = site.function;
    let (bytes_before, bytes_after) = match function.owns_calls {
        true => (EVERYWHERE, EVERYWHERE),
        false => (
            site.offset_in_file.saturating_sub(site.segment.start),
            site.segment.end.saturating_sub(site.offset_in_file),
        ),
    };
    let (size, factor) = match function.size {
        Size::None => (NO_ARGUMENT, NO_ARGUMENT),
        Size::Argument(index) => (index, NO_ARGUMENT),
        Size::Product(index) => (index, index + 1),
    };
    let (block, resizes) = match (function.release, function.pointer) {
        (Release::Always(index) | Release::OnSuccess(index), _) => (index, true),
        (Release::None, Pointer::WrittenTo(index)) => (index, false),
        (Release::None, _) => (NO_ARGUMENT, false),
    };
    let result = match (function.pointer, function.release) {
        (Pointer::WrittenTo(_), _) => result::WRITTEN,
        (Pointer::InPlace, _) => result::SIZE,
        (_, Release::Always(_)) => result::POINTER_OR_FREED,
        _ => result::POINTER,
    };
    let (resizes, has_exits) = (resizes.into(), site.exits.is_some().into());
    Site { bytes_before, bytes_after, size, factor, block, resizes, result, has_exits, reserved: 0 }
}

fn in_order<'a>(sites: &[&'a ProbeSite]) -> Vec<Probe<'a>> {
    let mut probes: Vec<Probe<'a>> = Vec::new();
    for &site in sites {
        let (entry, exit) = programs_for(site.function);
        let order = match site.function.release {
            _ if site.function.size == Size::None => Order::Free,
            Release::None => Order::Enter,
            Release::Always(_) | Release::OnSuccess(_) => Order::EnterResize,
        };
        let probe = |order, program, offset_in_file| Probe { order, program, offset_in_file, site };
        match &site.exits {
            None => {
                probes.push(probe(order, entry, site.offset_in_file));
                probes.extend(exit.map(|program| probe(Order::Return, program, site.offset_in_file)));
            }
            Some(exits) => {
                probes.push(probe(order, "enter_described", site.offset_in_file));
                for &offset in exits {
                    // Functions that share their last instructions share the probe.
                    let is_there = |probe: &&mut Probe<'_>| {
                        (probe.program, probe.offset_in_file, probe.site.object) == (EXIT, offset, site.object)
                    };
                    match probes.iter_mut().find(is_there) {
                        // It stays as long as the one that stays longer.
                        Some(there) if there.is_windowed() => there.site = site,
                        Some(_) => {}
                        None => probes.push(probe(Order::Return, EXIT, offset)),
                    }
                }
            }
        }
    }
    probes.sort_by_key(|probe| (probe.order, probe.is_windowed(), probe.program));
    probes
}

/// What runs at the `ret` instructions of functions without a return probe.
const EXIT: &str = "exit_pointer";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Choice, EntryReason};

    const fn function(name: &'static str, size: Size, pointer: Pointer, release: Release) -> AllocatorFunction {
        AllocatorFunction { name, size, pointer, release, throws: false, owns_calls: false }
    }

    static MALLOC: AllocatorFunction = function("malloc", Size::Argument(0), Pointer::Returned, Release::None);
    static REALLOC: AllocatorFunction =
        function("realloc", Size::Argument(1), Pointer::Returned, Release::OnSuccess(0));
    static FREE: AllocatorFunction = function("free", Size::None, Pointer::None, Release::Always(0));
    static NEW: AllocatorFunction = AllocatorFunction { throws: true, owns_calls: true, ..MALLOC };
    static POOL: AllocatorFunction = function("pool_array", Size::Product(2), Pointer::Returned, Release::OnSuccess(1));

    fn site(function: &'static AllocatorFunction, offset_in_file: u64) -> ProbeSite {
        ProbeSite {
            object: ObjectId(0),
            offset_in_file,
            entry_in_file: offset_in_file - 4,
            choice: Choice::Entry(EntryReason::SizeUnknown),
            segment: 0x1000..0x9000,
            function,
            exits: None,
            aliases: Vec::new(),
        }
    }

    fn programs(sites: &[ProbeSite]) -> Vec<(&'static str, u64)> {
        let probes = in_order(&sites.iter().collect::<Vec<_>>());
        probes.into_iter().map(|probe| (probe.program, probe.offset_in_file)).collect()
    }

    #[test]
    fn frees_go_in_before_returns_and_returns_before_entries() {
        let sites = [site(&MALLOC, 0x2000), site(&REALLOC, 0x3000), site(&FREE, 0x4000)];
        let programs: Vec<_> = programs(&sites).into_iter().map(|(program, _)| program).collect();
        assert_eq!(programs, ["free", "return_resized", "return_pointer", "enter_resize", "enter_size0"]);
    }

    #[test]
    fn what_throws_has_no_return_probe_and_shares_its_exits() {
        let one = ProbeSite { exits: Some(vec![0x2010, 0x5000]), ..site(&NEW, 0x2000) };
        let other = ProbeSite { exits: Some(vec![0x3010, 0x5000]), ..site(&NEW, 0x3000) };
        let expected =
            [(EXIT, 0x2010), (EXIT, 0x5000), (EXIT, 0x3010), ("enter_described", 0x2000), ("enter_described", 0x3000)];
        assert_eq!(programs(&[one, other]), expected);
    }

    #[test]
    fn a_site_knows_how_far_its_code_extends_and_what_its_arguments_are() {
        let malloc = describe(&site(&MALLOC, 0x2000));
        assert_eq!((malloc.bytes_before, malloc.bytes_after), (0x1000, 0x7000));
        assert_eq!((malloc.size, malloc.factor, malloc.block), (0, NO_ARGUMENT, NO_ARGUMENT));
        let pool = describe(&site(&POOL, 0x2000));
        assert_eq!((pool.size, pool.factor, pool.block, pool.resizes), (2, 3, 1, 1));
    }

    #[test]
    fn what_owns_its_calls_owns_them_wherever_they_come_from() {
        let new = describe(&site(&NEW, 0x2000));
        for (probed, caller) in [(0x5555_0000_2000_u64, 0x7fff_ffff_f000_u64), (0x7fff_ffff_f000, 0x1000)] {
            let start = probed.wrapping_sub(new.bytes_before);
            assert!(caller.wrapping_sub(start) < new.bytes_before + new.bytes_after);
        }
    }
}
