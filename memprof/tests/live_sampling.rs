//! `--sample`: estimates of what is known, within their own standard errors, and nothing left of what was freed.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]
#![allow(clippy::cast_precision_loss, reason = "what is compared is far coarser")]

mod support;

use serde_json::Value;
use support::{Attached, Program, Report, Target, attach, launch, schema::assert_contract};

const C_PRELUDE: &str = r#"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#define CHECK(condition) do { if (!(condition)) { dprintf(2, "line %d\n", __LINE__); _exit(1); } } while (0)
// Without allocating, unlike stdio's.
static void await_line(void) { char c; do CHECK(read(0, &c, 1) == 1); while (c != '\n'); }
"#;

fn c(source: &str) -> Program {
    Program::c(&format!("{C_PRELUDE}{source}"), &["-fno-builtin", "-w"])
}

/// An estimate is allowed to be five of its standard errors off: one in 1.7 million is further.
fn assert_estimate(figures: &Value, of: &Value, truth: (u64, u64)) {
    for (name, truth) in [("bytes", truth.0), ("allocations", truth.1)] {
        let estimate = of.get(name).unwrap_or_else(|| &of[format!("outstanding_{name}")]).as_u64().unwrap();
        let error = figures["standard_error"][name].as_f64().unwrap();
        assert!(estimate.abs_diff(truth) as f64 <= 5.0 * error + 0.5, "{name}: {estimate} ± {error}, not {truth}");
    }
}

/// Reports until one says so of the only process; then one more, which was drained after all that.
fn settled_report(memprof: &mut Attached, is_so: impl Fn(&Report) -> bool) -> Report {
    while !is_so(&memprof.next_report()) {}
    memprof.next_report()
}

