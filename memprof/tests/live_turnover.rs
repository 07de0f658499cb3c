//! What has gone by: the peak and the stacks as they stood at it, what each stack has allocated in all, and how much of that died
//! young.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::collections::BTreeMap;

use support::{Attached, Program, Report, StackReport, Target, attach};

const PRELUDE: &str = r#"
#include <stdlib.h>
#include <unistd.h>
#define SITE __attribute__((noinline, noclone))
static void await_line(void) { char c; do if (read(0, &c, 1) != 1) _exit(1); while (c != '\n'); }
static void begin(void) { if (write(1, "ready\n", 6) != 6) _exit(1); await_line(); }
static void done(void) { if (write(1, "done\n", 5) != 5) _exit(1); await_line(); }
"#;

fn c(source: &str) -> Program {
    Program::c(&format!("{PRELUDE}{source}"), &["-g", "-O1", "-fno-builtin", "-w"])
}

/// The program at its first line, and memprof on it.
fn observe(program: &Program, options: &[&str]) -> (Target, Attached) {
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let mut attached = attach(target.pid(), &[&["--interval", "1h"], options].concat());
    attached.ready();
    (target, attached)
}

/// Has the program take its next step, and memprof report.
fn step(target: &mut Target, attached: &mut Attached) -> Report {
    target.tell("");
    assert_eq!(target.hear().trim(), "done");
    attached.signal("USR1");
    attached.next_report()
}

/// By the innermost function.
fn by_site<T>(report: &Report, of: impl Fn(&StackReport) -> T) -> BTreeMap<String, T> {
    let process = report.process();
    let stacks = process.stacks();
    stacks.iter().map(|stack| (stack.functions()[0].clone().unwrap(), of(stack))).collect()
}

/// Allocations, bytes and temporary allocations of all lines of each function.
fn in_all_by_site(report: &Report) -> BTreeMap<String, [u64; 3]> {
    let fields = ["total_allocations", "total_bytes", "temporary_allocations"];
    let mut sums = BTreeMap::new();
    for stack in report.process().stacks() {
        let sum = sums.entry(stack.functions()[0].clone().unwrap()).or_insert([0; 3]);
        sum.iter_mut().zip(fields).for_each(|(sum, field)| *sum += stack.0[field].as_u64().unwrap());
    }
    sums
}

fn at_peak(stack: &StackReport) -> (u64, u64) {
    let held = &stack.0["at_peak"];
    (held["bytes"].as_u64().unwrap(), held["allocations"].as_u64().unwrap())
}

fn peak(report: &Report) -> (u64, u64) {
    let peak = &report.process().0["peak"];
    (peak["bytes"].as_u64().unwrap(), peak["allocations"].as_u64().unwrap())
}

/// Three megabytes at one site and one at another; then the three are freed, and two are taken at a third.
const TIDE: &str = r#"
static void *gone[30];
SITE static void high(void) { for (int i = 0; i < 30; i++) gone[i] = malloc(100000); }
SITE static void kept(void) { for (volatile int i = 0; i < 5; i++) malloc(200000); }
SITE static void late(void) { for (volatile int i = 0; i < 2; i++) malloc(1000000); }
int main(void) {
    begin();
    high(), kept();
    done();
    for (int i = 0; i < 30; i++) free(gone[i]);
    late();
    done();
}
"#;

#[test]
fn the_peak_is_what_was_outstanding_when_that_was_most() {
    let (mut target, mut attached) = observe(&c(TIDE), &["--sort", "peak"]);
    let first = step(&mut target, &mut attached);
    assert_eq!((peak(&first), first.process().outstanding()), ((4_000_000, 35), (4_000_000, 35)));
    let second = step(&mut target, &mut attached);
    assert_eq!((peak(&second), second.process().outstanding()), ((4_000_000, 35), (3_000_000, 7)));
    let held = by_site(&second, |stack| (stack.outstanding(), at_peak(stack)));
    let expected = [
        ("high", ((0, 0), (3_000_000, 30))),
        ("kept", ((1_000_000, 5), (1_000_000, 5))),
        ("late", ((2_000_000, 2), (0, 0))),
    ];
    assert_eq!(held, expected.map(|(site, held)| (site.to_owned(), held)).into());
    let order: Vec<_> = second.process().stacks().iter().map(|stack| at_peak(stack).0).collect();
    assert_eq!(order, [3_000_000, 1_000_000, 0]);
    attached.interrupt();
}

#[test]
fn stacks_are_shown_as_they_stood_at_the_peak() {
    let (mut target, mut attached) = observe(&c(TIDE), &["--at-peak"]);
    step(&mut target, &mut attached);
    let report = step(&mut target, &mut attached);
    assert_eq!(report.0["moment"], "peak");
    assert_eq!(report.process().outstanding(), (3_000_000, 7), "of now, as ever");
    let held = by_site(&report, |stack| stack.outstanding());
    assert_eq!(
        held,
        [("high", (3_000_000, 30)), ("kept", (1_000_000, 5))].map(|(site, held)| (site.to_owned(), held)).into()
    );
    attached.interrupt();
}

