//! Sites in the allocators of this machine: by name and place where the file is one that was looked at, and by the rules, as
//! objdump sees them, in any.

use std::{fs::File, path::Path, sync::Arc};

use super::objdump;
use crate::{
    elf,
    model::{Choice, Object, ObjectId, ObjectKind, ProbeSite},
    plan::{Functions, sites::find},
};

const LIBC: &str = "/lib/x86_64-linux-gnu/libc.so.6";
const JEMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";
const MIMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libmimalloc.so.2";
const MUSL: &str = "/lib/ld-musl-x86_64.so.1";

/// The sites of a library, and its build id. `None` where there is no such library.
fn sites(path: &str) -> Option<(Vec<ProbeSite>, String)> {
    let file = File::open(path).ok()?;
    let build_id = elf::build_id(&file).map(|id| id.to_string()).unwrap_or_default();
    let object = Object {
        id: ObjectId(0),
        path: path.into(),
        kind: ObjectKind::File,
        identity: None,
        build_id: None,
        file: Some(Arc::new(file)),
    };
    Some((find(&object, &Functions::default()).unwrap().sites, build_id))
}

/// Each function, and what is probed in it: how far from its entry, and which instruction; nothing if the entry stays
/// although it is single-stepped.
fn summary(sites: &[ProbeSite]) -> Vec<String> {
    let text = |site: &ProbeSite| match &site.choice {
        Choice::EmulatedEntry { instruction, .. } => format!("{} {instruction}", site.function.name),
        Choice::Later { instruction, .. } => {
            format!("{} + {} {instruction}", site.function.name, site.offset_in_file - site.entry_in_file)
        }
        Choice::Entry(_) => site.function.name.to_owned(),
    };
    sites.iter().map(text).collect()
}

fn check_file(path: &str, known: &[(&str, &[&str])]) {
    let Some((sites, build_id)) = sites(path) else {
        assert!(path != LIBC || !Path::new("/etc/debian_version").exists());
        return;
    };
    assert!(sites.iter().any(|site| site.function.name == "malloc"));
    if let Some((_, expected)) = known.iter().find(|(id, _)| *id == build_id) {
        // mimalloc's own are many, and told by nothing but their number.
        let names: Vec<_> = summary(&sites).into_iter().filter(|site| !site.starts_with("mi_")).collect();
        assert_eq!(names, *expected);
    }
    check_rules(Path::new(path), &sites);
}

/// Checks the sites by the rules. Addresses are needed for that: those of the segments.
fn check_rules(path: &Path, sites: &[ProbeSite]) {
    let file = File::open(path).unwrap();
    let segments = elf::segments(&file).unwrap();
    let address = |offset| segments.iter().find_map(|segment| segment.address_of(offset)).unwrap();
    let names: Vec<_> = sites.iter().map(|site| site.function.name).collect();
    let functions = elf::defined_functions(&file, &names).unwrap();
    let listed = objdump::lines(path, &["-d"]);
    for site in sites {
        let (entry, probed) = (address(site.entry_in_file), address(site.offset_in_file));
        let size = functions.iter().filter(|one| one.address == entry).map(|one| one.size).max().unwrap();
        let function: Vec<_> = listed.iter().filter(|line| (entry..entry + size).contains(&line.address)).collect();
        match &site.choice {
            Choice::Entry(_) => assert_eq!(entry, probed),
            Choice::EmulatedEntry { .. } => assert!(entry == probed && function[0].is_emulated()),
            Choice::Later { .. } => {
                objdump::check(&function, probed, site.function.arguments());
                listed.iter().for_each(|line| objdump::check_target(line, entry..=probed));
            }
        }
    }
}

#[test]
fn libc() {
    let debian_12 = [
        "malloc push",
        "calloc push",
        "realloc push",
        "reallocarray",
        "posix_memalign + 7 push",
        "aligned_alloc + 7 je",
        "valloc + 7 push",
        "pvalloc + 7 push",
        "free + 3 je",
    ];
    let debian_13 = [
        "malloc push",
        "calloc push",
        "realloc push",
        "reallocarray",
        "posix_memalign + 7 push",
        "aligned_alloc push",
        "memalign + 7 je",
        "valloc + 7 push",
        "pvalloc + 7 push",
        "free + 3 je",
    ];
    let known: [(_, &[_]); 2] = [
        ("93ac61ec5a8eb1396f9fbd350e3169a558528a40", &debian_12),
        ("93f70d1a8ae34f8e63c223f1500327fbd717f871", &debian_13),
    ];
    check_file(LIBC, &known);
}

#[test]
fn jemalloc() {
    let version_5_3_0 = [
        "malloc + 7 ja",
        "calloc push",
        "realloc push",
        "posix_memalign push",
        "aligned_alloc push",
        "memalign push",
        "valloc push",
        "free + 48 jne",
        "mallocx push",
        "rallocx + 2 jmp",
        "xallocx push",
        "dallocx push",
        "sdallocx + 10 ja",
        "_Znwm + 7 ja",
        "_ZnwmRKSt9nothrow_t + 7 ja",
        "_ZdlPvm + 3 je",
        "_ZdaPvm + 3 je",
        "_ZdlPvmSt11align_val_t + 3 je",
        "_ZdaPvmSt11align_val_t + 3 je",
    ];
    let with_endbr64 = [
        "malloc + 11 ja",
        "calloc + 4 push",
        "realloc + 4 push",
        "posix_memalign + 4 push",
        "aligned_alloc + 4 push",
        "memalign + 4 push",
        "valloc + 4 push",
        "free + 52 jne",
        "mallocx + 4 push",
        "rallocx + 6 jmp",
        "xallocx + 4 push",
        "dallocx + 4 push",
        "sdallocx + 11 ja",
        "_Znwm + 11 ja",
        "_ZnwmRKSt9nothrow_t + 11 ja",
        "_ZdlPvm + 7 je",
        "_ZdaPvm + 7 je",
        "_ZdlPvmSt11align_val_t + 7 je",
        "_ZdaPvmSt11align_val_t + 7 je",
    ];
    let known: [(_, &[_]); 2] = [
        ("1d5163c246dc9cd2b4d339f2ac42efd95c6e0ae1", &version_5_3_0),
        // Debian 13's.
        ("16d086887ed57ed2350b288be499d57e5e595e73", &with_endbr64),
    ];
    check_file(JEMALLOC, &known);
}

#[test]
fn mimalloc() {
    let version_2_0_9 = ["malloc", "calloc", "realloc", "free + 6 je", "_Znwm push", "_ZnwmSt11align_val_t push"];
    check_file(MIMALLOC, &[("d07f4e7dc9a039fcbe7747f416476bd65cb48e8b", &version_2_0_9)]);
}

#[test]
fn musl() {
    let version_1_2_3 = [
        "malloc jmp",
        "calloc push",
        "realloc jmp",
        "reallocarray + 6 je",
        "posix_memalign push",
        "aligned_alloc push",
        "valloc",
        "free jmp",
    ];
    let version_1_2_5 = [
        "malloc + 4 jmp",
        "calloc + 4 push",
        "realloc + 4 jmp",
        "reallocarray + 10 je",
        "posix_memalign + 13 jbe",
        "aligned_alloc + 4 push",
        "valloc",
        "free + 4 jmp",
    ];
    let known: [(_, &[_]); 2] = [
        ("54d00df44fce62f541ca62b56bdef5bf31ff077c", &version_1_2_3),
        ("94afc8b406e6b9663d0c1380f18ecdd7fb15fad8", &version_1_2_5),
    ];
    check_file(MUSL, &known);
}
