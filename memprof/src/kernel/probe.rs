//! What is attached where: which program serves which behaviour, and in which order they go in.

use memprof_common::{NO_ARGUMENT, Site, result};

use crate::model::{AllocatorFunction, Pointer, ProbeSite, Release, Size};

/// The programs for a function: what runs at its entry, and at its return. What is frequent has programs of its own; for the
/// rest, the site tells the programs what they are to do.
fn programs_for(function: &AllocatorFunction) -> (&'static str, Option<&'static str>) {
    use self::{Pointer as P, Release as R, Size as S};
    match (function.size, function.pointer, function.release) {
        (S::None, _, R::Always(0)) if !function.is_rare => ("free", None),
        (S::None, ..) => ("free_described", None),
        _ if function.is_rare => ("enter_described", Some("return_described")),
        (S::Argument(0), P::Returned, R::None) => ("enter_size0", Some("return_pointer")),
        (S::Argument(1), P::Returned, R::None) => ("enter_size1", Some("return_pointer")),
        (S::Product(0), P::Returned, R::None) => ("enter_product0", Some("return_pointer")),
        (S::Argument(1), P::Returned, R::OnSuccess(0)) => ("enter_resize", Some("return_resized")),
        (_, P::Returned, R::None) => ("enter_described", Some("return_pointer")),
        (_, P::Returned, R::OnSuccess(_)) => ("enter_described", Some("return_resized")),
        _ => ("enter_described", Some("return_described")),
    }
}

/// The programs for functions that are rarely called.
pub(super) const FOR_RARE: [&str; 4] = ["free_described", "enter_described", "return_described", EXIT];

/// One program to attach at one site.
#[derive(Clone, Copy, Debug)]
pub(super) struct Probe<'a> {
    pub(super) order: Order,
    pub(super) program: &'static str,
    pub(super) offset_in_file: u64,
    pub(super) site: &'a ProbeSite,
}

/// The order of attaching. A block must not be recorded while its free could be missed, nor a call be opened while its
/// return could. Resizing goes before plain allocation, since it releases too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    Free,
    Return,
    EnterResize,
    Enter,
}

impl Probe<'_> {
    /// Whether the two can be attached together, being neighbours in order.
    pub(super) fn goes_with(&self, next: &Self) -> bool {
        let kind = |probe: &Self| {
            (probe.order, probe.program, probe.site.object, probe.site.function.is_rare, probe.is_windowed())
        };
        kind(self) == kind(next)
    }

    /// Whether it is there within windows only, where there are windows. What frees blocks is always there.
    pub(super) fn is_windowed(&self) -> bool {
        self.site.function.release == Release::None
    }
}

/// What the programs know of a site: how far the object's code goes from the probed instruction, and what the function's
/// arguments mean.
pub(super) fn describe(site: &ProbeSite) -> Site {
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

/// The probes at these sites, in the order in which they are attached.
pub(super) fn in_order<'a>(sites: &[&'a ProbeSite]) -> Vec<Probe<'a>> {
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
    probes.sort_by_key(|probe| (probe.order, probe.is_windowed(), probe.site.function.is_rare, probe.program));
    probes
}

/// What runs at the `ret` instructions of functions without a return probe.
pub(super) const EXIT: &str = "exit_pointer";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Choice, EntryReason, ObjectId};

    const fn function(name: &'static str, size: Size, pointer: Pointer, release: Release) -> AllocatorFunction {
        AllocatorFunction { name, size, pointer, release, throws: false, owns_calls: false, is_rare: false }
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
