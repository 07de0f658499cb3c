//! `--max-overhead`: what is observed in windows is exact, the rest is estimated, and probes are away between them. In a file of its own,
//! so that no other test's probes are taken out meanwhile: the kernel takes out one after the other, whosever they are.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]
#![allow(clippy::cast_precision_loss, reason = "what is compared is far coarser")]

mod support;

use serde_json::Value;
use support::{Attached, Program, Report, Target, attach, schema::assert_contract};

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
    for (struct pollfd input = {0, POLLIN};;) {
        if (poll(&input, 1, 0)) {
            char line[10] = "";
            CHECK(read(0, line, sizeof line - 1) > 0);
            if (line[0] == 's') break;
            dprintf(1, "%ld %ld %ld\n", calls, resized, keeping);
        }
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
    assert_estimates_hold(&mut target, &mut memprof);
    target.tell("stop");
    let counts = support::numbers(&target.hear());
    let (calls, resized, kept) = (counts[0], counts[1], counts[2]);
    let mut report = report_of_now(&mut memprof);
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

/// An estimate takes a program to be slowed down while it is observed. One that keeps a pace is not, and is off by what it costs.
const PACE: f64 = 0.03;

/// The next report that is not on its way already.
fn report_of_now(memprof: &mut Attached) -> Report {
    let asked = jiff::Timestamp::now();
    loop {
        let report = memprof.next_report();
        if report.0["time"].as_str().unwrap().parse::<jiff::Timestamp>().unwrap() > asked {
            return report;
        }
    }
}

/// Of a report that is made while the program works, between two moments when that tells how far it is.
fn assert_estimates_hold(target: &mut Target, memprof: &mut Attached) {
    let mut ask = || {
        target.tell("count");
        let counts = support::numbers(&target.hear());
        [counts[2] as f64, (counts[0] + counts[1]) as f64]
    };
    let least = ask();
    let report = report_of_now(memprof);
    let most = ask();
    let scaled = &report.process().0["scaled"];
    let estimates = [&scaled["outstanding"]["allocations"], &scaled["totals"]["allocations"]].map(number);
    let errors =
        [&scaled["standard_error"], &scaled["totals_standard_error"]].map(|error| number(&error["allocations"]));
    for (index, (estimate, error)) in estimates.into_iter().zip(errors).enumerate() {
        let (least, most) = (least[index] * (1.0 - PACE) - 5.0 * error, most[index] * (1.0 + PACE) + 5.0 * error);
        assert!((least..=most).contains(&estimate), "{estimate} ± {error}, not from {least} to {most}");
    }
}
