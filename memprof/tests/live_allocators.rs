//! Every allocator of a process: jemalloc, tcmalloc, mimalloc and musl beside glibc, C++'s operators in each, and what
//! calls what; every figure to the unit.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

mod support;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use support::{ProcessReport, Program, ROOM_FOR_COPIES, Run, Target, attach, launch};

/// Allocations, their bytes, frees, their bytes.
type Totals = [u64; 4];

const JEMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2";
const TCMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4";
const MIMALLOC: &str = "/usr/lib/x86_64-linux-gnu/libmimalloc.so.2";

/// What a program does when it is told to `work`: what it does then less what it does without.
fn work_of(program: &Program) -> (Run, Totals) {
    let idle = launch(&[], &[program.path()]);
    let run = launch(&[], &[program.path().as_os_str(), "work".as_ref()]);
    assert!(run.status.success(), "{}", run.stderr);
    let (all, idle) = (run.exact().totals(), idle.exact().totals());
    (run, std::array::from_fn(|index| all[index] - idle[index]))
}

fn assert_leaks(program: &Program, process: &ProcessReport<'_>, file: &str, leaks: &[(&str, u64, u64)]) {
    for &(mark, bytes, count) in leaks {
        let at = format!("{file}:{}", program.line(mark));
        assert_eq!(process.outstanding_at(&at), (bytes, count), "{mark}");
    }
}

const OPERATORS: &str = r#"
#include <cstdlib>
#include <new>
#include <unistd.h>
#define CHECK(condition) do { if (!(condition)) { dprintf(2, "line %d\n", __LINE__); _exit(1); } } while (0)
#include <stdio.h>
static void *volatile sink;
static volatile std::size_t huge = (std::size_t)1 << 62;
static const std::align_val_t wide = std::align_val_t(64);

static __attribute__((noinline)) void leak() {
    sink = operator new(1000); // single
    sink = operator new[](1001); // array
    sink = operator new(1002, std::nothrow); // single, nothrow
    sink = operator new[](1003, std::nothrow); // array, nothrow
    sink = operator new(1024, wide); // single, aligned
    sink = operator new[](1088, wide); // array, aligned
    sink = operator new(1152, wide, std::nothrow); // single, aligned, nothrow
    sink = operator new[](1216, wide, std::nothrow); // array, aligned, nothrow
}
static __attribute__((noinline)) void churn() {
    operator delete(operator new(2001));
    operator delete(operator new(2002), (std::size_t)2002);
    operator delete(operator new(2003), std::nothrow);
    operator delete(operator new(2048, wide), wide);
    operator delete(operator new(2048, wide), (std::size_t)2048, wide);
    operator delete(operator new(2048, wide), wide, std::nothrow);
    operator delete[](operator new[](2004));
    operator delete[](operator new[](2005), (std::size_t)2005);
    operator delete[](operator new[](2006), std::nothrow);
    operator delete[](operator new[](2048, wide), wide);
    operator delete[](operator new[](2048, wide), (std::size_t)2048, wide);
    operator delete[](operator new[](2048, wide), wide, std::nothrow);
    // What one function has allocated, another may free.
    std::free(operator new(2007));
    operator delete(std::malloc(2008));
    operator delete((void *)0);
    // Large ones go other ways.
    for (std::size_t size = 1; size <= (std::size_t)1 << 24; size *= 4) operator delete(operator new(size), size);
}
int main(int argc, char **arguments) {
    if (argc < 2) return 0;
    if (*arguments[1] == 't') {
        int caught = 0;
        for (int i = 0; i < 10; i++) try { sink = operator new(huge); } catch (std::bad_alloc &) { caught++; }
        for (int i = 0; i < 10; i++) try { sink = operator new[](huge, wide); } catch (std::bad_alloc &) { caught++; }
        CHECK(caught == 20);
        CHECK(!operator new(huge, std::nothrow));
    }
    leak();
    for (int i = 0; i < 50; i++) churn();
    return 0;
}
"#;

