//! What observing costs, in every report; and `--max-overhead`: windows, what is exact in them, and the end where even frees are
//! too much.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]
#![allow(clippy::cast_precision_loss, reason = "what is compared is far coarser")]

mod support;

use serde_json::Value;
use support::{Attached, Program, Report, Target, attach, launch, schema::assert_contract};

const C_PRELUDE: &str = r#"
#include <poll.h>
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
    return 0;
}"#);
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let mut memprof = attach(target.pid(), &[]);
    memprof.ready();
    target.tell("go");
    // The last of them may come after the last reading of the processor time, and cost nothing that is known.
    let report = ended(memprof);
    assert_contract(&report.0);
    let overhead = &report.process().0["overhead"];
    assert!(overhead["calls"].as_u64().unwrap() <= 43_000, "{overhead}");
    assert!(report.0.get("max_overhead_percent").is_none() && report.process().0.get("scaled").is_none());
    let launched = launch(&[], &[program.path().to_str().unwrap()]);
    assert!(launched.last().process().0["overhead"]["calls"].as_u64().is_some());
}

#[test]
fn the_calls_of_a_command_are_all_counted() {
    let program = c(r#"
int main(void) {
    for (int i = 0; i < 20000; i++) free(malloc(100));
    for (int i = 0; i < 1000; i++) free(realloc(NULL, 10));
    return 0;
}"#);
    let run = launch(&[], &[program.path()]);
    let process = run.exact();
    let overhead = &process.0["overhead"];
    // A launched command's processor time can be read to its end. A realloc calls malloc.
    assert_eq!(process.totals()[0], 21_000);
    assert_eq!(overhead["calls"], 43_000);
    let percent = number(&overhead["percent"]);
    assert!(percent > 0.0 && percent <= 100.0, "{overhead}");
}

/// Five thousand times a second it allocates; of a hundred blocks it resizes and keeps one, and keeps half of the others. What it
/// frees is little of what it costs.
const STEADY: &str = r#"
enum { BATCH = 5, MOST = 400000 };
static void *kept[MOST];
int main(int count, char **arguments) {
    write(1, "ready\n", 6);
    await_line();
    double next = seconds(CLOCK_MONOTONIC);
    long calls = 0, resized = 0, keeping = 0;
    // Until it is told to stop.
    for (struct pollfd input = {0, POLLIN}; poll(&input, 1, 0) == 0;) {
        for (int i = 0; i < BATCH; i++, calls++) {
            work(4000);
            void *block = malloc(50); // small
            if (calls % 100 == 0) {
                CHECK(block = realloc(block, 1000)); // resized
                resized++;
            } else if (calls % 2 == 0) {
                free(block);
                continue;
            }
            CHECK(keeping < MOST);
            kept[keeping++] = block;
        }
        next += 1e-3;
        double left = next - seconds(CLOCK_MONOTONIC);
        if (left > 0) usleep(left * 1e6);
    }
    await_line();
    dprintf(1, "%ld %ld %ld\n", calls, resized, keeping);
    await_line();
    for (long i = 0; i < keeping; i++) {
        work(100000);
        if (i % 100 == 0) CHECK(kept[i] = realloc(kept[i], 3000 + i));
        free(kept[i]);
    }
    write(1, "freed\n", 6);
    await_line();
    return 0;
}"#;

fn start_steady(program: &Program) -> Target {
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    target
}

/// What observing all of it costs, in percent.
fn cost_of_all(program: &Program) -> f64 {
    let mut target = start_steady(program);
    let mut memprof = attach(target.pid(), &["--interval", "1s"]);
    memprof.ready();
    target.tell("go");
    (0..4).for_each(|_| drop(memprof.next_report()));
    target.tell("stop");
    target.hear();
    let run = memprof.interrupt();
    number(&run.exact().0["overhead"]["percent"])
}

#[test]
fn what_is_observed_in_windows_is_exact_and_the_rest_is_estimated() {
    let program = c(STEADY);
    let limit = format!("{:.3}%", cost_of_all(&program) / 2.0);
    let mut target = start_steady(&program);
    let mut memprof =
        attach(target.pid(), &["--max-overhead", &limit, "--interval", "1s", "--nursery-entries", "400000"]);
    memprof.ready();
    target.tell("go");
    while memprof.next_report().process().0["scaled"]["totals_standard_error"].is_null() {}
    target.tell("stop");
    let counts = support::numbers(&target.hear());
    let (calls, resized, kept) = (counts[0], counts[1], counts[2]);
    // A report may have been on its way when it stopped.
    memprof.next_report();
    let mut report = memprof.next_report();
    assert_contract(&report.0);
    assert_eq!((report.lost(), report.warnings()), ((0, 0, 0), vec![]));
    let process = report.process();
    let (overhead, scaled) = (&process.0["overhead"], &process.0["scaled"]);
    assert!(number(&overhead["percent"]) <= number(&report.0["max_overhead_percent"]), "{limit}: {overhead} {scaled}");

    // What is observed is exact, whatever it is.
    let at = |mark| process.outstanding_at(&format!("program.c:{}", program.line(mark)));
    let (small, large) = (at("// small"), at("// resized"));
    assert_eq!((small.0, large.0), (small.1 * 50, large.1 * 1000));
    assert_eq!(process.outstanding(), (small.0 + large.0, small.1 + large.1));
    assert!(small.1 > 0 && small.1 < kept - resized && large.1 < resized, "{small:?} {large:?}");

    // Probes of malloc are away between windows: malloc was called more often than its probes were hit.
    let hits = overhead["calls"].as_u64().unwrap() - (calls - kept) - resized;
    let seen = process.totals()[0];
    assert!(hits < calls * 9 / 10 && seen <= hits + resized, "{hits} of {calls} hit, {seen} seen");

    // The truth is within five of its standard errors, but that nothing was to be expected of the last two seconds.
    for (estimate, error, truth) in [
        (&scaled["outstanding"]["allocations"], &scaled["standard_error"]["allocations"], kept),
        (&scaled["totals"]["allocations"], &scaled["totals_standard_error"]["allocations"], calls + resized),
    ] {
        let (estimate, error, truth) = (number(estimate), number(error), truth as f64);
        assert!((estimate - truth).abs() <= 5.0 * error + 0.03 * truth, "{estimate} ± {error}, not {truth}");
    }

    // Whatever was observed has been freed, at whatever time: between windows too, and after another realloc.
    target.tell("free");
    assert_eq!(target.hear(), "freed");
    while report.process().outstanding() != (0, 0) {
        report = memprof.next_report();
        assert_eq!((report.lost(), report.warnings()), ((0, 0, 0), vec![]));
    }
    let [allocations, allocated, frees, freed] = report.process().totals();
    assert_eq!((allocations, allocated), (frees, freed));
    assert_eq!((report.lost(), report.warnings()), ((0, 0, 0), vec![]));
    target.tell("end");
    assert!(ended(memprof).process().exited());
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
    let run = launch(&["--max-overhead", "1%"], &[program.path()]);
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
        assert_eq!(run.last().0.get("sample_bytes").is_some(), options.len() > 2);
    }
}
