//! Suppressions mean what they mean to LeakSanitizer itself: the same program, compiled with it and without.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

mod support;

use std::{collections::BTreeSet, fs, path::PathBuf, process::Command};

use memprof::{
    model::{Frame, Source},
    suppress::Suppressions,
};
use serde_json::Value;
use support::{Run, launch};
use tempfile::TempDir;

/// Each leak has a size of its own. What is left of the pointers is overwritten, so that LeakSanitizer finds none.
const MAIN: &str = r#"
#include <stdlib.h>
#include <string.h>
#include "templates.h"

extern "C" void *pool_take(size_t);
static void *volatile sink;

__attribute__((noipa)) void leak_direct() { sink = malloc(101); }
__attribute__((noipa)) void inner() { sink = malloc(202); }
__attribute__((noipa)) void outer() { inner(); inner(); }
namespace cache {
struct Table {
    __attribute__((noipa)) static void fill(int, const char *) { sink = malloc(303); }
};
}
extern "C" __attribute__((noipa)) void c_leak() { sink = pool_take(404); }
__attribute__((always_inline)) static inline void inlined_leak() { sink = malloc(505); }
__attribute__((noipa)) void around_inlined() { inlined_leak(); }

__attribute__((noipa)) void leak_all() {
    leak_direct();
    outer();
    cache::Table::fill(1, "");
    c_leak();
    around_inlined();
    sink = templates::leak<606>();
    sink = 0;
}
__attribute__((noipa)) void clear_stack() {
    volatile char area[1 << 16];
    memset((char *)area, 0, sizeof area);
}
int main() {
    leak_all();
    clear_stack();
    return 0;
}
"#;

const TEMPLATES: &str = r#"
namespace templates {
template <int SIZE> __attribute__((noipa)) void *leak() { return malloc(SIZE); }
}
"#;

const POOL: &str = r#"
#include <stdlib.h>
__attribute__((noipa)) void *pool_take(size_t size) { return malloc(size); }
"#;

const ALL: [u64; 6] = [101, 202, 303, 404, 505, 606];

const PATTERNS: [&str; 39] = [
    "leak_direct",
    "^leak_direct$",
    "^leak_direct()$",
    "^leak_direct(",
    "outer",
    "^inner",
    "inner$",
    "inner()$",
    "^outer()*",
    "cache::Table",
    "^cache::*::fill",
    "^cache::Table::fill(int, char const*)$",
    "fill(int*)$",
    "Table::fill$",
    "^c_leak$",
    "^pool_take$",
    "pool_",
    "libpool.so",
    "libpool.so$",
    "^libpool.so",
    "/libpool.so$",
    "/program$",
    "program",
    "inlined_leak",
    "^inlined_leak",
    "around_inlined",
    "templates::leak<606>",
    "^void* templates::leak<606>()$",
    "templates.h",
    "parts/templates.h$",
    "^templates.h",
    "pool.c",
    "/pool.c$",
    "main.cc",
    "*",
    "",
    "$",
    "leak*all",
    "LEAK_DIRECT",
];

/// The program in two builds, in a folder that goes with them.
struct Builds(TempDir);

impl Builds {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in [("main.cc", MAIN), ("parts/templates.h", TEMPLATES), ("parts/pool.c", POOL)] {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let builds = Self(folder);
        builds.compile("plain", &[]);
        builds.compile("sanitized", &["-fsanitize=leak"]);
        builds
    }

    fn compile(&self, build: &str, flags: &[&str]) {
        fs::create_dir(self.0.path().join(build)).unwrap();
        let library = format!("{build}/libpool.so");
        let program = format!("{build}/program");
        let common = ["-g", "-O1", "-fno-omit-frame-pointer", "-fno-builtin", "-Iparts"];
        let run = |compiler: &str, arguments: &[&str]| {
            let output = Command::new(compiler)
                .args(common)
                .args(flags)
                .args(arguments)
                .current_dir(self.0.path())
                .output()
                .unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        };
        run("gcc", &["-shared", "-fPIC", "-Wl,-soname,libpool.so", "parts/pool.c", "-o", &library]);
        run("g++", &["main.cc", &library, "-Wl,-rpath,$ORIGIN", "-o", &program]);
    }

    fn program(&self, build: &str) -> PathBuf {
        self.0.path().join(build).join("program")
    }

