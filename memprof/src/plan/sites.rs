//! Finds the probe sites of one object.

use super::functions::{FUNCTIONS, behave_alike};
use crate::{
    elf::{self, Function, Segment},
    model::{AllocatorFunction, Object, ProbeSite},
};

/// The sites of an object, in the order of [`FUNCTIONS`]; none if it defines no allocator function.
///
/// # Errors
/// Why the object cannot be probed, or must not be.
pub(super) fn find(object: &Object) -> Result<Vec<ProbeSite>, String> {
    let file = object.file.as_deref().ok_or("cannot be opened")?;
    let names = FUNCTIONS.each_ref().map(|function| function.name);
    let defined = elf::defined_functions(file, &names).map_err(|error| error.to_string())?;
    if defined.is_empty() {
        return Ok(Vec::new());
    }
    // glibc's loader had a malloc of its own until 2.30, for its own use before libc's is there; it never frees.
    if elf::is_glibc_loader(file).map_err(|error| error.to_string())? {
        return Err("the dynamic loader's own allocator, which frees nothing".into());
    }
    let segments = elf::segments(file).map_err(|error| error.to_string())?;
    merge(object, &defined, &segments)
}

fn merge(object: &Object, defined: &[Function], segments: &[Segment]) -> Result<Vec<ProbeSite>, String> {
    let mut sites: Vec<ProbeSite> = Vec::new();
    for function in &FUNCTIONS {
        for symbol in defined.iter().filter(|symbol| symbol.name == function.name) {
            if symbol.indirect {
                return Err(format!("{} is an indirect function (IFUNC): its symbol is not its code", symbol.name));
            }
            let segment = code_at(symbol.address, segments)
                .ok_or_else(|| format!("{} lies outside of the object's code", symbol.name))?;
            let Some(offset_in_file) = segment.offset_of(symbol.address) else { continue };
            match sites.iter_mut().find(|site| site.offset_in_file == offset_in_file) {
                Some(site) => add_alias(site, function)?,
                None => sites.push(ProbeSite {
                    object: object.id,
                    offset_in_file,
                    segment: segment.offsets.clone(),
                    function,
                    aliases: Vec::new(),
                }),
            }
        }
    }
    Ok(sites)
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
        Function { name: name.into(), address, indirect: false }
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
        let sites = merge(&object(), &defined, &code()).unwrap();
        let found: Vec<_> = sites
            .iter()
            .map(|site| (site.function.name, site.offset_in_file, site.segment.clone(), site.aliases.as_slice()))
            .collect();
        assert_eq!(
            found,
            [("aligned_alloc", 0x1100, 0x1000..0x3000, ["memalign"].as_slice()), ("free", 0x1200, 0x1000..0x3000, &[]),]
        );
    }

    #[test]
    fn two_versions_of_a_function_are_two_sites() {
        let sites = merge(&object(), &[function("malloc", 0x41000), function("malloc", 0x41010)], &code()).unwrap();
        assert_eq!(sites.iter().map(|site| site.offset_in_file).collect::<Vec<_>>(), [0x1000, 0x1010]);
    }

    #[test]
    fn objects_that_contradict_themselves_are_left_out_with_the_reason() {
        let reason = |defined: &[Function]| merge(&object(), defined, &code()).unwrap_err();
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
        assert_eq!(find(&object()).unwrap_err(), "cannot be opened");
    }
}
