//! Losses: with kernel tables that are too small for the load, each loss is counted by its cause, shown with its
//! remedy, and the rest still adds up.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::collections::BTreeMap;

use support::{Program, Run, Target, attach};

const C_PRELUDE: &str = r#"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#define CHECK(condition) do { if (!(condition)) { dprintf(2, "line %d\n", __LINE__); _exit(1); } } while (0)
// Without allocating, unlike stdio's.
static void await_line(void) { char c; do CHECK(read(0, &c, 1) == 1); while (c != '\n'); }
"#;

fn c(source: &str, flags: &[&str]) -> Program {
    Program::c(&format!("{C_PRELUDE}{source}"), &[&["-fno-builtin", "-pthread", "-w"], flags].concat())
}

fn causes(run: &Run) -> Vec<(String, u64)> {
    let causes = run.last().0["lost"]["causes"].as_object().unwrap();
    let counts = causes.iter().map(|(name, count)| (name.clone(), count.as_u64().unwrap()));
    counts.filter(|(_, count)| *count > 0).collect()
}

/// The one warning, which names the count, the cause, and the option to change.
fn assert_warned(run: &Run, count: u64, cause: &str, option: &str) {
    let warnings = run.last().warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    for text in [format!("{count} "), cause.into(), option.into()] {
        assert!(warnings[0].contains(&text), "{:?} does not say {text:?}", warnings[0]);
    }
}

/// A nursery that is full hands on what it has no place for: only when the ring is full, too, something is lost.
#[test]
fn a_full_nursery_loses_nothing_while_the_ring_has_room() {
    let (run, survivors) = with_a_full_nursery("16MiB");
    assert_eq!(run.last().lost(), (0, 0, 0));
    let process = run.last().process();
    assert_eq!(process.outstanding(), (16 * survivors, survivors));
    assert_eq!(process.totals(), [2 * survivors, survivors * (16 + 32), survivors, 32 * survivors]);
}

#[test]
fn a_full_nursery_and_ring_lose_allocations_and_say_how_many() {
    let (run, survivors) = with_a_full_nursery("4KiB");
    let (lost, lost_frees, stacks) = run.last().lost();
    assert!(lost > 0 && lost <= 2 * survivors, "{lost}");
    assert_eq!(stacks, 0);
    let counts = BTreeMap::from_iter(causes(&run));
    assert_eq!(counts["nursery_full"], lost);
    assert!(run.last().warnings().iter().any(|warning| {
        [&format!("{lost} "), "nursery", "ring buffer", "--nursery-entries"].iter().all(|text| warning.contains(*text))
    }));
    let process = run.last().process();
    let (_, outstanding) = process.outstanding();
    let [allocations, allocated, frees, _] = process.totals();
    // Every allocation is counted, recorded or not.
    assert_eq!((allocations, allocated), (2 * survivors, survivors * (16 + 32)));
    // Nothing is shown that is not there, unless its free was lost.
    assert!(outstanding <= survivors + lost_frees, "{outstanding} {lost_frees}");
    assert_eq!(allocations - frees - outstanding, lost);
}

/// Blocks that stay, and as many that do not, while nobody drains. Returns how many stay.
fn with_a_full_nursery(ring: &str) -> (Run, u64) {
    const SURVIVORS: u64 = 20_000;
    let program = c(
        &format!(
            r#"
int main(void) {{
    write(1, "ready\n", 6);
    await_line();
    for (int i = 0; i < {SURVIVORS}; i++) {{
        CHECK(malloc(16));
        free(malloc(32));
    }}
    write(1, "full\n", 5);
    await_line();
    return 0;
}}"#
        ),
        &[],
    );
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let mut memprof = attach(target.pid(), &["--nursery-entries", "1000", "--ring-size", ring]);
    memprof.ready();
    memprof.signal("STOP");
    target.tell("allocate");
    assert_eq!(target.hear(), "full");
    memprof.signal("CONT");
    (memprof.interrupt(), SURVIVORS)
}