/// The sizes of 1, 4, 16, … 2²⁴.
const GROWING: (u64, u64) = (13, ((1 << 26) - 1) / 3);

/// What it leaks, and then what it frees too.
const LEAKED: (u64, u64) = (8, 1000 + 1001 + 1002 + 1003 + 1024 + 1088 + 1152 + 1216);
const CHURNED: (u64, u64) =
    (50 * (14 + GROWING.0), 50 * (6 * 2048 + 2001 + 2002 + 2003 + 2004 + 2005 + 2006 + 2007 + 2008 + GROWING.1));

const LEAKS: [(&str, u64, u64); 8] = [
    ("// single\n", 1000, 1),
    ("// array\n", 1001, 1),
    ("// single, nothrow", 1002, 1),
    ("// array, nothrow", 1003, 1),
    ("// single, aligned\n", 1024, 1),
    ("// array, aligned\n", 1088, 1),
    ("// single, aligned, nothrow", 1152, 1),
    ("// array, aligned, nothrow", 1216, 1),
];

fn operators(flags: &[&str]) -> Program {
    Program::cpp(OPERATORS, &[&["-std=c++17", "-O1", "-fno-builtin", "-Wl,--no-as-needed"], flags].concat())
}

fn check_operators(flags: &[&str]) {
    let program = operators(flags);
    let (run, work) = work_of(&program);
    assert_eq!(work, [LEAKED.0 + CHURNED.0, LEAKED.1 + CHURNED.1, CHURNED.0, CHURNED.1]);
    for (mark, bytes, count) in LEAKS {
        let at = format!("program.cc:{}", line_of(mark));
        assert_eq!(run.exact().outstanding_at(&at), (bytes, count), "{mark}");
    }
}

/// The line of [`OPERATORS`] in which that is.
fn line_of(mark: &str) -> usize {
    let (before, _) = OPERATORS.split_once(mark).unwrap();
    before.lines().count()
}

#[test]
fn operators_that_go_through_libcs_malloc() {
    check_operators(&[]);
}

#[test]
fn operators_in_a_static_executable() {
    check_operators(&["-static"]);
}

#[test]
fn operators_of_jemalloc() {
    check_operators(&[JEMALLOC]);
}

#[test]
fn operators_of_tcmalloc() {
    check_operators(&[TCMALLOC]);
}

#[test]
fn operators_of_mimalloc() {
    check_operators(&[MIMALLOC]);
}

/// A return probe around `operator new` would hide the `catch` from the exception, and the program would be aborted.
#[test]
fn what_operators_throw_is_caught_as_ever() {
    for allocator in [None, Some(JEMALLOC), Some(TCMALLOC)] {
        let program = operators(&Vec::from_iter(allocator));
        let run = launch(&[], &[program.path().as_os_str(), "throw".as_ref()]);
        assert!(run.status.success(), "{allocator:?}: {:?} {}", run.status, run.stderr);
        let process = run.last().process();
        let leaked = LEAKS.map(|(mark, ..)| process.outstanding_at(&format!("program.cc:{}", line_of(mark))));
        assert_eq!(leaked, LEAKS.map(|(_, bytes, count)| (bytes, count)));
        // Whether a call has thrown or will yet return is not known, so it is counted; it has allocated nothing.
        let doubts = run.last().warnings();
        assert!(doubts.iter().all(|doubt| doubt.contains("not seen to return")), "{doubts:?}");
    }
}

const PRELUDE: &str = r#"
#define _GNU_SOURCE
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define CHECK(condition) do { if (!(condition)) { dprintf(2, "line %d\n", __LINE__); _exit(1); } } while (0)
static volatile size_t huge = (size_t)1 << 61;
"#;

/// A program of C that does this when it is told to work.
fn source(declarations: &str, body: &str) -> String {
    format!(
        "{PRELUDE}{declarations}\nint main(int argc, char **arguments) {{\nif (argc < 2) return 0;\n{body}\nreturn 0;\n}}\n"
    )
}

fn check_c(program: &Program, totals: Totals, leaks: &[(&str, u64, u64)]) {
    let (run, work) = work_of(program);
    assert_eq!(work, totals);
    assert_leaks(program, &run.exact(), "program.c", leaks);
}