    fn suppressions(&self, patterns: &[&str]) -> PathBuf {
        let path = self.0.path().join("suppressions");
        fs::write(&path, patterns.iter().map(|pattern| format!("leak:{pattern}\n")).collect::<String>()).unwrap();
        path
    }

    /// What LeakSanitizer says of the program.
    fn sanitize(&self, patterns: &[&str]) -> String {
        let file = self.suppressions(patterns);
        let options = format!("suppressions={}:fast_unwind_on_malloc=0:print_suppressions=1", file.display());
        let output = Command::new(self.program("sanitized")).env("LSAN_OPTIONS", options).output().unwrap();
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// The sizes of the blocks that LeakSanitizer reports: bytes by objects.
fn sizes_reported(said: &str) -> BTreeSet<u64> {
    let leaks = said.lines().filter_map(|line| line.strip_prefix("Direct leak of "));
    leaks
        .map(|leak| {
            let numbers = support::numbers(leak);
            numbers[0] / numbers[1]
        })
        .collect()
}

/// The stacks of memprof's report, by the size of their blocks.
fn stacks(run: &Run) -> Vec<(u64, Vec<Frame>)> {
    let stacks = run.exact().stacks();
    let of = |stack: &support::StackReport<'_>| {
        let (bytes, allocations) = stack.outstanding();
        let frames = stack.0["frames"].as_array().unwrap().iter().map(frame).collect();
        (bytes / allocations, frames)
    };
    stacks.iter().map(of).collect()
}

fn frame(value: &Value) -> Frame {
    let text = |field: &str| value[field].as_str().map(str::to_owned);
    let source = text("source").map(|source| {
        let (file, line) = source.rsplit_once(':').unwrap();
        Source { directory: text("directory").map(Into::into), file: file.into(), line: line.parse().ok() }
    });
    Frame { function: text("function"), source, module: text("module").map(Into::into), ..Frame::default() }
}

#[test]
fn the_same_leaks_are_suppressed_as_by_leak_sanitizer() {
    let builds = Builds::new();
    let stacks = stacks(&launch(&[], &[builds.program("plain")]));
    assert_eq!(stacks.iter().map(|(size, _)| *size).collect::<BTreeSet<_>>(), BTreeSet::from(ALL));
    assert_eq!(sizes_reported(&builds.sanitize(&[])), BTreeSet::from(ALL));
    let mut outcomes = BTreeSet::new();
    for pattern in PATTERNS {
        let suppressions = Suppressions::parse(&format!("leak:{pattern}")).unwrap();
        let left = stacks.iter().filter(|(_, frames)| suppressions.of_stack(frames).is_none());
        let left: BTreeSet<_> = left.map(|(size, _)| *size).collect();
        let said = builds.sanitize(&[pattern]);
        assert_eq!(left, sizes_reported(&said), "{pattern:?}: {said} {stacks:#?}");
        outcomes.insert(left);
    }
    assert!(outcomes.len() > 7, "{outcomes:?}");
}

#[test]
fn patterns_have_the_figures_that_leak_sanitizer_gives_them() {
    let builds = Builds::new();
    let patterns = ["no_such_function", "^outer", "Table*fill", "^inner", "libpool.so", "main.cc$"];
    let said = builds.sanitize(&patterns);
    let table = said.lines().skip_while(|line| !line.contains("count      bytes template")).skip(1);
    let table = table.take_while(|line| !line.starts_with('-')).map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        (words[2].to_owned(), words[0].parse().unwrap(), words[1].parse().unwrap())
    });
    let expected: Vec<(String, u64, u64)> = table.collect();
    assert_eq!(expected.len(), 4, "{said}");

    let file = builds.suppressions(&patterns);
    let run = launch(&["--suppressions", file.to_str().unwrap(), "--fail-above", "0B"], &[builds.program("plain")]);
    assert_eq!(run.status.code(), Some(0), "{}", run.stderr);
    let process = run.exact();
    let by_pattern = process.0["suppressed"]["patterns"].as_array().unwrap().iter().map(|by| {
        let figure = |name: &str| by[name].as_u64().unwrap();
        (by["pattern"].as_str().unwrap().to_owned(), figure("allocations"), figure("bytes"))
    });
    let sorted = |mut figures: Vec<(String, u64, u64)>| {
        figures.sort();
        figures
    };
    assert_eq!(sorted(by_pattern.collect()), sorted(expected));
}
