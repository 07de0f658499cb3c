//! Each allocator function by itself, its failures included, from C, C++ and Rust: every figure to the unit.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use support::{ProcessReport, Program, Run, launch};

/// Allocations, their bytes, frees, their bytes.
type Totals = [u64; 4];

/// What a line holds at the end: a word that only this line has, bytes, allocations.
type Leak<'a> = (&'a str, u64, u64);

const C_PRELUDE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#define CHECK(condition) do { if (!(condition)) { dprintf(2, "line %d\n", __LINE__); _exit(1); } } while (0)
static volatile size_t none = 0, huge = SIZE_MAX / 2 + 1, terabytes = (size_t)100 << 40, half = (size_t)1 << 32;
"#;

/// Runs a `main` of C with this body, and returns what was seen.
fn run_c(body: &str) -> (Program, Run) {
    let source = format!("{C_PRELUDE}\nint main(void) {{\n{body}\nreturn 0;\n}}\n");
    let program = Program::c(&source, &["-fno-builtin", "-w", "-ldl"]);
    let run = launch(&[], &[program.path()]);
    assert!(run.status.success(), "{}", run.stderr);
    (program, run)
}

fn check_c(body: &str, totals: Totals, leaks: &[Leak<'_>]) {
    let (program, run) = run_c(body);
    let process = run.exact();
    assert_eq!(process.totals(), totals);
    let outstanding = (totals[1] - totals[3], totals[0] - totals[2]);
    assert_eq!(process.outstanding(), outstanding);
    let source = |mark| format!("program.c:{}", program.line(mark));
    let found: Vec<_> = leaks.iter().map(|&(mark, ..)| process.outstanding_at(&source(mark))).collect();
    assert_eq!(found, leaks.iter().map(|&(_, bytes, count)| (bytes, count)).collect::<Vec<_>>());
    let sum = leaks.iter().fold((0, 0), |sum, leak| (sum.0 + leak.1, sum.1 + leak.2));
    assert_eq!(sum, outstanding, "the test's own figures");
    assert_eq!(process.stacks().len(), leaks.len());
}

#[test]
fn malloc() {
    check_c(
        "
        char *p = malloc(10); CHECK(p); free(p);
        CHECK(malloc(none)); // nothing
        for (int i = 0; i < 3; i++) CHECK(malloc(100)); // hundreds
        CHECK(!malloc(huge) && errno == ENOMEM);
        CHECK(!malloc(terabytes * 10) && errno == ENOMEM);
        p = malloc(1 << 20); CHECK(p); free(p);",
        [6, 310 + (1 << 20), 2, 10 + (1 << 20)],
        &[("// nothing", 0, 1), ("// hundreds", 300, 3)],
    );
}

#[test]
fn calloc() {
    check_c(
        "
        CHECK(calloc(16, 16)); // square
        free(calloc(3, 7));
        CHECK(calloc(none, 5)); // nothing
        CHECK(!calloc(huge, 4));
        CHECK(!calloc(half, half));
        CHECK(!calloc(half + 1, half + 1));",
        [3, 277, 1, 21],
        &[("// square", 256, 1), ("// nothing", 0, 1)],
    );
}

#[test]
fn realloc() {
    check_c(
        "
        char *top = realloc(NULL, 24); CHECK(top);
        uintptr_t before = (uintptr_t)top;
        top = realloc(top, 4000); CHECK((uintptr_t)top == before);
        top = realloc(top, 16); CHECK((uintptr_t)top == before); // shrunk
        char *first = malloc(64), *second = malloc(64);
        before = (uintptr_t)first;
        first = realloc(first, 100000); CHECK((uintptr_t)first != before); // moved
        CHECK(!realloc(first, huge) && errno == ENOMEM);
        CHECK(!realloc(first, terabytes * 10) && errno == ENOMEM);
        memset(first, 1, 100000);
        CHECK(!realloc(second, none));",
        [6, 104_168, 4, 4152],
        &[("// shrunk", 16, 1), ("// moved", 100_000, 1)],
    );
}

#[test]
fn realloc_of_mapped_blocks() {
    check_c(
        "
        char *p = malloc(1 << 20); CHECK(p);
        p = realloc(p, 1 << 24); CHECK(p);
        CHECK(!realloc(p, terabytes * 10));
        p = realloc(p, 1 << 19); CHECK(p); // mapped
        p = realloc(malloc(50), 1 << 18); CHECK(p); // to a mapping",
        [5, (1 << 20) + (1 << 24) + (1 << 19) + 50 + (1 << 18), 3, (1 << 20) + (1 << 24) + 50],
        &[("// mapped", 1 << 19, 1), ("// to a mapping", 1 << 18, 1)],
    );
}

#[test]
fn a_block_that_a_failed_realloc_left_alone_is_freed_once() {
    check_c(
        "
        char *p = malloc(70);
        for (int i = 0; i < 10; i++) CHECK(!realloc(p, huge));
        free(p);
        CHECK(!realloc(malloc(30), huge)); // forgotten",
        [2, 100, 1, 70],
        &[("// forgotten", 30, 1)],
    );
}

#[test]
fn reallocarray() {
    check_c(
        "
        char *p = reallocarray(NULL, 3, 8); CHECK(p);
        p = reallocarray(p, 10, 10); CHECK(p); // table
        CHECK(!reallocarray(p, huge, 4) && errno == ENOMEM);
        CHECK(!reallocarray(p, half, half) && errno == ENOMEM);
        memset(p, 1, 100);
        CHECK(!reallocarray(malloc(5), none, 8));",
        [3, 129, 2, 29],
        &[("// table", 100, 1)],
    );
}

#[test]
fn posix_memalign() {
    check_c(
        "
        void *p = NULL;
        CHECK(posix_memalign(&p, 64, 100) == 0 && p); // aligned
        CHECK(posix_memalign(&p, 4096, 10) == 0); free(p);
        CHECK(posix_memalign(&p, 16, none) == 0 && p); // nothing
        CHECK(posix_memalign(&p, 3, 10) == EINVAL);
        CHECK(posix_memalign(&p, 0, 10) == EINVAL);
        CHECK(posix_memalign(&p, 24, 10) == EINVAL);
        CHECK(posix_memalign(&p, 64, huge) == ENOMEM);",
        [3, 110, 1, 10],
        &[("// aligned", 100, 1), ("// nothing", 0, 1)],
    );
}

#[test]
fn aligned_alloc_and_memalign_are_one_function_twice_named() {
    check_c(
        "
        CHECK(aligned_alloc(64, 128)); // standard
        free(aligned_alloc(16, 32));
        CHECK(!aligned_alloc(64, huge));
        CHECK(memalign(4096, 100)); // older
        free(memalign(8, 9));
        CHECK(!memalign(4096, huge));",
        [4, 269, 2, 41],
        &[("// standard", 128, 1), ("// older", 100, 1)],
    );
}

#[test]
fn valloc_and_pvalloc() {
    check_c(
        "
        CHECK(valloc(100)); // page-aligned
        free(valloc(5));
        CHECK(!valloc(huge));
        CHECK(pvalloc(200)); // whole pages
        free(pvalloc(6));
        CHECK(!pvalloc(huge));",
        [4, 311, 2, 11],
        &[("// page-aligned", 100, 1), ("// whole pages", 200, 1)],
    );
}

#[test]
fn free_and_the_name_it_had() {
    check_c(
        r#"
        for (int i = 0; i < 100; i++) free(NULL);
        char *p = malloc(1); free(p);
        free(calloc(1, 2)); free(realloc(NULL, 3)); free(reallocarray(NULL, 1, 4)); free(aligned_alloc(16, 5));
        free(memalign(32, 6)); free(valloc(7)); free(pvalloc(8));
        void *q; CHECK(posix_memalign(&q, 8, 9) == 0); free(q);
        // A symbol that programs made before 2017 have.
        void (*cfree)(void *) = (void (*)(void *))dlvsym(RTLD_DEFAULT, "cfree", "GLIBC_2.2.5");
        q = malloc(10); CHECK(q);
        if (cfree) cfree(q); else free(q);"#,
        [10, 55, 10, 55],
        &[],
    );
}

#[test]
fn what_libc_allocates_for_its_caller() {
    let (program, run) = run_c(
        r#"
        CHECK(strdup("123456789")); // strdup
        CHECK(strndup("123456789", 4)); // strndup
        char *text; CHECK(asprintf(&text, "%s-%d", "seven", 7) == 7); // asprintf
        int ends[2]; CHECK(pipe(ends) == 0 && dup2(ends[0], 0) == 0 && write(ends[1], "a line\n", 7) == 7);
        static char buffer[4096]; setvbuf(stdin, buffer, _IOFBF, sizeof buffer);
        char *line = NULL; size_t size = 0;
        CHECK(getline(&line, &size, stdin) == 7 && size == 120); // getdelim
        FILE *stream = fopen("/dev/null", "w"); CHECK(stream && fclose(stream) == 0);"#,
    );
    let process = run.exact();
    let [allocations, bytes, frees, freed] = process.totals();
    // `asprintf` and `fopen` take more, and give it back.
    assert_eq!((bytes - freed, allocations - frees), (10 + 5 + 8 + 120, 4));
    assert_eq!(process.outstanding(), (10 + 5 + 8 + 120, 4));
    let callers: Vec<_> =
        process.stacks().iter().map(|stack| (stack.outstanding().0, stack.functions()[0].clone())).collect();
    for (bytes, name) in [(10, "strdup"), (5, "strndup"), (8, "asprintf"), (120, "getdelim")] {
        let caller = callers.iter().find(|caller| caller.0 == bytes).unwrap().1.as_deref();
        assert!(caller.is_some_and(|caller| caller.contains(name)), "{caller:?} is not {name}");
        let line = program.line(&format!("// {name}"));
        assert_eq!(process.outstanding_at(&format!("program.c:{line}")), (bytes, 1), "{name}");
    }
}

/// What a program of a language's runtime allocates before `main` and does not free.
fn runtime_of(empty: &Program) -> Totals {
    launch(&[], &[empty.path()]).exact().totals()
}

const CPP: &str = r#"
#include <cstdint>
#include <map>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>
struct alignas(256) Wide { char bytes[512]; };
struct Node { Node() : value(1) {} ~Node() { value = 0; } volatile int value; char rest[36]; };
static volatile std::size_t huge = SIZE_MAX / 4;

__attribute__((noinline)) Node *leak_one() { return new Node; } // leaks one
__attribute__((noinline)) Node *leak_many() { return new Node[10]; } // leaks many
__attribute__((noinline)) Wide *leak_wide() { return new Wide; } // leaks wide
__attribute__((noinline)) char *leak_quietly() { return new (std::nothrow) char[77]; } // leaks quietly

static void churn_operators() {
    delete new Node;
    delete[] new char[11];
    delete new Wide;
    delete[] new (std::nothrow) char[13];
    if (new (std::nothrow) char[huge]) throw 1;
}
static void churn_containers() {
    std::vector<int> numbers;
    for (int i = 0; i < 1000; i++) numbers.push_back(i);
    std::map<int, int> map;
    for (int i = 0; i < 100; i++) map[i] = i;
    std::string text(100, 'x');
}
static void churn_exceptions() {
    for (int i = 0; i < 1000; i++) try { throw i; } catch (int) {}
}
int main(int argc, char **) {
    if (argc == 1) return 0;
    Node *one = leak_one(); // one
    Node *many = leak_many(); // many
    Wide *wide = leak_wide(); // wide
    char *quiet = leak_quietly(); // quietly
    churn_operators();
    churn_containers();
    if (argc == 3) churn_exceptions();
    return !one || !many || !wide || !quiet;
}
"#;

#[test]
fn operators_and_containers_of_cpp() {
    let program = Program::cpp(CPP, &["-std=c++17"]);
    let runtime = runtime_of(&program);
    let run = launch(&[], &[program.path().as_os_str(), "churn".as_ref()]);
    assert!(run.status.success());
    let process = run.exact();
    let node = 40;
    let leaked = (node + (8 + 10 * node) + 512 + 77, 4);
    // A vector that doubles eleven times, the nodes of a map, and a string with its end.
    let containers = (4 * 2047 + 100 * 40 + 101, 11 + 100 + 1);
    // The last: `operator new` threw a `bad_alloc` of 8 bytes behind 128 of the runtime's, and the nothrow one caught it.
    let operators = (node + 11 + 512 + 13 + 136, 5);
    let freed = (containers.0 + operators.0, containers.1 + operators.1);
    let expected = [leaked.1 + freed.1, leaked.0 + freed.0, freed.1, freed.0];
    let above_runtime: Vec<_> = process.totals().iter().zip(runtime).map(|(all, runtime)| all - runtime).collect();
    assert_eq!(above_runtime, expected);
    let leaks = [
        ("one", node, "leak_one()"),
        ("many", 8 + 10 * node, "leak_many()"),
        ("wide", 512, "leak_wide()"),
        ("quietly", 77, "leak_quietly()"),
    ];
    for (mark, bytes, function) in leaks {
        let at = |mark: &str| process.outstanding_at(&format!("program.cc:{}", program.line(mark)));
        assert_eq!([at(&format!("// {mark}")), at(&format!("// leaks {mark}"))], [(bytes, 1); 2], "{mark}");
        assert_is_called_through_operator_new(&process, function);
    }
}

/// Nothing is between the function and `malloc` but operators, and nothing between it and `main`.
fn assert_is_called_through_operator_new(process: &ProcessReport<'_>, function: &str) {
    let stacks = process.stacks();
    let names: Vec<Vec<_>> = stacks.iter().map(|stack| stack.functions().into_iter().flatten().collect()).collect();
    let place = |names: &Vec<String>| names.iter().position(|name| name == function);
    let (stack, caller) = names.iter().find_map(|names| Some((names, place(names)?))).unwrap();
    assert!(caller > 0 && stack[..caller].iter().all(|name| name.starts_with("operator new")), "{stack:?}");
    assert_eq!(stack[caller + 1], "main");
}

#[test]
fn exceptions_of_cpp_are_allocated_and_freed() {
    let program = Program::cpp(CPP, &["-std=c++17"]);
    let without = launch(&[], &[program.path().as_os_str(), "churn".as_ref()]);
    let with = launch(&[], &[program.path().as_os_str(), "churn".as_ref(), "throw".as_ref()]);
    let (without, with) = (without.exact(), with.exact());
    let [allocations, bytes, frees, freed]: [u64; 4] =
        std::array::from_fn(|index| with.totals()[index] - without.totals()[index]);
    assert_eq!((allocations, frees, bytes), (1000, 1000, freed));
    assert_eq!(bytes % 1000, 0);
    assert_eq!(with.outstanding(), without.outstanding());
}

const RUST: &str = r#"
use std::alloc::{GlobalAlloc, Layout, System};

#[inline(never)]
fn leak_box() -> &'static mut [u8; 1000] {
    Box::leak(std::hint::black_box(Box::new([7; 1000]))) // box
}
#[inline(never)]
fn leak_vec() -> &'static mut [u32] {
    let mut numbers: Vec<u32> = Vec::with_capacity(50); // vec
    numbers.resize(50, 1);
    numbers.leak()
}
#[inline(never)]
fn leak_string() -> &'static str {
    String::from("ein String von 31 Zeichen Länge").leak() // string
}
#[inline(never)]
fn leak_aligned() -> *mut u8 {
    // Not the last thing it does, or it would jump to the allocator and be on no stack.
    std::hint::black_box(unsafe { System.alloc(Layout::from_size_align(300, 128).unwrap()) }) // aligned
}
#[inline(never)]
fn leak_zeroed() -> *mut u8 {
    std::hint::black_box(unsafe { System.alloc_zeroed(Layout::from_size_align(123, 8).unwrap()) }) // zeroed
}
#[inline(never)]
fn churn() {
    for size in 1..=100 {
        let mut numbers: Vec<u8> = Vec::with_capacity(size);
        numbers.push(1);
        numbers.reserve_exact(size * 2);
        std::hint::black_box(numbers);
    }
}
fn main() {
    if std::env::args_os().len() == 1 { return; }
    std::hint::black_box((leak_box(), leak_vec(), leak_string(), leak_aligned(), leak_zeroed()));
    churn();
}
"#;

