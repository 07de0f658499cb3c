//! What functions of compiled programs lead to.

use std::{fs, fs::File, process::Command};

use super::super::code::{Code, Known};
use crate::elf;

const SOURCE: &str = "#include <stdlib.h>\n\
    #define A __attribute__((noinline))\n\
    A void *stub(size_t n) { return malloc(n); }\n\
    A void *adds(size_t n) { return malloc(n + 8); }\n\
    A void *handles(size_t n) { void *p; while (!(p = malloc(n ? n : 1))) abort(); return p; }\n\
    A void *through(size_t n) { return (char *)handles(n) + 16; }\n\
    extern void *spare;\n\
    void *spare;\n\
    A void *caches(size_t n) { if (n < 64 && spare) { void *p = spare; spare = 0; return p; } return malloc(n); }\n\
    A void *late(size_t n) { void *p = caches(n); if (!p) exit(1); return p; }\n";

struct Malloc;

impl Known for Malloc {
    fn is_entry(&self, _: u64) -> bool {
        false
    }

    fn is_name(&self, name: &str) -> bool {
        name == "malloc"
    }
}

/// Whether each function always calls `malloc`, and does nothing but jump there; and the number of its exits.
fn ask(flags: &[&str], names: &[&str]) -> Vec<(bool, bool, usize)> {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.c"), SOURCE).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-shared", "-fPIC", "-fno-builtin", "a.c", "-o", "a.so"]).args(flags).current_dir(folder.path());
    assert!(gcc.status().unwrap().success());
    let file = File::open(folder.path().join("a.so")).unwrap();
    let segments = elf::segments(&file).unwrap();
    let functions = elf::defined_functions(&file, names).unwrap();
    let code = Code::of(&file, &segments).unwrap();
    let entry = |name: &&str| functions.iter().find(|function| function.name == **name).unwrap().address;
    let answer = |entry| {
        let exits = code.exits(entry).map_or(0, |exits| exits.addresses.len());
        (code.always_calls(entry, &Malloc), code.is_stub_of(entry, &Malloc), exits)
    };
    names.iter().map(entry).map(answer).collect()
}

#[test]
fn ways_through_malloc_are_found_however_it_is_called() {
    let names = ["stub", "adds", "handles", "through", "caches", "late"];
    for flags in [&["-O2"][..], &["-O2", "-fno-plt"], &["-O2", "-fcf-protection=full", "-Wl,-z,ibtplt"]] {
        let answers = ask(flags, &names);
        let ways: Vec<_> = answers.iter().map(|(always, stub, _)| (*always, *stub)).collect();
        let expected = [(true, true), (true, false), (true, false), (true, false), (false, false), (false, false)];
        assert_eq!(ways, expected, "{flags:?}");
        // What ends in another object's function has no exit of its own; `caches` has that of its cache.
        assert_eq!((answers[0].2, answers[1].2), (0, 0), "{flags:?}");
        assert!(answers[2..].iter().all(|(.., exits)| *exits >= 1), "{answers:?}");
    }
}

#[test]
fn a_function_without_optimization_has_one_exit() {
    let answers = ask(&["-O0"], &["stub", "handles", "caches"]);
    assert_eq!(answers, [(true, false, 1), (true, false, 1), (false, false, 1)]);
}
