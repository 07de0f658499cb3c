//! `memprof sweep` on small machines: families of processes, of which some leak.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

mod support;

use std::collections::HashMap;

use serde_json::Value;
use support::{Attached, Program, Report, StackReport, Target, memprof, schema::assert_contract, signal};

/// A family: the parent starts a child for each role on its command line, and tells their pids. When it is sent a line,
/// the children begin; when all are done, it says so. What goes by time goes by the clock, however busy the machine is.
const FAMILY: &str = r#"
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

static int begin[2], done[2];

static double seconds(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}

static void *block(size_t size) {
    void *memory = malloc(size);
    return memory ? memset(memory, 1, size) : abort(), memory;
}

/// Fast enough for kernels that tell memory to some dozens of pages, also where they are emulated.
static void leak(void) {
    for (int number = 0;; ++number % 8 ? 0 : usleep(10000)) {
        char *leaked = malloc(1024);
        memset(leaked, 1, 1024);
    }
}

/// Fills up within two seconds.
static void cache(void) {
    const int entries = 4096;
    double start = seconds();
    for (int filled = 0; filled < entries; usleep(10000))
        for (double elapsed = seconds() - start; filled < entries && filled < elapsed / 2 * entries; filled++)
            block(1024);
}

/// Up for a third of the time, down for another.
static void sawtooth(void) {
    enum { TEETH = 16 };
    void *held[TEETH];
    mallopt(M_MMAP_THRESHOLD, 64 << 10);
    for (int holds = 0;; usleep(5000)) {
        double phase = seconds() / 0.6;
        double height = (phase - (long)phase) * 3 - 1;
        int wanted = height < 0 ? 0 : height > 1 ? TEETH : height * TEETH;
        while (holds < wanted) held[holds++] = block(256 << 10);
        while (holds > wanted) free(held[--holds]);
    }
}

static void keep(void) {
    for (int i = 0; i < 10; i++) block(1000);
}

static void use(void) {
    void *blocks[20];
    for (int i = 0; i < 20; i++) blocks[i] = block(500);
    for (int i = 0; i < 15; i++) free(blocks[i]);
}

static const struct { const char *name; void (*act)(void); } roles[] = {
    {"leak", leak}, {"cache", cache}, {"sawtooth", sawtooth}, {"keep", keep}, {"use", use}, {"idle", 0},
};

static void play(const char *name) {
    char byte;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    prctl(PR_SET_NAME, name);
    close(begin[1]);
    if (read(begin[0], &byte, 1)) abort();
    for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
        if (!strcmp(roles[i].name, name) && roles[i].act) roles[i].act();
    if (write(done[1], "", 1) != 1) abort();
    for (;;) pause();
}

int main(int count, char **names) {
    char line[64];
    if (pipe(begin) || pipe(done)) return 1;
    for (int i = 1; i < count; i++) {
        int pid = fork();
        if (pid == 0) play(names[i]);
        dprintf(1, "%d\n", pid);
    }
    if (read(0, line, sizeof line) <= 0) return 1;
    close(begin[1]);
    for (int i = 1; i < count; i++)
        if (read(done[0], line, 1) != 1) return 1;
    dprintf(1, "done\n");
    for (;;) pause();
}
"#;

struct Family {
    program: Program,
    parent: Target,
    pids: Vec<u32>,
}

impl Family {
    fn start(roles: &[&str]) -> Self {
        let program = Program::c(FAMILY, &[]);
        let mut command = std::process::Command::new(program.path());
        let piped = std::process::Stdio::piped;
        let mut parent = Target::start(command.args(roles).stdin(piped()).stdout(piped()));
        let pids = roles.iter().map(|_| parent.hear().parse().unwrap()).collect();
        Self { program, parent, pids }
    }

    /// `memprof sweep OPTIONS` on this family.
    fn sweep(&self, options: &[&str]) -> Attached {
        let mut memprof = memprof();
        memprof.args(["sweep", "--parent", &self.parent.pid().to_string(), "--format", "json", "--top", "0"]);
        Attached::start(memprof.args(options))
    }

    /// Lets the children begin.
    fn begin(&mut self) {
        self.parent.tell("begin");
    }

    /// Waits until all children have done what they do.
    fn done(&mut self) {
        assert_eq!(self.parent.hear(), "done");
    }

    fn line(&self, mark: &str) -> String {
        format!("program.c:{}", self.program.line(mark))
    }
}