fn check_rust(flags: &[&str]) {
    let program = Program::rust(RUST, &[&["--edition=2021"], flags].concat());
    // The arguments are copied, once each.
    let runtime = runtime_of(&program);
    let run = launch(&[], &[program.path()]);
    assert_eq!(run.exact().totals(), runtime);
    let run = launch(&[], &[program.path().as_os_str(), "churn".as_ref()]);
    assert!(run.status.success());
    let process = run.exact();
    let marks = [("// box", 1000), ("// vec", 200), ("// string", 32), ("// aligned", 300), ("// zeroed", 123)];
    for (mark, bytes) in marks {
        assert_eq!(process.outstanding_at(&format!("program.rs:{}", program.line(mark))), (bytes, 1), "{mark}");
    }
    let (bytes, allocations) = process.outstanding();
    let leaked: u64 = marks.iter().map(|mark| mark.1).sum();
    assert_eq!((bytes, allocations), (leaked + runtime[1] - runtime[3], 5 + runtime[0] - runtime[2]));
    let [allocations, allocated, frees, freed] = process.totals();
    assert_eq!((allocated - freed, allocations - frees), process.outstanding());
}

#[test]
fn rust_without_optimization() {
    check_rust(&[]);
}

#[test]
fn rust_with_optimization() {
    check_rust(&["-O"]);
}
