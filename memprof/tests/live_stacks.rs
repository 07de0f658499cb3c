//! Whole stacks of programs that keep no frame pointers: every frame, from the allocator's caller to the thread's first.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::{collections::BTreeMap, ffi::CString};

use perf_event::{Builder, Counter, events::Software};
use support::{ProcessReport, Program, ROOM_FOR_COPIES, Run, StackReport, Target, attach, launch};

/// What this program leaks, it leaks below as many calls of `level` as its argument says, having read a line if there is
/// one more argument.
const DEEP: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#define BARRIER(value) __asm__ volatile ("" : "+r"(value) : : "memory")

__attribute__((noinline)) static void *leaf(void) {
    void *block = malloc(64);
    BARRIER(block);
    return block;
}

__attribute__((noinline)) static void *level(int depth) {
    volatile char padding[24];
    padding[depth % 24] = 1;
    void *block = depth > 1 ? level(depth - 1) : leaf();
    BARRIER(block);
    return block;
}

int main(int count, char **arguments) {
    char line;
    if (count > 2 && (write(1, "ready\n", 6) != 6 || read(0, &line, 1) != 1)) return 1;
    void *block = level(atoi(arguments[1]));
    BARRIER(block);
    return 0;
}
"#;

fn without_frame_pointers(source: &str, flags: &[&str]) -> Program {
    Program::c(source, &[&["-O2", "-fomit-frame-pointer", "-pthread", "-w"], flags].concat())
}

/// The functions of the only stack that holds something.
fn functions<'a>(process: &ProcessReport<'a>) -> (StackReport<'a>, Vec<String>) {
    let stacks = process.stacks();
    assert_eq!(stacks.len(), 1, "{stacks:?}");
    let names = stacks[0].functions().into_iter().map(|name| name.unwrap_or_default()).collect();
    (stacks[0], names)
}

fn truncated<'a>(stack: &StackReport<'a>) -> Option<&'a str> {
    stack.0["truncated"].as_str()
}

/// What stands below a program's `main`, in whatever libc this is; its outermost frame is `_start`.
fn assert_starts_at(names: &[String], main: usize) {
    assert_eq!(names[main], "main", "{names:?}");
    assert_eq!(names.last().map(String::as_str), Some("_start"), "{names:?}");
    assert!(names.len() <= main + 4, "{names:?}");
}

fn assert_whole(run: &Run, levels: usize) {
    let process = run.last().process();
    assert_eq!(process.outstanding(), (64, 1));
    let (stack, names) = functions(&process);
    assert_eq!(truncated(&stack), None);
    assert_eq!(names[0], "leaf");
    assert!(names[1..=levels].iter().all(|name| name == "level"), "{names:?}");
    assert_starts_at(&names, levels + 1);
    assert_eq!(process.0["truncated_stacks"], 0);
}

#[test]
fn a_launched_program_of_a_hundred_and_ten_levels_has_them_all() {
    let program = without_frame_pointers(DEEP, &[]);
    for levels in [1, 2, 16, 110] {
        assert_whole(&launch(&[], &[program.path().as_os_str(), levels.to_string().as_ref()]), levels);
    }
}

/// Lets [`DEEP`] begin when memprof is attached to it.
fn attach_to_waiting(program: &Program, levels: usize) -> Run {
    let mut command = std::process::Command::new(program.path());
    let pipe = std::process::Stdio::piped;
    let mut target = Target::start(command.args([&levels.to_string(), "wait"]).stdin(pipe()).stdout(pipe()));
    assert_eq!(target.hear(), "ready");
    let mut memprof = attach(target.pid(), &[]);
    memprof.ready();
    target.tell("");
    memprof.wait()
}

#[test]
fn an_attached_program_has_the_same_stack_as_a_launched_one() {
    let program = without_frame_pointers(DEEP, &[]);
    let launched = launch(&[], &[program.path().as_os_str(), "20".as_ref()]);
    let attached = attach_to_waiting(&program, 20);
    assert_whole(&attached, 20);
    let id = |run: &Run| functions(&run.last().process()).0.0["id"].as_str().unwrap().to_owned();
    assert_eq!(id(&attached), id(&launched));
}

#[test]
fn what_is_deeper_than_what_is_kept_says_so() {
    let program = without_frame_pointers(DEEP, &[]);
    let run = launch(&[], &[program.path().as_os_str(), "200".as_ref()]);
    let process = run.last().process();
    let (stack, names) = functions(&process);
    assert_eq!(names.len(), 127);
    assert!(names[0] == "leaf" && names[1..].iter().all(|name| name == "level"), "{names:?}");
    assert_eq!(truncated(&stack), Some("more than 127 frames"));
    assert_eq!(process.0["truncated_stacks"], 1);
}