const C_FLAGS: [&str; 3] = ["-fno-builtin", "-w", "-Wl,--no-as-needed"];

#[test]
fn functions_of_jemalloc() {
    let declarations = "
        void *mallocx(size_t, int), *rallocx(void *, size_t, int);
        size_t xallocx(void *, size_t, size_t, int);
        void dallocx(void *, int), sdallocx(void *, size_t, int);";
    let body = "
        CHECK(mallocx(100, 0)); // made
        void *p = mallocx(50, 0); p = rallocx(p, 5000, 0); CHECK(p); // resized
        p = mallocx(1000, 0); CHECK(xallocx(p, 1010, 0, 0) >= 1010); // in place
        p = mallocx(64, 0); CHECK(xallocx(p, 1 << 20, 0, 0) == 64); // not in place
        dallocx(p, 0);
        sdallocx(mallocx(200, 6 /* aligned to 64 */), 200, 6);
        CHECK(!mallocx(huge, 0));
        p = malloc(70); CHECK(!rallocx(p, huge, 0)); free(p);
        free(mallocx(80, 0)); dallocx(malloc(90), 0);";
    let program = Program::c(&source(declarations, body), &[&C_FLAGS[..], &[JEMALLOC]].concat());
    let leaks = [("// made", 100, 1), ("// resized", 5000, 1), ("// in place", 1010, 1), ("// not in place", 0, 0)];
    let freed = 50 + 1000 + 64 + 200 + 70 + 80 + 90;
    check_c(&program, [10, freed + 6110, 7, freed], &leaks);
}

#[test]
fn functions_of_mimalloc() {
    let declarations = "
        void *mi_malloc(size_t), *mi_calloc(size_t, size_t), *mi_zalloc(size_t), *mi_realloc(void *, size_t);
        void *mi_mallocn(size_t, size_t), *mi_reallocn(void *, size_t, size_t), *mi_reallocf(void *, size_t);
        void *mi_expand(void *, size_t), *mi_malloc_aligned(size_t, size_t), *mi_aligned_alloc(size_t, size_t);
        void *mi_malloc_small(size_t), *mi_new(size_t), *mi_new_n(size_t, size_t), *mi_new_realloc(void *, size_t);
        void *mi_heap_get_default(void), *mi_heap_malloc(void *, size_t), *mi_heap_calloc(void *, size_t, size_t);
        void *mi_heap_realloc(void *, void *, size_t), *mi_heap_reallocn(void *, void *, size_t, size_t);
        void *mi_heap_malloc_aligned(void *, size_t, size_t);
        int mi_posix_memalign(void **, size_t, size_t);
        void mi_free(void *), mi_free_size(void *, size_t), mi_free_aligned(void *, size_t);";
    let body = "
        void *p, *heap = mi_heap_get_default();
        CHECK(mi_malloc(101)); // made
        mi_free(mi_calloc(3, 7)); mi_free_size(mi_zalloc(33), 33); mi_free(mi_malloc_small(44));
        p = mi_realloc(mi_mallocn(4, 25), 5000); CHECK(p); // resized
        p = mi_reallocn(NULL, 5, 100); CHECK(p && !mi_reallocf(p, huge));
        p = mi_malloc(600); CHECK(!mi_reallocn(p, huge, 8)); mi_free(p);
        p = mi_malloc(800); CHECK(mi_expand(p, 790) == p); // in place
        CHECK(mi_malloc_aligned(130, 64)); // aligned
        mi_free_aligned(mi_aligned_alloc(128, 256), 128);
        CHECK(mi_posix_memalign(&p, 64, 140) == 0); // written
        CHECK(mi_new(150)); // new
        CHECK(mi_new_realloc(mi_new_n(5, 11), 160)); // new, resized
        CHECK(mi_heap_malloc(heap, 170)); // of a heap
        CHECK(mi_heap_calloc(heap, 18, 10)); // zeroed, of a heap
        p = mi_heap_realloc(heap, mi_heap_malloc(heap, 9), 190); CHECK(p); // resized, of a heap
        p = mi_heap_reallocn(heap, NULL, 20, 10); CHECK(p); // array, of a heap
        CHECK(mi_heap_malloc_aligned(heap, 210, 64)); // aligned, of a heap
        free(mi_malloc(7)); mi_free(malloc(8));";
    let program = Program::c(&source(declarations, body), &[&C_FLAGS[..], &[MIMALLOC]].concat());
    let leaks = [
        ("// made", 101, 1),
        ("// resized\n", 5000, 1),
        ("// in place", 790, 1),
        ("// aligned\n", 130, 1),
        ("// written", 140, 1),
        ("// new\n", 150, 1),
        ("// new, resized", 160, 1),
        ("// of a heap", 170, 1),
        ("// zeroed, of a heap", 180, 1),
        ("// resized, of a heap", 190, 1),
        ("// array, of a heap", 200, 1),
        ("// aligned, of a heap", 210, 1),
    ];
    let leaked: u64 = leaks.iter().map(|(_, bytes, _)| bytes).sum();
    let freed = [21, 33, 44, 100, 500, 600, 800, 256, 55, 9, 7, 8];
    let (count, bytes) = (freed.len() as u64, freed.iter().sum::<u64>());
    let (run, work) = work_of(&program);
    assert_eq!(work, [count + 12, bytes + leaked, count, bytes]);
    for (mark, bytes, count) in leaks {
        let line = body.split_once(mark).unwrap().0.lines().count() + source(declarations, "").lines().count() - 3;
        assert_eq!(run.exact().outstanding_at(&format!("program.c:{line}")), (bytes, count), "{mark}");
    }
}