/// The only report, which is as agreed.
fn only(memprof: Attached) -> Report {
    let run = memprof.wait();
    assert!(run.status.success(), "{}", run.stderr);
    assert_eq!(run.reports.len(), 1, "{}", run.stderr);
    assert_contract(&run.reports[0].0);
    run.reports[0].clone()
}

fn pids(processes: &Value) -> Vec<u32> {
    processes.as_array().unwrap().iter().map(|process| process["pid"].as_u64().unwrap() as u32).collect()
}

fn courses(processes: &Value) -> HashMap<u32, &str> {
    let courses = processes.as_array().unwrap().iter().map(|process| process["course"].as_str().unwrap());
    pids(processes).into_iter().zip(courses).collect()
}

#[test]
fn of_ten_processes_the_one_that_leaks_comes_first_with_its_line() {
    let idle = ["idle"; 7];
    let mut family = Family::start(&[&["cache", "sawtooth", "leak"][..], &idle].concat());
    let [cache, sawtooth, leak] = family.pids[..3] else { unreachable!() };
    let mut memprof = family.sweep(&["--watch", "12s", "--duration", "3s"]);
    memprof.hear("watching for 12s");
    family.begin();
    let report = only(memprof);
    let watched = &report.0["watched"];
    // The ten, and their parent.
    assert_eq!((&watched["processes"], &watched["growing"]), (&11.into(), &1.into()), "{watched}");
    assert_eq!(pids(&watched["suspects"]), [leak], "{watched}");
    let others = courses(&watched["others"]);
    assert!(matches!(others[&cache], "plateaued" | "one_off"), "{watched}");
    assert_eq!(others[&sawtooth], "churn", "{watched}");
    let suspect = &watched["suspects"][0];
    assert_eq!((&suspect["command"], &suspect["user"]), (&"leak".into(), &"root".into()));
    assert!(suspect["growth_bytes_per_second"].as_f64().unwrap() > 0.0);
    let growth = &watched["growth"]["processes"];
    assert_eq!((pids(growth), &watched["growth"]["period"]), (vec![leak], &1.into()), "{watched}");
    let touching = &growth[0]["stacks"][0];
    assert!(
        touching["touched"]["pages"].as_u64().unwrap() * 2 > growth[0]["touched"]["pages"].as_u64().unwrap(),
        "{watched}"
    );
    assert!(StackReport(touching).sources().contains(&Some(family.line("malloc(1024)"))), "{touching}");
    let process = report.process();
    assert_eq!((process.0["pid"].as_u64(), process.command()), (Some(leak.into()), "leak"));
    assert_eq!((report.lost(), report.warnings()), ((0, 0, 0), Vec::new()));
    let (bytes, allocations) = process.outstanding();
    assert!(allocations > 0);
    assert_eq!(bytes, allocations * 1024);
    assert_eq!(process.totals(), [allocations, bytes, 0, 0]);
    let [stack] = process.stacks()[..] else { panic!("{process:?}") };
    assert_eq!(stack.sources()[0], Some(family.line("malloc(1024)")));
    assert_eq!(stack.functions()[0].as_deref(), Some("leak"));
}

#[test]
fn all_are_attached_to_at_once_and_ordered_by_growth() {
    let mut family = Family::start(&["use", "idle", "keep"]);
    let [user, idle, keeper] = family.pids[..] else { unreachable!() };
    let mut memprof = family.sweep(&["--all", "--duration", "1h"]);
    memprof.ready_for(4);
    family.begin();
    family.done();
    memprof.signal("INT");
    let report = only(memprof);
    assert!(report.0.get("watched").is_none());
    let order = pids(&report.0["processes"]);
    assert_eq!(order[..2], [keeper, user]);
    assert_eq!(order.len(), 4);
    assert_eq!(report.process_of(keeper).totals(), [10, 10_000, 0, 0]);
    assert_eq!(report.process_of(user).totals(), [20, 10_000, 15, 7500]);
    assert_eq!(report.process_of(user).outstanding(), (2500, 5));
    assert_eq!(report.process_of(idle).totals(), [0; 4]);
    assert_eq!((report.lost(), report.warnings()), ((0, 0, 0), Vec::new()));
}