#[test]
fn forced_frame_pointers_find_what_keeps_them() {
    let program = Program::c(DEEP, &["-O1", "-fno-omit-frame-pointer", "-fno-optimize-sibling-calls", "-w"]);
    let run = launch(&["--unwind", "fp"], &[program.path().as_os_str(), "30".as_ref()]);
    let process = run.last().process();
    let (_, names) = functions(&process);
    assert_eq!(names[0], "leaf");
    assert!(names[1..=30].iter().all(|name| name == "level") && names[31] == "main", "{names:?}");
}

#[test]
fn forced_tables_are_enough_for_usual_programs() {
    let program = without_frame_pointers(DEEP, &[]);
    assert_whole(&launch(&["--unwind", "dwarf"], &[program.path().as_os_str(), "30".as_ref()]), 30);
}

#[test]
fn with_little_memory_rows_of_calls_are_enough() {
    let program = without_frame_pointers(DEEP, &[]);
    // libc alone has some 190 KB of rows.
    let run = launch(&["--unwind-memory", "64KiB"], &[program.path().as_os_str(), "30".as_ref()]);
    assert_whole(&run, 30);
}

#[test]
fn a_stack_goes_through_a_signal_handler_on_a_stack_of_its_own() {
    let source = r#"
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>
#define BARRIER(value) __asm__ volatile ("" : "+r"(value) : : "memory")
static void *volatile kept;
__attribute__((noinline)) static void handle(int signal) { kept = malloc(64); }
__attribute__((noinline)) static int interrupted(int depth) {
    volatile char padding[40];
    padding[depth] = 1;
    int result = depth > 0 ? interrupted(depth - 1) : raise(SIGUSR1);
    BARRIER(result);
    return result;
}
static char stack[65536];
int main(void) {
    char line;
    if (write(1, "ready\n", 6) != 6 || read(0, &line, 1) != 1) return 1;
    stack_t alternate = { .ss_sp = stack, .ss_size = sizeof stack };
    struct sigaction action = { .sa_handler = handle, .sa_flags = SA_ONSTACK };
    if (sigaltstack(&alternate, NULL) || sigaction(SIGUSR1, &action, NULL)) return 1;
    return interrupted(3);
}
"#;
    let program = without_frame_pointers(source, &[]);
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let mut memprof = attach(target.pid(), &[]);
    memprof.ready();
    target.tell("");
    let run = memprof.wait();
    let process = run.last().process();
    let (stack, names) = functions(&process);
    assert_eq!(truncated(&stack), None, "{names:?}");
    assert_eq!(names[0], "handle");
    let interrupted: Vec<_> = (0..names.len()).filter(|index| names[*index] == "interrupted").collect();
    assert_eq!(interrupted.len(), 4, "{names:?}");
    assert_starts_at(&names, interrupted[3] + 1);
}

#[test]
fn a_stack_of_a_thread_ends_where_the_thread_began() {
    let source = r#"
#include <pthread.h>
#include <stdlib.h>
static void *volatile kept;
__attribute__((noinline)) static void work(void) { kept = malloc(64); }
static void *run(void *argument) { work(); return argument; }
int main(void) {
    pthread_t thread;
    if (pthread_create(&thread, NULL, run, NULL)) return 1;
    return pthread_join(thread, NULL);
}
"#;
    let program = without_frame_pointers(source, &["-fno-optimize-sibling-calls"]);
    let run = launch(&["--min-size", "64B", "--max-size", "64B"], &[program.path()]);
    let process = run.last().process();
    let (stack, names) = functions(&process);
    assert_eq!(truncated(&stack), None, "{names:?}");
    assert_eq!(names[..2], ["work", "run"]);
    assert!(names.len() <= 4 && !names.iter().any(|name| name == "main"), "{names:?}");
}

