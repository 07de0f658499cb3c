//! Probes: which program serves which behaviour, and in which order they go in and out.

use std::{collections::HashMap, thread::JoinHandle};

use aya::{
    Ebpf,
    maps::{Array, MapData},
    programs::{
        UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeLink, UProbeScope},
    },
};
use memprof_common::{Binding, Cookie, MAX_SITES, Site};

use super::{KernelError, TargetId, load::failed, program, take};
use crate::model::{AllocatorFunction, AttachPlan, Object, ObjectId, Pointer, ProbeSite, Release, Size};

/// The programs for a function: what runs at its entry, and at its return. `None` if there are none for what it does.
fn programs_for(function: &AllocatorFunction) -> Option<(&'static str, Option<&'static str>)> {
    use self::{Pointer as P, Release as R, Size as S};
    Some(match (function.size, function.pointer, function.release) {
        (S::Argument(0), P::Returned, R::None) => ("enter_size0", Some("return_pointer")),
        (S::Argument(1), P::Returned, R::None) => ("enter_size1", Some("return_pointer")),
        (S::Product(0), P::Returned, R::None) => ("enter_product0", Some("return_pointer")),
        (S::Argument(2), P::WrittenToArgument0, R::None) => ("enter_written", Some("return_written")),
        (S::Argument(1), P::Returned, R::Argument0OnSuccess) => ("enter_resize", Some("return_resized")),
        (S::Product(1), P::Returned, R::Argument0OnSuccess) => ("enter_resize_product", Some("return_resized")),
        (S::None, P::None, R::Argument0) => ("free", None),
        _ => return None,
    })
}

/// One program to attach at one site.
#[derive(Clone, Copy, Debug)]
struct Probe<'a> {
    order: Order,
    program: &'static str,
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

/// All attached probes.
pub(super) struct Probes {
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
    sites: Vec<(ObjectId, u64)>,
    links: Vec<UProbeLink>,
}

impl Drop for Probes {
    fn drop(&mut self) {
        self.targets.clear();
        for detaching in self.detaching.drain(..) {
            let _ = detaching.join();
        }
    }
}

impl Probes {
    /// No probes yet.
    pub(super) fn new(bpf: &mut Ebpf) -> Result<Self, KernelError> {
        Ok(Self {
            sites: take(bpf, "SITES")?.try_into()?,
            bindings: take(bpf, "BINDINGS")?.try_into()?,
            generations: HashMap::new(),
            numbers: HashMap::new(),
            targets: HashMap::new(),
            detaching: Vec::new(),
        })
    }

    /// Attaches what of `plan` is not attached yet.
    pub(super) fn attach<'a>(
        &mut self,
        bpf: &mut Ebpf,
        target: TargetId,
        thread: u32,
        plan: &AttachPlan,
        object: impl Fn(ObjectId) -> Option<&'a Object>,
    ) -> Result<(), KernelError> {
        let generation = self.generations.get(&target).copied().unwrap_or_default();
        if !self.targets.contains_key(&target) {
            // Before the probes, so that the end of the thread cannot be missed.
            self.bindings.set(target.0, Binding { generation: generation.into(), thread }, 0)?;
        }
        let attached = self.targets.get(&target).map_or(&[][..], |attached| &attached.sites);
        let is_new = |site: &&ProbeSite| !attached.contains(&(site.object, site.offset_in_file));
        let sites: Vec<&ProbeSite> = plan.sites.iter().filter(is_new).collect();
        for probe in in_order(&sites)? {
            let number = self.number(probe.site)?;
            let object = object(probe.site.object).ok_or(KernelError::TooMany("objects forgotten"))?;
            let link = attach_one(bpf, probe, object, Cookie::new(target.0, generation, number), thread)?;
            self.targets.entry(target).or_default().links.push(link);
        }
        let attached = self.targets.entry(target).or_default();
        attached.sites.extend(sites.iter().map(|site| (site.object, site.offset_in_file)));
        Ok(())
    }

    /// Detaches all probes of a target. They mean nothing any more at once; they go elsewhere and later: each takes a grace period of the kernel's, about 0.1 s, and the kernel
    /// does one after the other (`event_mutex` in kernel/trace/trace_event_perf.c).
    pub(super) fn detach(&mut self, target: TargetId) {
        let Some(attached) = self.targets.remove(&target) else { return };
        let generation = self.generations.entry(target).or_default();
        *generation = generation.wrapping_add(1);
        // The index is in range, as it was when they were attached.
        let _ = self.bindings.set(target.0, Binding { generation: (*generation).into(), thread: 0 }, 0);
        self.detaching.retain(|detaching| !detaching.is_finished());
        self.detaching.push(std::thread::spawn(|| drop(attached)));
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
        self.sites.set(number, extent(site), 0)?;
        self.numbers.insert(key, number);
        Ok(number)
    }
}

