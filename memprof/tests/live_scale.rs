//! Many of everything, at default sizes or in tables that are far smaller than what goes through them: nothing is lost, and every figure
//! is right.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::{Command, Stdio},
};

use support::{Attached, Program, StackReport, TALK, Target, attach};

/// `at(path)` calls `leaf(path)` on a stack of its own for each path, of so many bits.
const STACKS: &str = r#"
#include <pthread.h>
static void leaf(int path);
static void step(int bits, int path);
__attribute__((noinline)) static void left(int bits, int path) { step(bits, path); }
__attribute__((noinline)) static void right(int bits, int path) { step(bits, path); }
__attribute__((noinline)) static void step(int bits, int path) {
    if (bits == 0) leaf(path);
    else if (path >> (bits - 1) & 1) right(bits - 1, path);
    else left(bits - 1, path);
}
"#;

fn c(source: &str) -> Program {
    let flags = ["-fno-builtin", "-pthread", "-w", "-fno-optimize-sibling-calls"];
    Program::c(&format!("{TALK}{STACKS}{source}"), &flags)
}

#[test]
fn more_stacks_than_the_table_has_room_for_are_all_there() {
    const BITS: usize = 14;
    const PATHS: usize = 1 << BITS;
    const STEP: usize = 2_000;
    const KEPT: usize = 64;
    const ROUNDS: u64 = 2;
    let program = c(&format!(
        r#"
static void leaf(int path) {{
    for (int i = 0; i < 3; i++) {{
        void *block = malloc(1 + path);
        CHECK(block);
        if (i || path % {KEPT}) free(block);
    }}
}}
int main(void) {{
    say("ready");
    for (int round = 0; round < {ROUNDS}; round++)
        for (int path = 0; path < {PATHS}; path++) {{
            if (path % {STEP} == 0) await_line();
            step({BITS}, path);
            if (path % {STEP} == {STEP} - 1) say("done");
        }}
    return 0;
}}"#
    ));
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let mut memprof = attach(target.pid(), &["--stack-entries", "4000", "--interval", "1h"]);
    memprof.ready();
    let steps = PATHS.div_ceil(STEP);
    for step in 1..=ROUNDS as usize * steps {
        target.tell("go");
        // A round ends within a step, and nobody waits for that.
        if step % steps != 0 {
            assert_eq!(target.hear(), "done");
            memprof.signal("USR1");
            memprof.next_report();
        }
    }
    let run = memprof.wait();
    let process = run.exact();
    let kept: Vec<usize> = (0..PATHS).step_by(KEPT).collect();
    let bytes = |paths: &mut dyn Iterator<Item = usize>| paths.map(|path| ROUNDS * (1 + path as u64)).sum::<u64>();
    let blocks = ROUNDS * kept.len() as u64;
    assert_eq!(process.outstanding(), (bytes(&mut kept.iter().copied()), blocks));
    let (all, all_bytes) = (3 * ROUNDS * PATHS as u64, 3 * bytes(&mut (0..PATHS)));
    assert_eq!(process.totals(), [all, all_bytes, all - blocks, all_bytes - bytes(&mut kept.iter().copied())]);
    let stacks: BTreeMap<_, _> = process.stacks().into_iter().map(|stack| (path_of(&stack), stack)).collect();
    assert!(stacks.keys().copied().eq(kept));
    for (path, stack) in stacks {
        assert_eq!(stack.outstanding(), (ROUNDS * (1 + path as u64), ROUNDS));
        assert_eq!(stack.total_allocations(), 3 * ROUNDS);
    }
}

/// The path that a stack is of.
fn path_of(stack: &StackReport<'_>) -> usize {
    let functions: Vec<_> = stack.functions().into_iter().flatten().collect();
    let end = functions.iter().position(|function| function == "main").unwrap();
    assert_eq!(functions[..2], ["leaf", "step"]);
    let turns = functions[2..end].chunks(2).rev();
    turns.fold(0, |path, turn| {
        assert_eq!(turn[1], "step");
        path << 1 | usize::from(turn[0] == "right")
    })
}

