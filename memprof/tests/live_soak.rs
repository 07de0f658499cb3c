//! A minute under load: the figures stay exact, nothing is lost at the default sizes, and memprof does not grow.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::{
    fs,
    time::{Duration, Instant},
};

use support::{Program, Target, attach, numbers};

const LOAD: &str = r#"
#define _GNU_SOURCE
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#define CHECK(condition) do { if (!(condition)) { dprintf(2, "line %d\n", __LINE__); _exit(1); } } while (0)
enum { THREADS = 4, SLOTS = 50000 };
static pthread_barrier_t all;
static volatile int is_over;
// Blocks that any thread may take, free or replace.
static _Atomic(size_t *) slots[SLOTS];
static struct totals { unsigned long allocations, bytes, frees, freed; } totals[THREADS];

static uint64_t next(uint64_t *state) {
    *state ^= *state << 13; *state ^= *state >> 7; *state ^= *state << 17;
    return *state;
}
static size_t some_size(uint64_t random) { return sizeof(size_t) + (random & 15 ? random % 500 : random % 20000); }
static size_t *took(struct totals *mine, size_t *block, size_t size) {
    CHECK(block);
    mine->allocations++; mine->bytes += size;
    *block = size;
    return block;
}
static void release(struct totals *mine, size_t *block) {
    if (!block) return;
    mine->frees++; mine->freed += *block;
    free(block);
}
static void *work(void *argument) {
    int self = (int)(intptr_t)argument;
    struct totals *mine = &totals[self];
    uint64_t state = 88172645463325252u + self;
    pthread_barrier_wait(&all);
    while (!is_over) {
        uint64_t random = next(&state);
        size_t size = some_size(random >> 32);
        if (random & 3) {
            // Most live for a moment only.
            release(mine, took(mine, malloc(size), size));
            continue;
        }
        _Atomic(size_t *) *slot = &slots[(random >> 4) % SLOTS];
        size_t *block = atomic_exchange(slot, NULL);
        if (block && random & 4) {
            mine->frees++; mine->freed += *block;
            block = took(mine, realloc(block, size), size);
        } else {
            release(mine, block);
            block = random & 8 ? took(mine, malloc(size), size) : took(mine, calloc(1, size), size);
        }
        release(mine, atomic_exchange(slot, block));
    }
    pthread_barrier_wait(&all);
    pthread_barrier_wait(&all);
    return NULL;
}
static void say(const char *text, int length) { CHECK(write(1, text, length) == length); }
static void await_line(void) { char c; do CHECK(read(0, &c, 1) == 1); while (c != '\n'); }
int main(void) {
    pthread_t threads[THREADS];
    char text[200];
    pthread_barrier_init(&all, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++) CHECK(!pthread_create(&threads[i], NULL, work, (void *)(intptr_t)i));
    say("ready\n", 6);
    await_line();
    pthread_barrier_wait(&all);
    await_line();
    is_over = 1;
    pthread_barrier_wait(&all);
    struct totals sum = {};
    for (int i = 0; i < THREADS; i++) {
        sum.allocations += totals[i].allocations; sum.bytes += totals[i].bytes;
        sum.frees += totals[i].frees; sum.freed += totals[i].freed;
    }
    say(text, snprintf(text, sizeof text, "%lu %lu %lu %lu\n", sum.allocations, sum.bytes, sum.frees, sum.freed));
    pause();
}
"#;

const WARM_UP: Duration = Duration::from_secs(15);
const LOAD_TIME: Duration = Duration::from_secs(60);

/// What memprof may grow by after the warm-up. By then every slot has been filled many times over, so that the number of
/// live blocks, on which its memory may depend, stands still; there is left what its allocator does with the index of
/// 50,000 blocks (0.6 MB) when it is rebuilt. A leak of one byte for each allocation would already be above it.
const MOST_GROWTH_KIB: u64 = 1024;

fn resident_kib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    numbers(status.lines().find(|line| line.starts_with("VmRSS:")).unwrap())[0]
}

#[test]
fn a_minute_of_load_is_exact_and_memprof_stays_small() {
    let program = Program::c(LOAD, &["-O1", "-fno-builtin", "-fno-omit-frame-pointer", "-pthread", "-w"]);
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let reports = program.folder().join("reports");
    let mut memprof = attach(target.pid(), &["--interval", "1s", "--output", reports.to_str().unwrap()]);
    memprof.ready();
    let start = Instant::now();
    target.tell("go");
    std::thread::sleep(WARM_UP);
    let mut resident = Vec::new();
    while start.elapsed() < LOAD_TIME {
        resident.push(resident_kib(memprof.pid()));
        std::thread::sleep(Duration::from_secs(1));
    }
    target.tell("over");
    let truth = numbers(&target.hear());
    assert!(memprof.interrupt().status.success());
    let reports = fs::read_to_string(&reports).unwrap();
    let last = support::Report(serde_json::from_str(reports.lines().last().unwrap()).unwrap());
    assert_eq!(last.warnings(), Vec::<String>::new());
    assert_eq!(last.lost(), (0, 0, 0));
    let process = last.process();
    assert_eq!(process.totals().to_vec(), truth);
    assert_eq!(process.outstanding(), (truth[1] - truth[3], truth[0] - truth[2]));
    assert!(truth[0] > 2_000_000, "{} allocations are no load", truth[0]);
    let held: u64 = process.stacks().iter().map(|stack| stack.outstanding().0).sum();
    assert_eq!(held, truth[1] - truth[3]);
    let (least, most) = (resident.iter().min().unwrap(), resident.iter().max().unwrap());
    assert!(most - least <= MOST_GROWTH_KIB, "VmRSS in KiB, each second: {resident:?}");
}
