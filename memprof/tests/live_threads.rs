//! Threads, and control flow that leaves the allocator by other ways than a return.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::{fs, process::Command};

use support::{Attached, Program, ROOM_FOR_COPIES, Target, attach, launch, memprof, numbers, start, wait_until};

const C_PRELUDE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>
#define CHECK(condition) do { if (!(condition)) { dprintf(2, "line %d\n", __LINE__); _exit(1); } } while (0)
// Without allocating, unlike stdio's.
#define say(...) do { char text[200]; write(1, text, snprintf(text, sizeof text, __VA_ARGS__)); } while (0)
static void await_line(void) { char c; do CHECK(read(0, &c, 1) == 1); while (c != '\n'); }
"#;

fn c(source: &str, flags: &[&str]) -> Program {
    Program::c(&format!("{C_PRELUDE}{source}"), &[&["-fno-builtin", "-pthread", "-w"], flags].concat())
}

/// Every thread allocates for the next one, which frees, but for one block in sixteen.
const EXCHANGE: &str = r#"
enum { THREADS = 8, BLOCKS = 20000 };
static pthread_barrier_t all;
static struct { pthread_mutex_t lock; void *blocks[BLOCKS]; int filled, taken; } mailboxes[THREADS];
static atomic_ulong allocations, bytes, frees, freed;

static void put(int to, size_t size) {
    size_t *block = malloc(size); // allocated
    CHECK(block);
    *block = size;
    pthread_mutex_lock(&mailboxes[to].lock);
    mailboxes[to].blocks[mailboxes[to].filled++] = block;
    pthread_mutex_unlock(&mailboxes[to].lock);
    allocations++; bytes += size;
}
static int take(int from) {
    size_t *block = NULL;
    int number;
    pthread_mutex_lock(&mailboxes[from].lock);
    if (mailboxes[from].taken < mailboxes[from].filled) block = mailboxes[from].blocks[number = mailboxes[from].taken++];
    pthread_mutex_unlock(&mailboxes[from].lock);
    if (!block) return 0;
    if (number % 16 == 0) return 1;
    frees++; freed += *block;
    free(block);
    return 1;
}
static void *work(void *argument) {
    int self = (int)(intptr_t)argument;
    pthread_barrier_wait(&all);
    for (int i = 0; i < BLOCKS; i++) {
        if (i == BLOCKS / 2) for (int meeting = 0; meeting < 2; meeting++) pthread_barrier_wait(&all);
        put((self + i % (THREADS - 1) + 1) % THREADS, 8 + (self * 7919 + i * 104729) % 2000);
        take(self);
    }
    pthread_barrier_wait(&all);
    while (take(self)) {}
    pthread_barrier_wait(&all);
    pthread_barrier_wait(&all);
    return NULL;
}
int main(void) {
    pthread_t threads[THREADS];
    pthread_barrier_init(&all, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++) CHECK(!pthread_create(&threads[i], NULL, work, (void *)(intptr_t)i));
    say("ready\n");
    await_line();
    for (int i = 0; i < 2; i++) pthread_barrier_wait(&all);
    say("half\n");
    await_line();
    for (int i = 0; i < 3; i++) pthread_barrier_wait(&all);
    say("%lu %lu %lu %lu\n", allocations, bytes, frees, freed);
    await_line();
    return 0;
}
"#;

#[test]
fn eight_threads_free_each_others_blocks() {
    let program = c(EXCHANGE, &[]);
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let mut memprof = attach(target.pid(), &["--interval", "1h"]);
    memprof.ready();
    target.tell("go");
    assert_eq!(target.hear(), "half");
    // What lives by now is drained, and freed later.
    memprof.signal("USR1");
    assert!(memprof.next_report().process().outstanding().1 > 0);
    target.tell("go on");
    let truth = numbers(&target.hear());
    let run = memprof.interrupt();
    let process = run.exact();
    assert_eq!(process.totals().to_vec(), truth);
    let outstanding = (truth[1] - truth[3], truth[0] - truth[2]);
    assert_eq!(process.outstanding(), outstanding);
    assert_eq!(process.outstanding_at(&format!("program.c:{}", program.line("// allocated"))), outstanding);
}