/// Another tool's return probe on a function of a program, in whoever runs it, for as long as the counters live.
fn probe_returns(program: &Program, function: &str) -> Vec<Counter> {
    let symbols = std::process::Command::new("nm").arg(program.path()).output().unwrap().stdout;
    let symbols = String::from_utf8(symbols).unwrap();
    let address = symbols.lines().find_map(|line| line.strip_suffix(&format!(" t {function}"))).unwrap();
    // The linker puts the code of such a program at the address that is its offset in the file.
    let offset = u64::from_str_radix(address, 16).unwrap();
    let path = CString::new(program.path().as_os_str().as_encoded_bytes()).unwrap();
    let kind = std::fs::read_to_string("/sys/bus/event_source/devices/uprobe/type").unwrap();
    let on_cpu = |cpu| {
        let mut builder = Builder::new(Software::DUMMY);
        let attributes = builder.any_pid().one_cpu(cpu).enabled(true).attrs_mut();
        attributes.type_ = kind.trim().parse().unwrap();
        // perf_event_open(2): a return probe, at this offset in this file.
        attributes.config = 1;
        attributes.uprobe_path = path.as_ptr() as u64;
        attributes.probe_offset = offset;
        builder.build().unwrap()
    };
    (0..std::thread::available_parallelism().unwrap().get()).map(on_cpu).collect()
}

#[test]
fn return_probes_of_others_are_looked_behind() {
    let program = without_frame_pointers(DEEP, &["-fno-ipa-cp"]);
    let mut probes = probe_returns(&program, "level");
    // Probed when it runs already, its stacks are unwound by the programs; launched, as a copy.
    assert_whole(&attach_to_waiting(&program, 20), 20);
    assert_whole(&launch(&[], &[program.path().as_os_str(), "20".as_ref()]), 20);
    let hits: u64 = probes.iter_mut().map(|probe| probe.read().unwrap()).sum();
    assert_eq!(hits, 2 * 20);
}

#[test]
fn sixty_four_threads_have_each_their_own_deep_stacks() {
    let source = r#"
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#define BARRIER(value) __asm__ volatile ("" : "+r"(value) : : "memory")
enum { THREADS = 64, BLOCKS = 100 };
static pthread_barrier_t all;
__attribute__((noinline)) static void *leaf(int thread) {
    void *block = malloc(10000 + thread);
    BARRIER(block);
    return block;
}
__attribute__((noinline)) static void *level(int depth, int thread) {
    volatile char padding[40];
    padding[depth % 40] = 1;
    void *block = depth > 1 ? level(depth - 1, thread) : leaf(thread);
    BARRIER(block);
    return block;
}
static void *run(void *argument) {
    int thread = (intptr_t)argument;
    pthread_barrier_wait(&all);
    for (int i = 0; i < BLOCKS; i++) {
        void *block = level(40 + thread, thread);
        if (i % 2) free(block);
    }
    return argument;
}
int main(void) {
    pthread_t threads[THREADS];
    if (pthread_barrier_init(&all, NULL, THREADS)) return 1;
    for (intptr_t i = 0; i < THREADS; i++) if (pthread_create(&threads[i], NULL, run, (void *)i)) return 1;
    for (int i = 0; i < THREADS; i++) if (pthread_join(threads[i], NULL)) return 1;
    return 0;
}
"#;
    let program = without_frame_pointers(source, &["-fno-optimize-sibling-calls", "-fno-builtin"]);
    let run = launch(&[&["--min-size", "10000B"][..], &ROOM_FOR_COPIES].concat(), &[program.path()]);
    let process = run.exact();
    let mut stacks = process.stacks();
    stacks.sort_by_key(|stack| stack.outstanding());
    assert_eq!((stacks.len(), process.0["truncated_stacks"].as_u64()), (64, Some(0)));
    for (thread, stack) in stacks.iter().enumerate() {
        assert_eq!(stack.outstanding(), (50 * (10_000 + thread as u64), 50));
        assert_eq!((stack.total_allocations(), truncated(stack)), (100, None));
        let names: Vec<_> = stack.functions().into_iter().map(Option::unwrap_or_default).collect();
        let levels = 40 + thread;
        assert_eq!(names[0], "leaf");
        assert!(names[1..=levels].iter().all(|name| name == "level"), "{names:?}");
        assert_eq!(names[levels + 1], "run", "{names:?}");
        assert!(names.len() <= levels + 4 && !names.iter().any(|name| name == "main"), "{names:?}");
    }
}

/// Takes one of 64 paths to the same `leaf`, with the stack pointer at the same place: each differs from others in one return address.
/// What it leaks there says which.
const PATHS: &str = r#"
#include <stdlib.h>
#define BARRIER(value) __asm__ volatile ("" : "+r"(value) : : "memory")
enum { DEPTH = 6 };
static void descend(int depth, unsigned path);