#[test]
fn functions_of_tcmalloc() {
    let declarations = "
        void *tc_malloc(size_t), *tc_calloc(size_t, size_t), *tc_realloc(void *, size_t), *tc_new(size_t);
        void *tc_newarray(size_t), *tc_new_nothrow(size_t, void *), *tc_memalign(size_t, size_t), *tc_valloc(size_t);
        int tc_posix_memalign(void **, size_t, size_t);
        void tc_free(void *), tc_free_sized(void *, size_t), tc_cfree(void *), tc_delete(void *);
        void tc_deletearray(void *), tc_delete_sized(void *, size_t);";
    let body = "
        void *p;
        CHECK(tc_malloc(101)); // made
        p = tc_realloc(tc_calloc(10, 10), 5000); CHECK(p); // changed
        CHECK(tc_new(102)); // by new
        CHECK(tc_newarray(103)); // by array
        CHECK(tc_posix_memalign(&p, 64, 104) == 0); // written
        tc_free(tc_new(11)); tc_free_sized(tc_malloc(12), 12); tc_cfree(tc_valloc(13)); tc_delete(tc_malloc(14));
        tc_deletearray(tc_newarray(15)); tc_delete_sized(tc_new(16), 16); free(tc_memalign(64, 17));
        tc_delete(tc_new_nothrow(18, NULL)); CHECK(!tc_malloc(huge));";
    let program = Program::c(&source(declarations, body), &[&C_FLAGS[..], &[TCMALLOC]].concat());
    let leaks = [
        ("// made", 101, 1),
        ("// changed", 5000, 1),
        ("// by new", 102, 1),
        ("// by array", 103, 1),
        ("// written", 104, 1),
    ];
    let freed = 100 + 11 + 12 + 13 + 14 + 15 + 16 + 17 + 18;
    check_c(&program, [14, freed + 5410, 9, freed], &leaks);
}