/// How far the object's code goes from the probed instruction, which is what the programs know of a call.
fn extent(site: &ProbeSite) -> Site {
    Site {
        bytes_before: site.offset_in_file.saturating_sub(site.segment.start),
        bytes_after: site.segment.end.saturating_sub(site.offset_in_file),
    }
}

fn in_order<'a>(sites: &[&'a ProbeSite]) -> Result<Vec<Probe<'a>>, KernelError> {
    let mut probes = Vec::new();
    for &site in sites {
        let (entry, exit) = programs_for(site.function)
            .ok_or_else(|| failed(format!("no program for what {} does", site.function.name)))?;
        let order = match site.function.release {
            Release::Argument0 => Order::Free,
            Release::Argument0OnSuccess => Order::EnterResize,
            Release::None => Order::Enter,
        };
        probes.push(Probe { order, program: entry, site });
        probes.extend(exit.map(|program| Probe { order: Order::Return, program, site }));
    }
    probes.sort_by_key(|probe| probe.order);
    Ok(probes)
}

fn attach_one(
    bpf: &mut Ebpf,
    probe: Probe<'_>,
    object: &Object,
    cookie: Cookie,
    thread: u32,
) -> Result<UProbeLink, KernelError> {
    let failed_here = |source: Box<dyn std::error::Error + Send + Sync>| KernelError::Attach {
        function: probe.site.function.name,
        path: object.path.clone(),
        source,
    };
    let path = object.reachable_path().ok_or_else(|| failed_here("the file cannot be opened".into()))?;
    let thread = thread.try_into().map_err(|_| failed_here("there is no thread 0".into()))?;
    let location = UProbeAttachLocation::AbsoluteOffset(probe.site.offset_in_file);
    let point = UProbeAttachPoint { location, cookie: Some(cookie.0) };
    let uprobe = program::<UProbe>(bpf, probe.program)?;
    let link = uprobe
        .attach(point, path, UProbeScope::OneProcess(thread))
        .and_then(|id| uprobe.take_link(id))
        .map_err(|error| failed_here(error.into()))?;
    Ok(link)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Choice, EntryReason};

    const fn function(name: &'static str, size: Size, pointer: Pointer, release: Release) -> AllocatorFunction {
        AllocatorFunction { name, size, pointer, release }
    }

    static MALLOC: AllocatorFunction = function("malloc", Size::Argument(0), Pointer::Returned, Release::None);
    static REALLOC: AllocatorFunction =
        function("realloc", Size::Argument(1), Pointer::Returned, Release::Argument0OnSuccess);
    static FREE: AllocatorFunction = function("free", Size::None, Pointer::None, Release::Argument0);
    static ODD: AllocatorFunction = function("odd", Size::Argument(5), Pointer::Returned, Release::Argument0);

    fn site(function: &'static AllocatorFunction, offset_in_file: u64) -> ProbeSite {
        ProbeSite {
            object: ObjectId(0),
            offset_in_file,
            entry_in_file: offset_in_file - 4,
            choice: Choice::Entry(EntryReason::SizeUnknown),
            segment: 0x1000..0x9000,
            function,
            aliases: Vec::new(),
        }
    }

    #[test]
    fn frees_go_in_before_returns_and_returns_before_entries() {
        let sites = [site(&MALLOC, 0x2000), site(&REALLOC, 0x3000), site(&FREE, 0x4000)];
        let probes = in_order(&sites.iter().collect::<Vec<_>>());
        let programs: Vec<_> = probes.into_iter().flatten().map(|probe| probe.program).collect();
        assert_eq!(programs, ["free", "return_pointer", "return_resized", "enter_resize", "enter_size0"]);
    }

    #[test]
    fn a_behaviour_without_programs_is_refused() {
        assert!(in_order(&[&site(&ODD, 0x2000)]).is_err());
    }

    #[test]
    fn a_site_knows_how_far_its_code_extends() {
        assert_eq!(extent(&site(&MALLOC, 0x2000)), Site { bytes_before: 0x1000, bytes_after: 0x7000 });
    }
}