#[test]
fn a_suspect_that_ends_is_reported_with_all_that_it_did() {
    let mut family = Family::start(&["leak", "idle"]);
    let leak = family.pids[0];
    family.begin();
    let mut memprof = family.sweep(&["--watch", "4s", "--duration", "1h"]);
    memprof.hear(&format!("attached to process {leak} (leak)"));
    signal(leak, "KILL");
    let report = only(memprof);
    assert!(report.process().exited());
    assert_eq!(report.process().command(), "leak");
    let (bytes, allocations) = report.process().outstanding();
    assert_eq!(bytes, allocations * 1024);
    assert_eq!((report.lost(), report.warnings()), ((0, 0, 0), Vec::new()));
}

/// It is killed while memprof loads its programs, most likely, or else when it has attached.
#[test]
fn a_suspect_that_ends_before_it_is_attached_to_is_no_error() {
    let mut family = Family::start(&["leak"]);
    let leak = family.pids[0];
    family.begin();
    let mut memprof = family.sweep(&["--watch", "4s", "--duration", "1h"]);
    memprof.hear(&format!("leak ({leak}) grows steadily"));
    signal(leak, "KILL");
    let report = only(memprof);
    assert_eq!(pids(&report.0["watched"]["suspects"]), [leak]);
    if pids(&report.0["processes"]).is_empty() {
        assert_eq!(report.warnings(), [format!("1 process ended before memprof attached: leak ({leak})")]);
    } else {
        assert!(report.process().exited());
    }
}

/// No libc, and nothing else that could allocate.
const BARE: &str =
    "void _start(void) { for (;;) __asm__ volatile(\"syscall\" :: \"a\"(34) : \"rcx\", \"r11\", \"memory\"); }";

#[test]
fn who_cannot_be_attached_to_is_left_out_with_a_warning() {
    let bare = Program::c(BARE, &["-static", "-nostdlib"]);
    // A shell that waits for three of them, which goes on without an allocator of its own while it does.
    let script = "\"$0\" & echo $!; \"$0\" & echo $!; \"$0\" & echo $!; wait";
    let mut shell = Target::start(
        std::process::Command::new("sh").arg("-c").arg(script).arg(bare.path()).stdout(std::process::Stdio::piped()),
    );
    let bare: Vec<u32> = (0..3).map(|_| shell.hear().parse().unwrap()).collect();
    support::wait_until("all are what they will be", || {
        bare.iter()
            .all(|pid| std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "program\n"))
    });
    let mut command = memprof();
    command.args(["sweep", "--all", "--duration", "100ms", "--format", "json", "--parent", &shell.pid().to_string()]);
    let report = only(Attached::start(&mut command));
    bare.iter().for_each(|pid| signal(*pid, "KILL"));
    assert_eq!(pids(&report.0["processes"]), [shell.pid()]);
    let [warning] = &report.warnings()[..] else { panic!("{:?}", report.warnings()) };
    assert!(warning.starts_with("3 processes not observed, since no allocator function was found"), "{warning}");
    assert!(bare.iter().all(|pid| warning.contains(&format!("program ({pid})"))), "{warning}");
}

#[test]
fn where_nothing_grows_nothing_is_attached_to() {
    let family = Family::start(&["idle", "idle"]);
    let mut memprof = family.sweep(&["--watch", "2s", "--duration", "1h"]);
    let said = memprof.hear("watched 3 processes for ");
    assert!(said.ends_with(": none grows steadily"), "{said}");
    let report = only(memprof);
    let watched = &report.0["watched"];
    assert_eq!((pids(&watched["suspects"]), pids(&watched["others"])), (Vec::new(), Vec::new()));
    assert_eq!(pids(&report.0["processes"]), Vec::<u32>::new());
    assert_eq!(report.warnings(), Vec::<String>::new());
}

#[test]
fn an_interrupt_while_watching_ends_with_what_was_seen() {
    let family = Family::start(&["idle"]);
    let mut memprof = family.sweep(&["--watch", "1h"]);
    memprof.hear("watching for 1h");
    memprof.signal("USR1");
    memprof.hear("watched 2 processes for ");
    memprof.signal("INT");
    let report = only(memprof);
    assert_eq!(report.0["watched"]["processes"], 2);
    assert_eq!(pids(&report.0["processes"]), Vec::<u32>::new());
}

#[test]
fn quiet_says_nothing_but_the_report() {
    let family = Family::start(&["idle"]);
    let parent = family.parent.pid().to_string();
    let output = memprof().args(["sweep", "--quiet", "--watch", "1s", "--parent", &parent]).output().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().next().unwrap();
    assert!(line.contains("] watched 2 processes for ") && line.ends_with(": none grows steadily"), "{text}");
}