#[test]
fn functions_of_musl() {
    let body = "
        CHECK(malloc(101)); // made
        CHECK(calloc(17, 6)); // zeroed
        void *p = realloc(malloc(10), 5000); CHECK(p); // resized
        CHECK(posix_memalign(&p, 64, 104) == 0); // written
        CHECK(aligned_alloc(64, 128)); // aligned
        p = malloc(11); CHECK(!realloc(p, huge)); free(p);
        free(calloc(3, 4)); free(memalign(64, 13)); free(valloc(14)); free(NULL);
        CHECK(!malloc(huge) && !calloc(huge, 8));
        for (size_t size = 1; size <= (size_t)1 << 24; size *= 4) free(malloc(size));
        CHECK(strdup(\"123456789\")); // by libc";
    for flags in [&["-dynamic"][..], &["-static"], &["-static-pie"]] {
        let program = Program::musl(&source("", body), &[&["-fno-builtin", "-w"], flags].concat());
        let leaks = [
            ("// made", 101, 1),
            ("// zeroed", 102, 1),
            ("// resized", 5000, 1),
            ("// written", 104, 1),
            ("// aligned", 128, 1),
            ("// by libc", 10, 1),
        ];
        let freed = (5 + GROWING.0, 10 + 11 + 12 + 13 + 14 + GROWING.1);
        let (run, work) = work_of(&program);
        assert_eq!(work, [freed.0 + 6, freed.1 + 5445, freed.0, freed.1], "{flags:?}");
        assert_leaks(&program, &run.exact(), "program.c", &leaks[..5]);
    }
}

/// Answers each line by that many blocks of 100 bytes.
const SERVER: &str = r#"
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void *(*allocate)(size_t, int);
static void say(const char *what) { if (write(1, what, strlen(what)) < 0) _exit(1); }
static char hear(void) {
    char first = 0, c;
    for (int i = 0; read(0, &c, 1) == 1; i++) { if (c == '\n') return first; if (!i) first = c; }
    _exit(0);
}
static __attribute__((noinline)) void leak(void) {
    void *block = allocate ? allocate(100, 0) : malloc(100); // leaks
    __asm__ volatile ("" : "+r"(block) : : "memory");
}
int main(int argc, char **arguments) {
    say("ready\n");
    for (;;) {
        switch (hear()) {
        case 'o': allocate = (void *(*)(size_t, int))dlsym(dlopen(arguments[1], RTLD_NOW | RTLD_DEEPBIND), "mallocx"); break;
        case 'l': for (int i = 0; i < 1000; i++) leak(); break;
        default: for (int i = 0; i < 10; i++) { leak(); free(malloc(50)); }
        }
        say("done\n");
    }
}
"#;

fn served(target: &mut Target, line: &str) {
    target.tell(line);
    assert_eq!(target.hear(), "done");
}

#[test]
fn an_allocator_that_is_opened_later_is_probed_then() {
    let program = Program::c(SERVER, &["-O1", "-fno-builtin", "-ldl"]);
    let mut command = Command::new(program.path());
    let mut target = Target::start(command.arg(JEMALLOC).stdin(Stdio::piped()).stdout(Stdio::piped()));
    assert_eq!(target.hear(), "ready");
    let mut memprof = attach(target.pid(), &["--interval", "300ms"]);
    memprof.ready();
    served(&mut target, "open");
    let at = format!("program.c:{}", program.line("// leaks"));
    // Until the probes are in, nothing is seen; from then on, everything is.
    let seen = loop {
        served(&mut target, "few");
        let report = memprof.next_report();
        assert_eq!(report.lost(), (0, 0, 0));
        match report.process().outstanding_at(&at) {
            (0, 0) => {}
            (bytes, count) => {
                assert_eq!(bytes, 100 * count);
                break count;
            }
        }
    };
    let before = memprof.next_report().process().outstanding_at(&at);
    assert!(before.1 >= seen);
    served(&mut target, "lots");
    let run = memprof.interrupt();
    assert_eq!(run.exact().outstanding_at(&at), (before.0 + 100_000, before.1 + 1000));
}

#[test]
fn an_allocator_that_is_preloaded_hides_libcs() {
    let program = Program::c(SERVER, &["-O1", "-fno-builtin", "-ldl"]);
    for allocator in [JEMALLOC, TCMALLOC, MIMALLOC] {
        let mut command = Command::new(program.path());
        command.env("LD_PRELOAD", allocator).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut target = Target::start(&mut command);
        assert_eq!(target.hear(), "ready");
        let mut memprof = attach(target.pid(), &["--interval", "1h"]);
        memprof.ready();
        served(&mut target, "few");
        let run = memprof.interrupt();
        assert_eq!(run.exact().totals(), [20, 1500, 10, 500], "{allocator}");
        assert_eq!(run.exact().outstanding(), (1000, 10));
    }
}

/// An allocator that is not in the library that calls it: a pool, of chunks by libstdc++'s `operator new`.
const POOL: &str = r#"
#include <cstddef>
#include <cstdlib>
#include <unistd.h>
struct Pool { char *next; std::size_t left; void *spare; };
extern "C" {
__attribute__((noinline)) void *pool_alloc(Pool *pool, std::size_t size) {
    if (size > 4096) return nullptr;
    if (pool->spare && size <= 64) { void *block = pool->spare; pool->spare = *(void **)block; return block; }
    size = size < 64 ? 64 : size;
    if (pool->left < size) { pool->next = new char[65536]; pool->left = 65536; }
    void *block = pool->next;
    pool->next += size; pool->left -= size;
    return block;
}
__attribute__((noinline)) void pool_free(Pool *pool, void *block) { *(void **)block = pool->spare; pool->spare = block; }
}
namespace { __attribute__((noinline, used)) void *hidden(std::size_t size) { return std::malloc(size + 1); } }
int main() {
    Pool pool = {};
    for (int i = 0; i < 1000; i++) {
        void *block = pool_alloc(&pool, 50);
        if (i % 4) pool_free(&pool, block); // keeps 250
        pool_alloc(&pool, 300); // keeps 1000
    }
    if (pool_alloc(&pool, 5000)) return 1;
    void *block = hidden(77); // hidden
    _exit(!block);
}
"#;

#[test]
fn a_pool_of_the_programs_own_is_what_it_is_said_to_be() {
    let program = Program::cpp(POOL, &["-O1", "-fno-builtin"]);
    let functions = ["pool_alloc:malloc+1", "pool_free:free+1", "_ZN12_GLOBAL__N_16hiddenEm:malloc"];
    let functions = functions.iter().flat_map(|function| ["--function", *function]);
    let options: Vec<_> = functions.chain(ROOM_FOR_COPIES).collect();
    let run = launch(&options, &[program.path()]);
    let process = run.exact();
    let at = |mark| process.outstanding_at(&format!("program.cc:{}", program.line(mark)));
    let kept = 250 * 50;
    assert_eq!(at("pool_alloc(&pool, 50)"), (kept, 250));
    assert_eq!(at("// keeps 1000"), (300_000, 1000));
    assert_eq!(at("// hidden"), (77, 1));
    // Chunks are the pool's own, and count no second time.
    let chunks = program.line("new char[65536]");
    assert_eq!(process.outstanding_at(&format!("program.cc:{chunks}")), (0, 0));
    let [allocations, bytes, frees, freed] = process.totals();
    let runtime = process.outstanding().0 - kept - 300_000 - 77;
    assert_eq!((frees, freed), (750, 750 * 50));
    assert_eq!(bytes, 1000 * 50 + 300_000 + 77 + runtime);
    assert!(allocations <= 2001 + 2, "the runtime's own is one block or two");
    // Without the option the same program is one of chunks.
    let run = launch(&[], &[program.path()]);
    assert_eq!(run.exact().outstanding_at(&format!("program.cc:{chunks}")).0 % 65536, 0);
    assert_eq!(run.exact().outstanding_at(&format!("program.cc:{}", program.line("// hidden"))), (78, 1));
}

const THROWING_POOL: &str = r#"
#include <cstdlib>
#include <new>
#include <unistd.h>
extern "C" __attribute__((noinline)) void *pool_alloc(std::size_t size) {
    if (size > 100) throw std::bad_alloc();
    void *block = std::malloc(size);
    return block;
}
int main() {
    int caught = 0;
    for (int i = 0; i < 3; i++) try { pool_alloc(1000); } catch (std::bad_alloc &) { caught++; }
    pool_alloc(10); // kept
    _exit(caught != 3);
}
"#;

#[test]
fn a_pool_may_throw_whatever_its_kind_is_said_to_be() {
    let program = Program::cpp(THROWING_POOL, &["-O1", "-fno-builtin"]);
    for function in ["pool_alloc:new", "pool_alloc:malloc"] {
        let run = launch(&["--function", function], &[program.path()]);
        assert!(run.status.success(), "{function}: {:?}", run.status);
        let at = format!("program.cc:{}", program.line("// kept"));
        assert_eq!(run.last().process().outstanding_at(&at), (10, 1), "{function}");
    }
}

#[test]
fn a_function_that_nobody_defines_is_told_of() {
    let run = launch(&["--function", "no_such_alloc:malloc"], &["true"]);
    let warnings = run.last().warnings();
    assert!(
        warnings.iter().any(|warning| warning.contains("has no function no_such_alloc (--function)")),
        "{warnings:?}"
    );
}

#[test]
fn what_has_lost_its_names_is_told_of() {
    let program = Program::c(SERVER, &["-static", "-s", "-w"]);
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let refused = attach(target.pid(), &[]).wait();
    assert!(!refused.status.success());
    assert!(refused.stderr.contains("it is statically linked and stripped"), "{}", refused.stderr);
    let doctor = support::memprof().args(["doctor", "--pid", &target.pid().to_string()]).output().unwrap();
    let text = String::from_utf8(doctor.stdout).unwrap();
    assert!(!doctor.status.success());
    assert!(text.contains("(none: it is statically linked and stripped"), "{text}");
}

/// A program of Rust with its allocator in the executable, built once for all runs of the tests.
fn rust(allocator: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rust_allocators");
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--locked", "--bin", allocator]).env("CARGO_TARGET_DIR", &folder);
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rust_allocators");
    let output = cargo.current_dir(source).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    folder.join("debug").join(allocator)
}

fn check_rust(allocator: &str) {
    let path = rust(allocator);
    let idle = launch(&[], &[path.as_os_str()]);
    let run = launch(&[], &[path.as_os_str(), "work".as_ref()]);
    assert!(run.status.success(), "{}", run.stderr);
    let process = run.exact();
    let work: Totals = std::array::from_fn(|index| process.totals()[index] - idle.exact().totals()[index]);
    // For each number up to 100, a vector of as many bytes, which grows to 1 + 2 n, and an aligned block of 64 n.
    let sum: u64 = (1..=100).sum();
    let churned = (300, sum + 100 + 2 * sum + 64 * sum);
    let leaked = (4, 1001 + 1024 + 1003 + 1004);
    // `std` copies the word on the command line, and the list of words is longer by one.
    let argument = (1, 4 + 24);
    let resized = (1, 500);
    let freed = (churned.0 + resized.0 + argument.0, churned.1 + resized.1 + argument.1);
    assert_eq!(work, [freed.0 + leaked.0, freed.1 + leaked.1, freed.0, freed.1]);
    let leaks: Vec<_> = process.stacks().iter().map(|stack| stack.outstanding()).collect();
    for bytes in [1001, 1024, 1003, 1004] {
        assert!(leaks.contains(&(bytes, 1)), "{bytes} in {leaks:?}");
    }
}

#[test]
fn rust_with_jemalloc_in_the_executable() {
    check_rust("jemalloc");
}

#[test]
fn rust_with_mimalloc_in_the_executable() {
    check_rust("mimalloc");
}

#[test]
fn an_allocator_in_an_executable_that_was_stripped_is_told_of() {
    for allocator in ["jemalloc", "mimalloc"] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(allocator);
        let strip = Command::new("strip").arg(rust(allocator)).arg("-o").arg(&path).status().unwrap();
        assert!(strip.success());
        let warnings = launch(&[], &[&path]).last().warnings();
        let told = format!("it seems to have {allocator} in it");
        assert!(warnings.iter().any(|warning| warning.contains(&told)), "{warnings:?}");
    }
}