__attribute__((noinline)) static void leaf(unsigned path) {
    void *block = malloc(1 + path);
    BARRIER(block);
}
__attribute__((noinline)) static void left(int depth, unsigned path) {
    volatile char padding[PADDING];
    padding[depth] = 1;
    descend(depth, path);
    BARRIER(path);
}
__attribute__((noinline)) static void right(int depth, unsigned path) {
    volatile char padding[PADDING];
    padding[depth] = 2;
    descend(depth, path);
    BARRIER(path);
}
__attribute__((noinline)) static void descend(int depth, unsigned path) {
    if (depth == DEPTH) leaf(path);
    else if (path >> depth & 1) right(depth + 1, path);
    else left(depth + 1, path);
    BARRIER(path);
}
int main(void) {
    for (int round = 0; round < 2; round++)
        for (unsigned path = 0; path < 64; path++)
            for (int i = 0; i < 5; i++) descend(0, path);
    unsigned state = 1;
    for (int i = 0; i < 64 * 90; i++) descend(0, i % 64 ^ (state = state * 1664525 + 1013904223) >> 26 & 3);
    return 0;
}
"#;

/// The path that a stack of [`PATHS`] took.
fn path_of(stack: &StackReport<'_>) -> u64 {
    let names = stack.functions().into_iter().flatten();
    let turns: Vec<_> = names.filter(|name| name == "left" || name == "right").collect();
    assert_eq!(turns.len(), 6, "{turns:?}");
    turns.iter().fold(0, |path, turn| path << 1 | u64::from(turn == "right"))
}

#[test]
fn stacks_that_differ_in_one_return_address_are_told_apart() {
    for (flags, padding) in
        [("-fomit-frame-pointer", 24), ("-fno-omit-frame-pointer", 24), ("-fomit-frame-pointer", 900)]
    {
        let program = Program::c(PATHS, &["-O2", flags, &format!("-DPADDING={padding}")]);
        let run = launch(&[&["--nursery-entries", "100000"][..], &ROOM_FOR_COPIES].concat(), &[program.path()]);
        let process = run.exact();
        assert_eq!(process.outstanding().1, 64 * 100);
        let mut paths = BTreeMap::new();
        for stack in process.stacks() {
            let (bytes, blocks) = stack.outstanding();
            let path: &mut (u64, u64) = paths.entry(path_of(&stack)).or_default();
            (path.0, path.1) = (path.0 + bytes, path.1 + blocks);
        }
        assert!(paths.keys().copied().eq(0..64), "{flags} {padding}: {paths:?}");
        for (path, (bytes, blocks)) in paths {
            assert_eq!(bytes, blocks * (1 + path), "{flags} {padding}: path {path}");
        }
    }
}

/// Two ways to the same `leaf`, with the stack pointer at the same place: the frames between are of other sizes, which rbp alone tells.
const ROOMS: &str = r#"
#include <alloca.h>
#include <stdlib.h>
#define BARRIER(value) __asm__ volatile ("" : "+r"(value) : : "memory")

__attribute__((noinline)) static void leaf(size_t size) {
    void *block = malloc(size);
    BARRIER(block);
}
__attribute__((noinline)) static void inner(size_t room, size_t size) {
    volatile char *start = alloca(room);
    start[0] = 1;
    leaf(size);
    BARRIER(start);
}
__attribute__((noinline)) static void outer(size_t room, size_t size) {
    volatile char *start = alloca(room);
    start[0] = 1;
    inner(1024 - room, size);
    BARRIER(start);
}
__attribute__((noinline)) static void one(size_t room) { outer(room, 1); BARRIER(room); }
__attribute__((noinline)) static void two(size_t room) { outer(room, 2); BARRIER(room); BARRIER(room); }
int main(void) {
    for (int i = 0; i < 500; i++) one(256);
    for (int i = 0; i < 500; i++) two(768);
    for (int i = 0; i < 500; i++) { one(256); two(768); }
    return 0;
}
"#;

#[test]
fn frames_of_other_sizes_are_told_apart() {
    let program = without_frame_pointers(ROOMS, &[]);
    let run = launch(&[&["--nursery-entries", "100000"][..], &ROOM_FOR_COPIES].concat(), &[program.path()]);
    let process = run.exact();
    for (name, bytes) in [("one", 1000), ("two", 2000)] {
        let stacks = process.stacks();
        let there = stacks.iter().filter(|stack| stack.functions().iter().flatten().any(|function| function == name));
        let sum = there.map(StackReport::outstanding).fold((0, 0), |sum, stack| (sum.0 + stack.0, sum.1 + stack.1));
        assert_eq!(sum, (bytes, 1000), "{name}");
    }
}