#[test]
fn a_full_ring_loses_frees_and_says_how_many() {
    const BLOCKS: u64 = 100_000;
    let program = c(
        &format!(
            r#"
static void *blocks[{BLOCKS}];
int main(void) {{
    write(1, "ready\n", 6);
    await_line();
    for (int i = 0; i < {BLOCKS}; i++) CHECK(blocks[i] = malloc(24));
    write(1, "full\n", 5);
    await_line();
    for (int i = 0; i < {BLOCKS}; i++) free(blocks[i]);
    write(1, "empty\n", 6);
    await_line();
    return 0;
}}"#
        ),
        &[],
    );
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let reports = program.folder().join("reports");
    let options = ["--ring-size", "4KiB", "--interval", "100ms", "--output", reports.to_str().unwrap()];
    let mut memprof = attach(target.pid(), &options);
    memprof.ready();
    target.tell("allocate");
    assert_eq!(target.hear(), "full");
    // What has been reported has been drained: its free will go through the ring.
    let drained = format!("\"outstanding\":{{\"bytes\":{},\"allocations\":{BLOCKS}}}", 24 * BLOCKS);
    support::wait_until("all is drained", || std::fs::read_to_string(&reports).unwrap().contains(&drained));
    // While nobody reads, what does not fit is lost for certain.
    memprof.signal("STOP");
    target.tell("free");
    assert_eq!(target.hear(), "empty");
    memprof.signal("CONT");
    let mut run = memprof.interrupt();
    let reports = std::fs::read_to_string(&reports).unwrap();
    run.reports = vec![support::Report(serde_json::from_str(reports.lines().last().unwrap()).unwrap())];
    let (allocations, lost, stacks) = run.last().lost();
    assert!(lost > 0 && lost <= BLOCKS, "{lost}");
    assert_eq!((allocations, stacks), (0, 0));
    assert_eq!(causes(&run), [("frees_ring_full".to_owned(), lost)]);
    assert_warned(&run, lost, "ring buffer was full", "--ring-size");
    let process = run.last().process();
    // Each block that is still shown is one whose free was lost.
    assert_eq!(process.outstanding(), (24 * lost, lost));
    assert_eq!(process.totals(), [BLOCKS, 24 * BLOCKS, BLOCKS - lost, 24 * (BLOCKS - lost)]);
}

#[test]
fn a_full_stack_table_loses_stacks_but_no_bytes() {
    // Thirty call sites, of which the table has room for some: ten, rounded up to two lines of eight.
    let sites: String = (0..30).map(|size| format!("        CHECK(malloc({}));\n", 100 + size)).collect();
    let source = format!(
        r#"int main(void) {{
    write(1, "ready\n", 6);
    await_line();
    for (int i = 0; i < 50; i++) {{
{sites}    }}
    write(1, "full\n", 5);
    await_line();
    return 0;
}}"#
    );
    let program = c(&source, &[]);
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let mut memprof = attach(target.pid(), &["--stack-entries", "10"]);
    memprof.ready();
    // While nobody empties it, what does not fit is lost for certain.
    memprof.signal("STOP");
    target.tell("allocate");
    assert_eq!(target.hear(), "full");
    memprof.signal("CONT");
    let run = memprof.interrupt();
    let lost = 14 * 50;
    assert_eq!(run.last().lost(), (0, 0, lost));
    assert_eq!(causes(&run), [("stacks_table_full".to_owned(), lost)]);
    assert_warned(&run, lost, "stack table was full", "--stack-entries");
    let process = run.last().process();
    let bytes: u64 = (100..130).map(|size| 50 * size).sum();
    assert_eq!(process.totals(), [1500, bytes, 0, 0]);
    assert_eq!(process.outstanding(), (bytes, 1500));
    let stacks = process.stacks();
    assert_eq!(stacks.len(), 17);
    let (unknown, known): (Vec<_>, Vec<_>) = stacks.into_iter().partition(|stack| stack.functions().is_empty());
    // The first sixteen sites came first.
    let first: u64 = (100..116).map(|size| 50 * size).sum();
    assert_eq!(unknown[0].outstanding(), (bytes - first, lost));
    assert_eq!(unknown[0].total_allocations(), lost);
    assert!(known.iter().all(|stack| (stack.outstanding().1, stack.total_allocations()) == (50, 50)));
}

#[test]
fn a_full_table_of_threads_loses_calls_and_says_how_many() {
    let program = c(
        r#"
enum { THREADS = 24 };
static pthread_barrier_t all;
static void *work(void *unused) {
    pthread_barrier_wait(&all);
    for (int i = 0; i < 1000; i++) CHECK(malloc(64)); // threads
    pthread_barrier_wait(&all);
    return NULL;
}
int main(void) {
    pthread_t threads[THREADS];
    pthread_barrier_init(&all, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++) CHECK(!pthread_create(&threads[i], NULL, work, NULL));
    write(1, "ready\n", 6);
    await_line();
    pthread_barrier_wait(&all);
    pthread_barrier_wait(&all);
    write(1, "done\n", 5);
    pause();
}"#,
        &[],
    );
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let mut memprof = attach(target.pid(), &["--threads", "2"]);
    memprof.ready();
    target.tell("go");
    assert_eq!(target.hear(), "done");
    let run = memprof.interrupt();
    let (lost, frees, stacks) = run.last().lost();
    assert!(lost > 0);
    assert_eq!((frees, stacks), (0, 0));
    assert_eq!(causes(&run), [("in_flight_full".to_owned(), lost)]);
    assert_warned(&run, lost, "too many threads", "--threads");
    let process = run.last().process();
    let (bytes, outstanding) = process.outstanding();
    // Every thread's calls are all followed or all lost, and at least two threads are followed.
    assert_eq!(outstanding + lost, 24_000);
    assert_eq!(bytes, 64 * outstanding);
    assert!(outstanding >= 2000 && outstanding.is_multiple_of(1000), "{outstanding}");
    assert_eq!(process.totals(), [outstanding, bytes, 0, 0]);
}