#[test]
fn totals_of_stacks_add_up_and_say_what_died_young() {
    let program = c(r#"
    static void *held[500];
    SITE static void brief(void) { for (int i = 0; i < 20000; i++) free(malloc(10 + i % 2)); }
    SITE static void lasting(void) { for (int i = 0; i < 500; i++) held[i] = malloc(64); }
    SITE static void regrown(void) { void *p = malloc(1); for (int i = 2; i <= 100; i++) p = realloc(p, i); }
    int main(void) {
        begin();
        lasting();
        done();
        for (int i = 0; i < 500; i++) free(held[i]);
        brief(), regrown();
        done();
    }
    "#);
    let (mut target, mut attached) = observe(&program, &["--sort", "churn"]);
    step(&mut target, &mut attached);
    let report = step(&mut target, &mut attached);
    let expected = [
        ("brief", [20_000, 210_000, 20_000]),
        // They were there at the first report; yet nothing was allocated between the last of them and its free.
        ("lasting", [500, 32_000, 1]),
        ("regrown", [100, 5050, 99]),
    ];
    assert_eq!(in_all_by_site(&report), expected.map(|(site, in_all)| (site.to_owned(), in_all)).into());
    let [allocations, bytes, ..] = report.process().totals();
    assert_eq!((allocations, bytes), (20_000 + 500 + 100, 210_000 + 32_000 + 5050));
    let order: Vec<_> = report.process().stacks().iter().map(StackReport::total_allocations).collect();
    assert!(order.is_sorted_by(|one, other| one >= other), "{order:?}");
    attached.interrupt();
}

#[test]
fn a_block_that_outlives_a_drain_is_temporary_if_its_thread_frees_it_before_it_allocates() {
    let program = Program::c(
        &format!(
            r#"
            #include <pthread.h>
            {PRELUDE}
            static void *block, *other;
            SITE static void kept_at_hand(void) {{ block = malloc(10); done(); free(block); }}
            SITE static void regrown(void) {{ block = malloc(20); done(); block = realloc(block, 30); done(); }}
            SITE static void succeeded(void) {{ block = malloc(40); other = malloc(1); done(); free(block); }}
            SITE static void handed_over(void) {{ block = malloc(50); }}
            static void *thread(void *nothing) {{ handed_over(); return nothing; }}
            int main(void) {{
                begin();
                kept_at_hand(), regrown(), succeeded();
                pthread_t id;
                if (pthread_create(&id, 0, thread, 0) || pthread_join(id, 0)) return 1;
                done();
                free(block);
                done();
            }}
            "#
        ),
        &["-g", "-O1", "-fno-builtin", "-pthread", "-w"],
    );
    let (mut target, mut attached) = observe(&program, &["--sort", "temporary"]);
    let reports: Vec<_> = (0..6).map(|_| step(&mut target, &mut attached)).collect();
    let temporary_at = |report: &Report, site: &str| in_all_by_site(report).get(site).copied();
    let course = |site: &str| reports.iter().map(|report| temporary_at(report, site)).collect::<Vec<_>>();
    let (none, drained, gone) = (None, Some([1, 10, 0]), Some([1, 10, 1]));
    assert_eq!(course("kept_at_hand"), [drained, gone, gone, gone, gone, gone]);
    let (drained, gone) = (Some([1, 20, 0]), Some([2, 50, 1]));
    assert_eq!(course("regrown"), [none, drained, gone, gone, gone, gone]);
    let lasting = Some([2, 41, 0]);
    assert_eq!(course("succeeded"), [none, none, none, lasting, lasting, lasting]);
    let lasting = Some([1, 50, 0]);
    assert_eq!(course("handed_over"), [none, none, none, none, lasting, lasting]);
    attached.interrupt();
}

/// Where there are so many stacks that the kernel's tables take turns, and most are forgotten.
#[test]
fn the_busiest_stacks_stay_though_nothing_is_held_there() {
    let program = c(r#"
    SITE static void busy(void) { for (int i = 0; i < 100; i++) free(malloc(50)); }
    SITE static void rare(int bits) {
        if (bits <= 1) return free(malloc(7));
        if (bits & 1) rare(bits >> 1); else rare(bits >> 1);
        __asm__ volatile("");
    }
    int main(void) {
        begin();
        for (int i = 1 << 12; i < 1 << 13; i++) { rare(i); if (i % 4 == 0) busy(); }
        done();
    }
    "#);
    let (mut target, mut attached) = observe(&program, &["--sort", "churn", "--stack-entries", "4096"]);
    let report = step(&mut target, &mut attached);
    assert_eq!(report.lost(), (0, 0, 0));
    let process = report.process();
    let stacks = process.stacks();
    assert_eq!(stacks[0].functions()[..2], [Some("busy".to_owned()), Some("main".to_owned())]);
    assert_eq!((stacks[0].total_allocations(), &stacks[0].0["total_bytes"]), (102_400, &5_120_000.into()));
    assert_eq!(process.totals()[0], 102_400 + 4096);
    attached.interrupt();
}