#[test]
fn estimates_are_right_and_what_is_freed_leaves_nothing() {
    // 30,000 of 1,000 bytes and 400 of 20,000, of which every second one stays, and 30 that are always taken, of which 10 do.
    let program = c(r#"
static void *small[30000], *medium[400], *large[30];
int main(void) {
    write(1, "ready\n", 6);
    await_line();
    for (int i = 0; i < 30000; i++) CHECK(small[i] = malloc(1000)); // small
    for (int i = 0; i < 400; i++) CHECK(medium[i] = malloc(20000)); // medium
    for (int i = 0; i < 30; i++) CHECK(large[i] = malloc(65536 + i)); // large
    await_line();
    for (int i = 0; i < 30000; i += 2) free(small[i]), small[i] = NULL;
    for (int i = 0; i < 400; i += 2) free(medium[i]), medium[i] = NULL;
    for (int i = 10; i < 30; i++) free(large[i]), large[i] = NULL;
    for (int i = 0; i < 10000; i++) free(malloc(500));
    write(1, "kept\n", 5);
    await_line();
    for (int i = 0; i < 30000; i++) free(small[i]);
    for (int i = 0; i < 400; i++) free(medium[i]);
    for (int i = 0; i < 30; i++) free(large[i]);
    write(1, "freed\n", 6);
    await_line();
    return 0;
}"#);
    let line = |mark: &str| format!("program.c:{}", program.line(&format!("// {mark}")));
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    // A single free of the forty thousand in the ring would be one too many for what else is in it.
    let mut memprof = attach(target.pid(), &["--sample", "64KiB", "--interval", "100ms", "--ring-size", "4KiB"]);
    memprof.ready();
    target.tell("allocate");
    settled_report(&mut memprof, |report| report.process().totals()[0] == 30_430);
    target.tell("free some");
    assert_eq!(target.hear(), "kept");
    let report = settled_report(&mut memprof, |report| report.process().totals()[0] == 40_430);
    assert_contract(&report.0);
    assert_eq!(report.0["sample_bytes"], 65_536);
    assert_eq!(report.lost(), (0, 0, 0), "{:?}", report.warnings());
    let process = report.process();
    let large: u64 = (0..10).map(|i| 65_536 + i).sum();
    let (bytes, allocations) = (15_000_000 + 4_000_000 + large, 15_000 + 200 + 10);
    assert_estimate(process.0, &process.0["outstanding"], (bytes, allocations));
    for (mark, truth) in [("small", (15_000_000, 15_000)), ("medium", (4_000_000, 200)), ("large", (large, 10))] {
        let stacks = process.stacks();
        let at = |stack: &&support::StackReport<'_>| stack.sources().contains(&Some(line(mark)));
        let stack = stacks.iter().find(at).unwrap();
        assert_estimate(stack.0, stack.0, truth);
    }
    assert_eq!(process.outstanding_at(&line("large")), (large, 10));
    let [allocations, allocated, frees, freed] = process.totals();
    let large_allocated: u64 = (0..30).map(|i| 65_536 + i).sum();
    assert_eq!((allocations, allocated), (40_430, 30_000_000 + 8_000_000 + large_allocated + 5_000_000));
    assert_eq!((process.outstanding().0 + freed, process.outstanding().1 + frees), (allocated, allocations));
    target.tell("free the rest");
    assert_eq!(target.hear(), "freed");
    let run = memprof.interrupt();
    let process = run.exact();
    assert_eq!((process.outstanding(), process.stacks().len()), ((0, 0), 0));
    assert_eq!(process.totals(), [allocations, allocated, allocations, allocated]);
}

#[test]
fn at_a_rate_of_one_byte_all_is_exact() {
    let program = c(r#"
static void *blocks[1000];
int main(void) {
    write(1, "ready\n", 6);
    await_line();
    for (int i = 0; i < 1000; i++) CHECK(blocks[i] = malloc(i)); // malloc
    write(1, "allocated\n", 10);
    await_line();
    for (int i = 0; i < 1000; i++) CHECK(blocks[i] = realloc(blocks[i], 3000 + i)); // realloc
    for (int i = 0; i < 500; i++) CHECK(!realloc(blocks[i], PTRDIFF_MAX));
    for (int i = 500; i < 1000; i++) free(blocks[i]);
    write(1, "resized\n", 8);
    await_line();
    return 0;
}"#);
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let mut memprof = attach(target.pid(), &["--sample", "1B", "--interval", "100ms"]);
    memprof.ready();
    target.tell("allocate");
    assert_eq!(target.hear(), "allocated");
    let report = settled_report(&mut memprof, |report| report.process().totals()[0] == 1000);
    assert_eq!(report.process().outstanding(), (999 * 500, 1000));
    target.tell("resize");
    assert_eq!(target.hear(), "resized");
    let run = memprof.interrupt();
    let process = run.exact();
    let (first, all): (u64, u64) = ((3000..3500).sum(), (3000..4000).sum());
    assert_eq!(process.outstanding(), (first, 500));
    assert_eq!(process.outstanding_at(&format!("program.c:{}", program.line("// realloc"))), (first, 500));
    assert_eq!(process.totals(), [2000, 999 * 500 + all, 1500, 999 * 500 + all - first]);
    assert_eq!(process.0["standard_error"]["bytes"], 0.0);
    assert_eq!(process.stacks()[0].total_allocations(), 1000);
}

#[test]
fn without_a_value_the_rate_is_512_kib() {
    let program = c(r#"
int main(void) {
    for (int i = 0; i < 7; i++) CHECK(malloc(512 << 10)); // as large
    for (int i = 0; i < 1000; i++) free(malloc(512 << 10));
    return 0;
}"#);
    let run = launch(&["--sample"], &[program.path()]);
    assert!(run.status.success(), "{}", run.stderr);
    assert_eq!(run.last().0["sample_bytes"], 512 << 10);
    // Each block as large as the rate is taken, and stands for itself.
    let process = run.exact();
    assert_eq!(process.outstanding(), (7 << 19, 7));
    assert_eq!(process.outstanding_at(&format!("program.c:{}", program.line("// as large"))), (7 << 19, 7));
    assert_eq!(process.totals(), [1007, 1007 << 19, 1000, 1000 << 19]);
    assert_eq!(process.0["standard_error"], serde_json::json!({"bytes": 0.0, "allocations": 0.0}));
}

#[test]
fn samples_of_a_program_that_is_over_make_room() {
    // The second program's blocks fit only where the first one's were.
    let program = c(r#"
int main(int count, char **arguments) {
    write(1, "ready\n", 6);
    await_line();
    for (int i = 0; i < 600; i++) CHECK(malloc(100));
    write(1, "full\n", 5);
    await_line();
    if (count == 1) execl(arguments[0], arguments[0], "again", NULL);
    return 0;
}"#);
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let mut memprof = attach(target.pid(), &["--sample", "1B", "--interval", "100ms", "--nursery-entries", "1000"]);
    memprof.ready();
    target.tell("allocate");
    assert_eq!(target.hear(), "full");
    settled_report(&mut memprof, |report| report.process().outstanding() == (60_000, 600));
    target.tell("execute");
    assert_eq!(target.hear(), "ready");
    settled_report(&mut memprof, |report| report.process().outstanding() == (0, 0));
    target.tell("allocate");
    assert_eq!(target.hear(), "full");
    target.tell("end");
    let run = memprof.wait();
    let process = run.exact();
    assert!(process.exited());
    assert_eq!((process.outstanding(), process.totals()), ((60_000, 600), [600, 60_000, 0, 0]));
}

#[test]
fn a_nursery_full_of_samples_is_a_loss() {
    let program = c(r#"
int main(void) {
    write(1, "ready\n", 6);
    await_line();
    for (int i = 0; i < 5000; i++) CHECK(malloc(100));
    return 0;
}"#);
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let mut memprof = attach(target.pid(), &["--sample", "1B", "--nursery-entries", "1000"]);
    memprof.ready();
    target.tell("allocate");
    let run = memprof.wait();
    let (lost, frees, stacks) = run.last().lost();
    assert_eq!((frees, stacks), (0, 0));
    let warnings = run.last().warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].starts_with(&format!("{lost} sampled allocations")), "{warnings:?}");
    let (bytes, allocations) = run.last().process().outstanding();
    assert_eq!((bytes, allocations + lost), (100 * allocations, 5000));
}