const SHORT_LIVES: &str = r#"
static void *live(void *argument) {
    free(malloc(50));
    if ((intptr_t)argument % 10 == 0) CHECK(malloc(100)); // kept
    return NULL;
}
int main(void) {
    for (intptr_t i = 0; i < 3000; i++) {
        pthread_t thread;
        CHECK(!pthread_create(&thread, NULL, live, (void *)i));
        CHECK(!pthread_join(thread, NULL));
    }
    return 0;
}
"#;

#[test]
fn thousands_of_threads_leave_nothing_in_the_table_of_threads() {
    let program = c(SHORT_LIVES, &[]);
    let run = launch(&["--threads", "64"], &[program.path()]);
    assert!(run.status.success());
    let process = run.exact();
    assert_eq!(process.outstanding_at(&format!("program.c:{}", program.line("// kept"))), (30_000, 300));
    let [allocations, bytes, frees, freed] = process.totals();
    assert_eq!((bytes - freed, allocations - frees), process.outstanding());
    assert!(frees >= 3000);
}

/// The main thread ends, which takes its probes along; then the one that they went to; a third goes on.
const HEADLESS: &str = r#"
static void *last(void *before) {
    CHECK(!pthread_join(*(pthread_t *)before, NULL));
    await_line();
    for (int i = 0; i < 1000; i++) free(malloc(10 + i));
    for (int i = 0; i < 100; i++) CHECK(malloc(70)); // alone
    say("done\n");
    exit(0);
}
static void *middle(void *main_thread) {
    CHECK(!pthread_join(*(pthread_t *)main_thread, NULL));
    static pthread_t self, other;
    self = pthread_self();
    CHECK(!pthread_create(&other, NULL, last, &self));
    say("alone\n");
    await_line();
    return NULL;
}
int main(void) {
    static pthread_t self, other;
    self = pthread_self();
    CHECK(malloc(33)); // before
    await_line();
    CHECK(malloc(44)); // together
    CHECK(!pthread_create(&other, NULL, middle, &self));
    pthread_exit(NULL);
}
"#;

fn await_warning(reports: &std::path::Path, text: &str) {
    wait_until(text, || fs::read_to_string(reports).is_ok_and(|reports| reports.contains(text)));
}

const LEADER_GONE: &str = "was without probes for a moment after its main thread ended";
const OTHER_GONE: &str = "was without probes for a moment after one of its threads ended";

fn check_headless(program: &Program, reports: &str, mut expected: Vec<(&str, (u64, u64))>) {
    let last = support::Report(serde_json::from_str(reports.lines().last().unwrap()).unwrap());
    let process = last.process();
    expected.push(("// alone", (7000, 100)));
    for (mark, outstanding) in expected {
        assert_eq!(process.outstanding_at(&format!("program.c:{}", program.line(mark))), outstanding, "{mark}");
    }
    assert!(process.exited());
    assert_eq!(last.lost(), (0, 0, 0));
    let warnings = last.warnings();
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings[0].contains(LEADER_GONE) && warnings[1].contains(OTHER_GONE), "{warnings:?}");
}

#[test]
fn an_attached_process_whose_main_thread_ends_is_followed_in_the_others() {
    check_attached_headless(&[]);
}

#[test]
fn a_process_whose_children_are_followed_and_whose_main_thread_ends_is_followed_in_the_others() {
    check_attached_headless(&["--follow-children"]);
}

/// Another memprof comes and goes: when its probes are taken out, the kernel looks at all that are in the same places.
fn check_attached_headless(options: &[&str]) {
    let program = c(HEADLESS, &[]);
    let mut target = Target::piped(program.path());
    let reports = program.folder().join("reports");
    let common = ["--interval", "100ms", "--output", reports.to_str().unwrap()];
    let mut memprof = attach(target.pid(), &[&common, options].concat());
    memprof.ready();
    target.tell("go");
    assert_eq!(target.hear(), "alone");
    await_warning(&reports, LEADER_GONE);
    attach(target.pid(), &["--duration", "100ms"]).wait();
    target.tell("go");
    await_warning(&reports, OTHER_GONE);
    attach(target.pid(), &["--duration", "100ms"]).wait();
    target.tell("go");
    assert_eq!(target.hear(), "done");
    assert!(memprof.wait().status.success());
    check_headless(&program, &fs::read_to_string(&reports).unwrap(), vec![("// together", (44, 1))]);
}

