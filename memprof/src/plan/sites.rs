//! Finds the probe sites of one object.

use std::fs::File;

use super::{
    choose::{Chosen, beginnings, choose},
    entered,
    functions::{Functions, behave_alike, is_ambiguous},
    operators,
};
use crate::{
    elf::{self, ElfError, Function, Segment},
    model::{AllocatorFunction, Choice, EntryReason, Object, ProbeSite},
};

/// No allocator function is larger; jemalloc's largest has 10 KiB.
const MOST_FUNCTION_BYTES: u64 = 64 << 10;

/// No allocator has so many functions; mimalloc has some 65.
const MOST_FUNCTIONS: usize = 1024;

/// What was found in an object.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// In the order of the functions.
    pub(super) sites: Vec<ProbeSite>,
    /// Functions that are not probed, with the reason.
    pub(super) left_out: Vec<String>,
}

/// The sites of an object; none if it defines no allocator function.
///
/// # Errors
/// Why the object cannot be probed, or must not be.
pub(super) fn find(object: &Object, functions: &Functions) -> Result<Found, String> {
    let file = object.file.as_deref().ok_or("cannot be opened")?;
    let names: Vec<_> = functions.iter().map(|function| function.name).collect();
    let defined = elf::defined_functions(file, &names).map_err(|error| error.to_string())?;
    let defined = without_strangers(defined, functions);
    if defined.is_empty() {
        return Ok(Found::default());
    }
    if defined.len() > MOST_FUNCTIONS {
        return Err(format!("it has {} allocator functions, which no allocator has", defined.len()));
    }
    // glibc's loader had a malloc of its own until 2.30, for its own use before libc's is there; it never frees.
    if elf::is_glibc_loader(file).map_err(|error| error.to_string())? {
        return Err("the dynamic loader's own allocator, which frees nothing".into());
    }
    let segments = elf::segments(file).map_err(|error| error.to_string())?;
    let mut entries = merge(object, &defined, &segments, functions)?;
    let left_out = operators::settle(file, &segments, &mut entries).map_err(|error| error.to_string())?;
    choose_sites(file, &segments, &mut entries).map_err(|error| error.to_string())?;
    Ok(Found { sites: entries.into_iter().map(|entry| entry.site).collect(), left_out })
}

/// Leaves out functions of local binding that may be anybody's: those with a name of libc's, unless they are a whole
/// allocator, as a linker makes one local that is in a library for its own use.
fn without_strangers(defined: Vec<Function>, functions: &Functions) -> Vec<Function> {
    const WHOLE: [&str; 4] = ["malloc", "calloc", "realloc", "free"];
    let is_whole = WHOLE.iter().all(|name| defined.iter().any(|function| function.name == *name));
    let is_stranger = |function: &Function| {
        function.local && !is_whole && is_ambiguous(&function.name) && !functions.is_own(&function.name)
    };
    defined.into_iter().filter(|function| !is_stranger(function)).collect()
}

/// A function of an object, and the site in it.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) site: ProbeSite,
    pub(super) address: u64,
    size: u64,
}

/// Chooses the sites within the functions, which are at their entries so far.
fn choose_sites(file: &File, segments: &[Segment], entries: &mut [Entry]) -> Result<(), ElfError> {
    let mut chosen: Vec<_> = entries.iter().map(|entry| choose_in(file, entry)).collect::<Result<_, _>>()?;
    let closed = entries.iter().zip(&chosen).filter_map(|(entry, (chosen, _))| {
        (chosen.skipped != 0).then_some(entry.address.checked_add(1)?..=entry.address.checked_add(chosen.skipped)?)
    });
    let places = entries
        .iter()
        .zip(&chosen)
        .flat_map(|(entry, (_, beginnings))| beginnings.iter().map(|distance| entry.address.wrapping_add(*distance)));
    let (closed, places): (Vec<_>, Vec<_>) = (closed.collect(), places.collect());
    let entered = entered::find(file, segments, &closed, &places)?;
    for (entry, (chosen, beginnings)) in entries.iter_mut().zip(&mut chosen) {
        let first = |addresses: &[u64], is_closed: &dyn Fn(u64) -> bool| {
            let mut distances = addresses.iter().map(|address| address.wrapping_sub(entry.address));
            distances.find(|distance| is_closed(*distance))
        };
        if let Some(at) = first(&entered.by_symbol, &|distance| (1..=chosen.skipped).contains(&distance)) {
            *chosen = Chosen::entry(EntryReason::SymbolInside { at });
        } else if let Some(to) = first(&entered.by_jump, &|distance| beginnings.contains(&distance)) {
            *chosen = Chosen::entry(EntryReason::JumpFromElsewhere { to });
        }
        entry.site.offset_in_file = entry.site.entry_in_file + chosen.skipped;
        entry.site.choice = chosen.choice.clone();
    }
    Ok(())
}

/// And where the instructions begin that are skipped, and the one at the site.
fn choose_in(file: &File, entry: &Entry) -> Result<(Chosen, Vec<u64>), ElfError> {
    let reason = if cfg!(not(target_arch = "x86_64")) {
        // The ELF reader refuses objects for another processor than memprof's own.
        EntryReason::OtherProcessor
    } else if entry.size == 0 {
        EntryReason::SizeUnknown
    } else if entry.size > (entry.site.segment.end - entry.site.entry_in_file).min(MOST_FUNCTION_BYTES) {
        EntryReason::TooLarge
    } else {
        let code = elf::bytes(file, entry.site.entry_in_file, entry.size as usize)?;
        let chosen = choose(&code, entry.site.function.arguments());
        let beginnings = beginnings(&code, chosen.skipped);
        return Ok((chosen, beginnings));
    };
    Ok((Chosen::entry(reason), Vec::new()))
}

