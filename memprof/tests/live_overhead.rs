//! What observing costs, in every report; and `--max-overhead` where it changes nothing, and where even frees are too much.
//! What is in between is in `live_windows.rs`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

mod support;

use serde_json::Value;
use support::{Attached, Program, ROOM_FOR_COPIES, Report, Target, attach, launch, schema::assert_contract};

const C_PRELUDE: &str = r#"
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#define CHECK(condition) do { if (!(condition)) { dprintf(2, "line %d\n", __LINE__); _exit(1); } } while (0)
static void await_line(void) { char c; do CHECK(read(0, &c, 1) == 1); while (c != '\n'); }
static volatile unsigned sink;
static void work(int rounds) { for (int i = 0; i < rounds; i++) sink += i; }
static double seconds(clockid_t clock) {
    struct timespec time;
    clock_gettime(clock, &time);
    return time.tv_sec + time.tv_nsec * 1e-9;
}
"#;

fn c(source: &str) -> Program {
    Program::c(&format!("{C_PRELUDE}{source}"), &["-fno-builtin", "-w", "-O1"])
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

fn ended(memprof: Attached) -> Report {
    memprof.wait().reports.pop().unwrap()
}

#[test]
fn every_report_says_what_it_cost() {
    let program = c(r#"
int main(void) {
    write(1, "ready\n", 6);
    await_line();
    for (int i = 0; i < 20000; i++) { void *block = malloc(100); work(2000); free(block); }
    for (int i = 0; i < 1000; i++) free(realloc(NULL, 10));
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    // Without allocating, unlike dprintf.
    char text[50];
    write(1, text, sprintf(text, "%ld\n", used.tv_sec * 1000000000 + used.tv_nsec));
    await_line();
    return 0;
}"#);
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let mut memprof = attach(target.pid(), &["--interval", "1h"]);
    memprof.ready();
    target.tell("go");
    let used = target.hear().parse::<f64>().unwrap() / 1e9;
    memprof.signal("USR1");
    let report = memprof.next_report();
    assert_contract(&report.0);
    let overhead = &report.process().0["overhead"];
    assert_eq!(overhead["calls"], 43_000);
    // What it has used before the attach is none of it.
    let [percent, cost, of] = ["percent", "cost_seconds", "cpu_seconds"].map(|name| number(&overhead[name]));
    assert!(
        cost > 0.0 && of <= used + 0.05 && (percent - 100.0 * (cost / of).min(1.0)).abs() < 1e-6,
        "{used} {overhead}"
    );
    assert!(report.0.get("max_overhead_percent").is_none() && report.process().0.get("scaled").is_none());
    target.tell("end");
    // The last of a process that is gone has what was read last.
    assert_eq!(ended(memprof).process().0["overhead"]["calls"], 43_000);
}

#[test]
fn the_calls_of_a_command_are_all_counted() {
    let program = c(r#"
int main(void) {
    for (int i = 0; i < 20000; i++) free(malloc(100));
    for (int i = 0; i < 1000; i++) free(realloc(NULL, 10));
    return 0;
}"#);
    let run = launch(&ROOM_FOR_COPIES, &[program.path()]);
    let process = run.exact();
    let overhead = &process.0["overhead"];
    // A launched command's processor time can be read to its end. A realloc calls malloc.
    assert_eq!(process.totals()[0], 21_000);
    assert_eq!(overhead["calls"], 43_000);
    let percent = number(&overhead["percent"]);
    assert!(percent > 0.0 && percent <= 100.0, "{overhead}");
}

#[test]
fn where_frees_alone_are_too_much_it_leaves_the_process_alone() {
    let program = c(r#"
int main(void) {
    for (int i = 0; i < 7; i++) malloc(1000);
    for (double end = seconds(CLOCK_MONOTONIC) + 4; seconds(CLOCK_MONOTONIC) < end;) free(malloc(100));
    // Nobody sees what comes now.
    for (int i = 0; i < 100000; i++) malloc(10);
    return 3;
}"#);
    let run = launch(&[&["--max-overhead", "1%"][..], &ROOM_FOR_COPIES].concat(), &[program.path()]);
    assert_eq!(run.status.code(), Some(3));
    let (report, process) = (run.last(), run.last().process());
    assert_contract(&report.0);
    assert!(!process.exited());
    assert_eq!(report.lost(), (0, 0, 0));
    let warnings = report.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("is not observed any more: following its frees alone takes"), "{warnings:?}");
    assert!(warnings[0].contains("and --max-overhead is 1 %"), "{warnings:?}");
    let (bytes, blocks) = process.outstanding();
    assert!((7000..=7100).contains(&bytes) && (7..=8).contains(&blocks), "{bytes} in {blocks}");
}

#[test]
fn what_costs_little_is_observed_as_a_whole() {
    let program = c(r#"
int main(void) {
    for (int i = 0; i < 300; i++) { malloc(i); work(2000000); }
    return 0;
}"#);
    for options in [&["--max-overhead", "90%"][..], &["--max-overhead", "90%", "--sample", "1B"]] {
        let run = launch(options, &[program.path()]);
        let process = run.exact();
        assert_eq!(process.outstanding(), (300 * 299 / 2, 300));
        assert_eq!(process.totals(), [300, 300 * 299 / 2, 0, 0]);
        assert!(process.0.get("scaled").is_none());
        // What decides about it may be between windows.
        assert!(process.stacks().iter().all(|stack| stack.0["temporary_allocations"].is_null()));
        assert_eq!(run.last().0.get("sample_bytes").is_some(), options.len() > 2);
    }
}