#[test]
fn a_launched_process_whose_main_thread_ends_is_followed_in_the_others() {
    let program = c(HEADLESS, &[]);
    let reports = program.folder().join("reports");
    let options = ["--interval", "100ms", "--output", reports.to_str().unwrap()];
    let mut memprof: Attached = start(&options, &[program.path()]);
    memprof.tell("go");
    await_warning(&reports, LEADER_GONE);
    memprof.tell("go");
    await_warning(&reports, OTHER_GONE);
    memprof.tell("go");
    assert!(memprof.wait().status.success());
    let expected = vec![("// before", (33, 1)), ("// together", (44, 1))];
    check_headless(&program, &fs::read_to_string(&reports).unwrap(), expected);
}

#[test]
fn threads_that_end_with_the_process_raise_no_doubt() {
    let program = c(
        r"
static void *wait(void *argument) { CHECK(malloc(10)); pause(); return NULL; }
int main(void) {
    pthread_t thread;
    for (int i = 0; i < 50; i++) CHECK(!pthread_create(&thread, NULL, wait, NULL));
    usleep(100000);
    return 0;
}",
        &[],
    );
    let run = launch(&[], &[program.path()]);
    assert!(run.status.success());
    assert!(run.exact().outstanding().1 >= 50);
}

/// An allocator that any signal may interrupt, in an object of its own, as an allocator usually is. It takes its time.
const ASYNC_SAFE_ALLOCATOR: &str = r"
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
static _Atomic(char *) next;
static char *end;
static __attribute__((noinline)) void linger(void) { for (volatile int i = 0; i < 300; i++) {} }
__attribute__((constructor)) static void map(void) {
    size_t bytes = (size_t)4 << 30;
    next = mmap(0, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    end = next + bytes;
}
void *malloc(size_t size) {
    if (!next) map();
    linger();
    char *block = atomic_fetch_add(&next, (size + 31) / 16 * 16);
    linger();
    return block + size > end ? NULL : block;
}
void *calloc(size_t count, size_t size) { return malloc(count * size); }
void *realloc(void *old, size_t size) { return old ? NULL : malloc(size); }
void free(void *block) { linger(); }
";

const JUMPING: &str = r#"
static sigjmp_buf start_over;
static volatile sig_atomic_t is_armed, jumps;
static volatile unsigned long calls, got;
static void jump(int signal) { if (is_armed) { jumps++; siglongjmp(start_over, 1); } }
static void tick_every(int microseconds) {
    struct itimerval interval = {{0, microseconds}, {0, microseconds}};
    setitimer(ITIMER_REAL, &interval, NULL);
}
// Steps over what the abandoned calls have left on the stack.
static __attribute__((noinline)) void deep_after(int count) {
    volatile char room[20000];
    for (int i = 0; i < count; i++) CHECK(malloc(20)); // deep
    room[0] = room[19999] = 1;
}
static __attribute__((noinline)) void after(int count) {
    for (int i = 0; i < count; i++) CHECK(malloc(30)); // level
    for (int i = 0; i < count; i++) CHECK(calloc(1, 40)); // other
}
int main(void) {
    struct sigaction action = {.sa_handler = jump, .sa_flags = SA_NODEFER};
    sigaction(SIGALRM, &action, NULL);
    tick_every(500);
    sigsetjmp(start_over, 1);
    is_armed = 1;
    while (jumps < 2000) {
        calls++;
        if (malloc(8)) got++; // interrupted
    }
    is_armed = 0;
    tick_every(0);
    DEEP;
    after(1000);
    say("%lu %lu\n", calls, got);
    return 0;
}
"#;

/// Compiles the allocator where the program can be linked with it.
fn with_allocator(source: &str, flags: &[&str]) -> Program {
    let program = c(source, flags);
    fs::write(program.folder().join("allocator.c"), ASYNC_SAFE_ALLOCATOR).unwrap();
    let compile = |arguments: &[&str]| {
        let status = Command::new("gcc").args(arguments).current_dir(program.folder()).status().unwrap();
        assert!(status.success());
    };
    compile(&[
        "-g",
        "-fno-builtin",
        "-shared",
        "-fPIC",
        "-Wl,-soname,liballocator.so",
        "allocator.c",
        "-o",
        "liballocator.so",
    ]);
    compile(
        &[
            &["-g", "-fno-builtin", "-w", "-pthread", "program.c", "-o", "program"],
            flags,
            &["./liballocator.so", "-Wl,-rpath,$ORIGIN"],
        ]
        .concat(),
    );
    program
}

fn interrupted(run: &support::Run) -> (u64, u64) {
    let report = run.last();
    let causes = &report.0["lost"]["causes"];
    let missed = causes["missed_returns"].as_u64().unwrap();
    assert_eq!(report.lost(), (missed, 0, 0));
    assert!(missed > 100, "{missed}");
    assert!(report.warnings().iter().all(|warning| warning.contains("not seen to return")), "{:?}", report.warnings());
    assert_eq!(report.warnings().len(), 1);
    let [allocations, bytes, frees, freed] = report.process().totals();
    assert_eq!((frees, freed), (0, 0));
    assert_eq!(report.process().outstanding(), (bytes, allocations));
    (allocations, missed)
}

#[test]
fn a_jump_out_of_a_signal_handler_out_of_malloc_costs_that_call_alone() {
    let program = with_allocator(JUMPING, &["-DDEEP="]);
    let run = launch(&ROOM_FOR_COPIES, &[program.path()]);
    assert!(run.status.success(), "{}", run.stderr);
    let (calls, got) = (run.numbers(0)[0], run.numbers(0)[1]);
    let process = run.last().process();
    let at = |mark| process.outstanding_at(&format!("program.c:{}", program.line(mark)));
    assert_eq!(at("// level"), (30_000, 1000));
    assert_eq!(at("// other"), (40_000, 1000));
    // A jump may come after the return and before the program has counted it, or before the call.
    let (allocations, missed) = interrupted(&run);
    let (_, interrupted) = at("// interrupted");
    assert_eq!(interrupted + 2000, allocations);
    assert!(got <= interrupted && interrupted + missed <= calls, "{got} {interrupted} {missed} {calls}");
}

#[test]
fn what_an_abandoned_call_hides_is_counted() {
    // The allocator is part of the program, so that by their callers its calls cannot be told from nested ones.
    let source = format!("{ASYNC_SAFE_ALLOCATOR}{JUMPING}");
    let program = c(&source, &["-DDEEP=deep_after(1000)"]);
    let run = launch(&ROOM_FOR_COPIES, &[program.path()]);
    assert!(run.status.success(), "{}", run.stderr);
    let calls = run.numbers(0)[0];
    let process = run.last().process();
    let at = |mark| process.outstanding_at(&format!("program.c:{}", program.line(mark)));
    assert_eq!(at("// level"), (30_000, 1000));
    assert_eq!(at("// other"), (40_000, 1000));
    let (allocations, missed) = interrupted(&run);
    let (_, deep) = at("// deep");
    let (_, interrupted) = at("// interrupted");
    assert_eq!(interrupted + deep + 2000, allocations);
    // Each of the thousand is shown or counted as lost.
    assert!(deep == 1000 || missed >= 1000 - deep, "{deep} {missed}");
    assert!(interrupted + deep + missed <= calls + 1000, "{interrupted} {deep} {missed} {calls}");
}

#[test]
fn a_signal_handler_allocates_for_itself() {
    let program = with_allocator(
        r#"
static volatile unsigned long handled, got;
static void handle(int signal) {
    CHECK(malloc(100)); // in the handler
    handled++;
}
int main(void) {
    struct sigaction action = {.sa_handler = handle};
    sigaction(SIGALRM, &action, NULL);
    struct itimerval interval = {{0, 500}, {0, 500}}, none = {};
    setitimer(ITIMER_REAL, &interval, NULL);
    while (handled < 2000) {
        CHECK(malloc(8)); // in main
        got++;
    }
    setitimer(ITIMER_REAL, &none, NULL);
    say("%lu %lu\n", got, handled);
    return 0;
}
"#,
        &[],
    );
    let run = launch(&ROOM_FOR_COPIES, &[program.path()]);
    assert!(run.status.success(), "{}", run.stderr);
    let (got, handled) = (run.numbers(0)[0], run.numbers(0)[1]);
    let process = run.exact();
    assert_eq!(process.outstanding(), (8 * got + 100 * handled, got + handled));
    let of_caller = |name: &str| {
        let stacks = process.stacks();
        let there = stacks.iter().filter(|stack| stack.functions()[0].as_deref() == Some(name));
        there.map(|stack| stack.outstanding()).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    };
    assert_eq!(of_caller("main"), (8 * got, got));
    assert_eq!(of_caller("handle"), (100 * handled, handled));
}

/// Puts a header before each block, so that its pointers are not those of the functions it calls.
const INTERPOSER: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
struct header { size_t size; void *start; };
static void *(*libc_malloc)(size_t);
static void (*libc_free)(void *);
static __attribute__((noinline)) void find(void) {
    libc_free = (void (*)(void *))dlsym(RTLD_NEXT, "free");
    libc_malloc = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
}
static __attribute__((noinline)) void *allocate(size_t alignment, size_t size) {
    if (!libc_malloc) find();
    char *start = libc_malloc(size + alignment + sizeof(struct header));
    if (!start) return NULL;
    uintptr_t block = ((uintptr_t)start + sizeof(struct header) + alignment - 1) / alignment * alignment;
    ((struct header *)block)[-1] = (struct header){size, start};
    return (void *)block;
}
void *malloc(size_t size) { return allocate(16, size); }
int posix_memalign(void **block, size_t alignment, size_t size) { return (*block = allocate(alignment, size)) ? 0 : 12; }
void *aligned_alloc(size_t alignment, size_t size) { return allocate(alignment, size); }
void free(void *block) { if (block) libc_free(((struct header *)block)[-1].start); }
void *calloc(size_t count, size_t size) {
    void *block = malloc(count * size);
    return block ? memset(block, 0, count * size) : NULL;
}
void *realloc(void *old, size_t size) {
    void *block = malloc(size);
    if (!block || !old) return block;
    size_t had = ((struct header *)old)[-1].size;
    memcpy(block, old, had < size ? had : size);
    free(old);
    return block;
}
"#;

#[test]
fn an_interposed_malloc_that_calls_libcs_is_one_event() {
    let program = c(
        r"
int main(void) {
    for (int i = 0; i < 1000; i++) free(malloc(10));
    for (int i = 0; i < 10; i++) CHECK(malloc(100)); // malloc
    CHECK(calloc(5, 6)); // calloc
    free(calloc(7, 8));
    void *block = malloc(20);
    CHECK(block = realloc(block, 40));
    CHECK(block = realloc(block, 60)); // realloc
    return 0;
}",
        &[],
    );
    fs::write(program.folder().join("interposer.c"), INTERPOSER).unwrap();
    let arguments = ["-g", "-fno-builtin", "-shared", "-fPIC", "interposer.c", "-o", "interposer.so"];
    assert!(Command::new("gcc").args(arguments).current_dir(program.folder()).status().unwrap().success());
    let mut command = memprof();
    command.args(["--format", "json", "--top", "0", "--"]).arg(program.path());
    let output = command.env("LD_PRELOAD", program.folder().join("interposer.so")).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report = support::Report(serde_json::from_str(&stdout).unwrap());
    assert_eq!((report.lost(), report.warnings().len()), ((0, 0, 0), 0), "{:?}", report.warnings());
    let process = report.process();
    assert_eq!(process.totals(), [1015, 11_206, 1003, 10_116]);
    assert_eq!(process.outstanding(), (1090, 12));
    for (mark, outstanding) in [("// malloc", (1000, 10)), ("// calloc", (30, 1)), ("// realloc", (60, 1))] {
        assert_eq!(process.outstanding_at(&format!("program.c:{}", program.line(mark))), outstanding, "{mark}");
    }
}