/// The functions by their entries: several names of one are one.
fn merge(
    object: &Object,
    defined: &[Function],
    segments: &[Segment],
    functions: &Functions,
) -> Result<Vec<Entry>, String> {
    let mut entries: Vec<Entry> = Vec::new();
    for function in functions.iter() {
        for symbol in defined.iter().filter(|symbol| symbol.name == function.name) {
            if symbol.indirect {
                return Err(format!("{} is an indirect function (IFUNC): its symbol is not its code", symbol.name));
            }
            let segment = code_at(symbol.address, segments)
                .ok_or_else(|| format!("{} lies outside of the object's code", symbol.name))?;
            let Some(offset_in_file) = segment.offset_of(symbol.address) else { continue };
            match entries.iter_mut().find(|entry| entry.site.entry_in_file == offset_in_file) {
                Some(entry) => {
                    add_alias(&mut entry.site, function)?;
                    entry.size = entry.size.max(symbol.size);
                }
                None => entries.push(Entry {
                    site: at_entry(object, segment, offset_in_file, function),
                    address: symbol.address,
                    size: symbol.size,
                }),
            }
        }
    }
    Ok(entries)
}

fn at_entry(
    object: &Object,
    segment: &Segment,
    offset_in_file: u64,
    function: &'static AllocatorFunction,
) -> ProbeSite {
    ProbeSite {
        object: object.id,
        offset_in_file,
        entry_in_file: offset_in_file,
        choice: Choice::Entry(EntryReason::SizeUnknown),
        segment: segment.offsets.clone(),
        function,
        exits: None,
        aliases: Vec::new(),
    }
}

fn code_at(address: u64, segments: &[Segment]) -> Option<&Segment> {
    segments.iter().find(|segment| segment.executable && segment.offset_of(address).is_some())
}

/// Another name at the same offset. One whose behaviour differs tells that the object does not mean what we think (a
/// linker that folded stubs, say), and then nothing in it is to be trusted.
fn add_alias(site: &mut ProbeSite, function: &'static AllocatorFunction) -> Result<(), String> {
    if !behave_alike(site.function, function) {
        return Err(format!("{} and {} are the same code there", site.function.name, function.name));
    }
    // Either name may be called by somebody who catches what it throws.
    if function.throws && !site.function.throws {
        site.exits = Some(Vec::new());
    }
    if site.function.name != function.name && !site.aliases.contains(&function.name) {
        site.aliases.push(function.name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use super::*;
    use crate::model::{ObjectId, ObjectKind};

    fn object() -> Object {
        Object {
            id: ObjectId(3),
            path: "/lib/x.so".into(),
            kind: ObjectKind::File,
            identity: None,
            build_id: None,
            file: None,
        }
    }

    fn function(name: &str, address: u64) -> Function {
        Function { name: name.into(), address, size: 0, indirect: false, local: false }
    }

    fn code() -> [Segment; 2] {
        [
            Segment { offsets: 0..0x1000, address: 0, executable: false },
            Segment { offsets: 0x1000..0x3000, address: 0x41000, executable: true },
        ]
    }

    #[test]
    fn addresses_become_offsets_and_names_of_one_offset_one_site() {
        let defined = [function("memalign", 0x41100), function("free", 0x41200), function("aligned_alloc", 0x41100)];
        let entries = merge(&object(), &defined, &code(), &Functions::default()).unwrap();
        let found: Vec<_> = entries
            .iter()
            .map(|Entry { site, .. }| {
                (site.function.name, site.offset_in_file, site.segment.clone(), site.aliases.as_slice())
            })
            .collect();
        assert_eq!(
            found,
            [("aligned_alloc", 0x1100, 0x1000..0x3000, ["memalign"].as_slice()), ("free", 0x1200, 0x1000..0x3000, &[]),]
        );
    }

    #[test]
    fn two_versions_of_a_function_are_two_sites() {
        let sites = merge(
            &object(),
            &[function("malloc", 0x41000), function("malloc", 0x41010)],
            &code(),
            &Functions::default(),
        )
        .unwrap();
        assert_eq!(sites.iter().map(|entry| entry.site.entry_in_file).collect::<Vec<_>>(), [0x1000, 0x1010]);
    }

    #[test]
    fn objects_that_contradict_themselves_are_left_out_with_the_reason() {
        let reason = |defined: &[Function]| merge(&object(), defined, &code(), &Functions::default()).unwrap_err();
        assert_eq!(
            reason(&[function("malloc", 0x41000), function("free", 0x41000)]),
            "malloc and free are the same code there"
        );
        assert_eq!(reason(&[function("malloc", 0x800)]), "malloc lies outside of the object's code");
        let indirect = Function { indirect: true, ..function("malloc", 0x41000) };
        assert_eq!(reason(&[indirect]), "malloc is an indirect function (IFUNC): its symbol is not its code");
    }

    #[test]
    fn an_object_that_is_not_open_is_left_out() {
        assert_eq!(find(&object(), &Functions::default()).unwrap_err(), "cannot be opened");
    }
}