#[test]
fn a_stack_whose_only_block_is_in_a_realloc_meanwhile_is_known_or_counted_as_lost() {
    let program = c(r#"
static int to_inside[2], from_inside[2];
static void *block;
static char c;
// Fails, when it is told to.
void *realloc(void *old, size_t size) {
    say("inside");
    CHECK(read(to_inside[0], &c, 1) == 1);
    return NULL;
}
static void *resize(void *unused) {
    CHECK(read(to_inside[0], &c, 1) == 1);
    CHECK(!realloc(block, 1000));
    CHECK(write(from_inside[1], "", 1) == 1);
    return NULL;
}
static void leaf(int path) { free(malloc(10)); }
int main(void) {
    pthread_t thread;
    CHECK(!pipe(to_inside) && !pipe(from_inside));
    CHECK(!pthread_create(&thread, NULL, resize, NULL));
    say("ready");
    await_line();
    block = malloc(77);
    CHECK(write(to_inside[1], "", 1) == 1);
    await_line();
    for (int path = 0; path < 1000; path++) step(10, path);
    say("made");
    await_line();
    CHECK(write(to_inside[1], "", 1) == 1);
    CHECK(read(from_inside[0], &c, 1) == 1);
    say("failed");
    await_line();
    return 0;
}"#);
    for (entries, lost) in [("10000", 0), ("1500", 1)] {
        let (mut target, mut memprof) = loop {
            let mut target = Target::piped(program.path());
            assert_eq!(target.hear(), "ready");
            let mut memprof = attach(target.pid(), &["--stack-entries", entries, "--interval", "1h"]);
            memprof.ready();
            target.tell("resize");
            assert_eq!(target.hear(), "inside");
            // What a drain tells is kept by that drain: the stack has to be from an earlier one. If one came between malloc and
            // realloc, the block was drained, and is not in the call.
            memprof.signal("USR1");
            if memprof.next_report().process().outstanding() == (0, 0) {
                break (target, memprof);
            }
        };
        target.tell("make stacks");
        assert_eq!(target.hear(), "made");
        memprof.signal("USR1");
        memprof.next_report();
        target.tell("fail");
        assert_eq!(target.hear(), "failed");
        let run = memprof.interrupt();
        assert_eq!(run.last().lost(), (0, 0, lost));
        assert_eq!(run.last().process().outstanding(), (77, 1));
        assert_eq!(run.last().process().stacks()[0].functions().is_empty(), lost == 1);
    }
}

#[test]
fn a_million_live_blocks_come_and_go_and_none_is_lost() {
    const BLOCKS: u64 = 1_000_000;
    /// Of so many parts is each of three phases. What happens in one fits into nursery and ring, however slow the machine is that
    /// drains them.
    const PARTS: u64 = 5;
    let program = c(&format!(
        r#"
enum {{ THREADS = 2, SHARE = {BLOCKS} / THREADS, PARTS = {PARTS}, PART = SHARE / PARTS }};
static void *blocks[THREADS][SHARE];
static pthread_barrier_t all;
static void leaf(int path) {{}}
__attribute__((noinline)) static void fill(void **mine) {{
    for (int i = 0; i < PART; i++) CHECK(mine[i] = malloc(24));
}}
__attribute__((noinline)) static void replace(void **mine) {{
    for (int i = 0; i < PART; i++) {{
        free(mine[i]);
        CHECK(mine[i] = malloc(40));
        free(malloc(100));
    }}
}}
// What the other thread has allocated.
__attribute__((noinline)) static void release(void **others) {{
    for (int i = 0; i < PART; i++) free(others[i]);
}}
static void in_parts(void (*phase)(void **), void **blocks) {{
    for (int part = 0; part < PARTS; part++) {{
        pthread_barrier_wait(&all);
        phase(blocks + part * PART);
        pthread_barrier_wait(&all);
    }}
}}
static void *work(void *index) {{
    in_parts(fill, blocks[(long)index]);
    in_parts(replace, blocks[(long)index]);
    in_parts(release, blocks[!index]);
    pause();
}}
int main(void) {{
    pthread_t threads[THREADS];
    pthread_barrier_init(&all, NULL, THREADS + 1);
    for (long i = 0; i < THREADS; i++) CHECK(!pthread_create(&threads[i], NULL, work, (void *)i));
    say("ready");
    for (int i = 0; i < 3 * PARTS; i++) {{
        await_line();
        pthread_barrier_wait(&all);
        pthread_barrier_wait(&all);
        say("done");
    }}
    await_line();
    return 0;
}}"#
    ));
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    // Only what it does by itself at default sizes.
    let mut memprof = attach(target.pid(), &["--interval", "1h"]);
    memprof.ready();
    let mut after_part = |memprof: &mut Attached| {
        target.tell("go");
        assert_eq!(target.hear(), "done");
        memprof.signal("USR1");
        let report = memprof.next_report();
        assert_eq!((report.lost(), report.warnings()), ((0, 0, 0), Vec::new()));
        let process = report.process();
        (process.totals(), process.outstanding())
    };
    let mut after = |memprof: &mut Attached| (0..PARTS).map(|_| after_part(memprof)).last().unwrap();
    assert_eq!(after(&mut memprof), ([BLOCKS, 24 * BLOCKS, 0, 0], (24 * BLOCKS, BLOCKS)));
    let allocated = [3 * BLOCKS, (24 + 40 + 100) * BLOCKS];
    let freed = [2 * BLOCKS, (24 + 100) * BLOCKS];
    assert_eq!(after(&mut memprof), ([allocated, freed].concat().try_into().unwrap(), (40 * BLOCKS, BLOCKS)));
    assert_eq!(after(&mut memprof), ([allocated, allocated].concat().try_into().unwrap(), (0, 0)));
    let run = memprof.interrupt();
    assert!(run.exact().stacks().is_empty());
}

#[test]
fn a_process_with_500_libraries_is_attached_to_and_each_is_told_from_the_others() {
    const LIBRARIES: usize = 500;
    let program = c(r#"
#include <dlfcn.h>
static void leaf(int path) {}
static void (*allocate[1000])(void);
static void load(const char *file, int index) {
    void *library = dlopen(file, RTLD_NOW);
    CHECK(library && (allocate[index] = dlsym(library, "allocate")));
}
int main(int argc, char **argv) {
    for (int i = 1; i < argc - 1; i++) load(argv[i], i);
    say("ready");
    await_line();
    for (int i = 1; i < argc - 1; i++) allocate[i]();
    load(argv[argc - 1], argc - 1);
    allocate[argc - 1]();
    return 0;
}"#);
    let files = libraries(&program, LIBRARIES + 1);
    let mut target =
        Target::start(Command::new(program.path()).args(&files).stdin(Stdio::piped()).stdout(Stdio::piped()));
    assert_eq!(target.hear(), "ready");
    let mut memprof = attach(target.pid(), &[]);
    memprof.ready();
    target.tell("allocate");
    let run = memprof.wait();
    assert_eq!(run.last().lost(), (0, 0, 0));
    assert_eq!(run.last().warnings(), Vec::<String>::new());
    let process = run.last().process();
    let stacks = process.stacks();
    let of_libraries: BTreeMap<_, _> =
        stacks.iter().filter_map(|stack| Some((library_of(stack)?, (stack.outstanding(), depth(stack))))).collect();
    // Whole, whatever is above `main`.
    let depths: BTreeSet<_> = of_libraries.values().map(|(_, depth)| *depth).collect();
    assert_eq!(depths.len(), 1, "{depths:?}");
    for (number, file) in files.iter().enumerate() {
        assert_eq!(of_libraries[file.to_str().unwrap()].0, (1000 + number as u64, 1), "{}", file.display());
    }
    assert_eq!(of_libraries.len(), LIBRARIES + 1);
}

/// So many libraries, each of which allocates once, 1000 bytes and its number: one that is compiled, and copies of it with other numbers.
fn libraries(program: &Program, count: usize) -> Vec<PathBuf> {
    const SOURCE: &str = r#"
#include <stdlib.h>
const char number[] = "number 0000";
void allocate(void) { malloc(1000 + atoi(number + 7)); }
"#;
    let first = program.folder().join("library.so");
    std::fs::write(program.folder().join("library.c"), SOURCE).unwrap();
    let mut gcc = Command::new("gcc");
    gcc.args(["-w", "-shared", "-fPIC", "-O0", "-Wl,--build-id=none", "library.c", "-o", "library.so"]);
    assert!(gcc.current_dir(program.folder()).status().unwrap().success());
    let bytes = std::fs::read(first).unwrap();
    let place = bytes.windows(11).position(|bytes| bytes == b"number 0000").unwrap() + 7;
    let copy = |number| {
        let path = program.folder().join(format!("library{number}.so"));
        let mut bytes = bytes.clone();
        bytes[place..place + 4].copy_from_slice(format!("{number:04}").as_bytes());
        std::fs::write(&path, bytes).unwrap();
        path
    };
    (0..count).map(copy).collect()
}

/// The file of a stack's first function, if that is ours.
fn library_of(stack: &StackReport<'_>) -> Option<String> {
    let frame = &stack.0["frames"][0];
    (frame["function"] == "allocate").then(|| frame["module"].as_str().unwrap().to_owned())
}

fn depth(stack: &StackReport<'_>) -> usize {
    stack.functions().len()
}
