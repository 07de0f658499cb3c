//! Processes that the observed one forks: each from its first instruction on, or from when it is seen.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::{fs, os::unix::fs::FileExt as _, path::Path, process::Command};

use support::{Program, ROOM_FOR_COPIES, Report, Run, StackReport, Target, attach, launch, wait_until};

const EXACT: &str = "--follow-children=exact";

fn c(source: &str) -> Program {
    let prelude = r#"
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#define CHECK(condition) do { if (!(condition)) abort(); } while (0)
extern char **environ;
__attribute__((noinline)) static void *allocate(size_t size) { void *volatile block = malloc(size); return block; }
static void await_child(pid_t child) { int status; CHECK(waitpid(child, &status, 0) == child && status == 0); }
"#;
    Program::c(&format!("{prelude}{source}"), &["-O1", "-fomit-frame-pointer"])
}

/// Outstanding and totals of each process but the first, in their order.
fn children(report: &Report) -> Vec<((u64, u64), [u64; 4])> {
    let processes = report.0["processes"].as_array().unwrap();
    let process = |process| support::ProcessReport(process);
    processes.iter().skip(1).map(process).map(|process| (process.outstanding(), process.totals())).collect()
}

fn assert_nothing_in_doubt(run: &Run) {
    assert_eq!((run.last().lost(), run.last().warnings()), ((0, 0, 0), Vec::new()), "{}", run.stderr);
}

fn is_whole(stack: &StackReport<'_>) -> bool {
    stack.functions().contains(&Some("main".into())) && stack.0["truncated"].is_null()
}

#[test]
fn children_are_observed_from_their_first_instruction_to_their_last() {
    let program = c(r#"
static void child(int number) {
    for (int i = 0; i < 4; i++) allocate(100 + number);
    free(allocate(7));
    _exit(0);
}
int main(int count, char **arguments) {
    if (count > 1) {
        void *block = allocate(1000);
        CHECK((block = realloc(block, 3000)));
        return 0;
    }
    void *inherited = allocate(10);
    for (int number = 0; number < 3; number++) {
        pid_t child_pid = fork();
        if (!child_pid) {
            // Its own copy of its parent's block, which it did not allocate.
            free(inherited);
            child(number);
        }
        await_child(child_pid);
    }
    pid_t executed = fork();
    if (!executed) execl("/proc/self/exe", "program", "again", NULL);
    await_child(executed);
    return 0;
}"#);
    let run = launch(&[&[EXACT][..], &ROOM_FOR_COPIES].concat(), &[program.path()]);
    assert_nothing_in_doubt(&run);
    let first = support::ProcessReport(&run.last().0["processes"][0]);
    assert_eq!((first.outstanding(), first.totals()), ((10, 1), [1, 10, 0, 0]));
    let forked = |number: u64| ((4 * (100 + number), 4), [5, 4 * (100 + number) + 7, 1, 7]);
    let executed = ((3000, 1), [2, 4000, 1, 1000]);
    assert_eq!(children(run.last()), [forked(0), forked(1), forked(2), executed]);
    for process in run.last().0["processes"].as_array().unwrap() {
        assert!(support::ProcessReport(process).stacks().iter().all(is_whole), "{process}");
    }
}

#[test]
fn a_process_in_its_parents_memory_is_part_of_it_until_it_executes_a_program() {
    let program = c(r#"
int main(int count, char **arguments) {
    if (count > 1) {
        allocate(500);
        return 0;
    }
    void *volatile from_child = NULL;
    void *of_parent = allocate(20);
    pid_t child = vfork();
    if (!child) {
        from_child = allocate(30);
        free(of_parent);
        _exit(0);
    }
    await_child(child);
    CHECK(from_child);
    char *again[] = {"program", "again", NULL};
    CHECK(!posix_spawn(&child, "/proc/self/exe", NULL, NULL, again, environ));
    await_child(child);
    free(from_child);
    return 0;
}"#);
    let run = launch(&[&[EXACT][..], &ROOM_FOR_COPIES].concat(), &[program.path()]);
    assert_nothing_in_doubt(&run);
    let first = support::ProcessReport(&run.last().0["processes"][0]);
    // What posix_spawn itself allocates is given back.
    let [allocations, bytes, frees, freed] = first.totals();
    assert_eq!((first.outstanding(), allocations - frees, bytes - freed), ((0, 0), 0, 0));
    assert!(bytes >= 50);
    assert_eq!(children(run.last()), [((500, 1), [1, 500, 0, 0])]);
}

#[test]
fn grandchildren_are_followed_too_and_run_on_when_their_parents_have_ended() {
    let program = c(r#"
int main(void) {
    int depth = 1;
    while (depth <= 4 && !fork()) depth++;
    allocate(depth * 100);
    // Each ends after its parent, but for the last.
    if (depth > 1) usleep(depth * 20000);
    return 0;
}"#);
    let run = launch(&[&[EXACT][..], &ROOM_FOR_COPIES].concat(), &[program.path()]);
    assert_nothing_in_doubt(&run);
    let outstanding: Vec<_> = children(run.last()).into_iter().map(|(outstanding, _)| outstanding).collect();
    assert_eq!(outstanding, [(200, 1), (300, 1), (400, 1), (500, 1)]);
}

#[test]
fn of_thousands_that_end_the_sums_are_kept_and_the_largest() {
    const CHILDREN: u64 = 2000;
    const LEAKING: u64 = 40;
    /// For so many at once there are targets, however slow memprof is.
    const AT_ONCE: u64 = 200;
    let program = c(&format!(
        r#"
static char line[100];
static void await_line(void) {{ if (!fgets(line, sizeof line, stdin)) exit(0); }}
int main(void) {{
    puts("ready");
    fflush(stdout);
    for (int number = 1; number <= {CHILDREN}; number++) {{
        if (number % {AT_ONCE} == 1) await_line();
        pid_t child = fork();
        if (!child) {{
            void *block = allocate(number);
            if (number % ({CHILDREN} / {LEAKING})) free(block);
            _exit(0);
        }}
        await_child(child);
        if (number % {AT_ONCE} == 0) {{
            puts("done");
            fflush(stdout);
        }}
    }}
    await_line();
    return 0;
}}"#
    ));
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let mut memprof = attach(target.pid(), &[&[EXACT, "--interval", "1h"][..], &ROOM_FOR_COPIES].concat());
    memprof.ready();
    for _ in 0..CHILDREN / AT_ONCE {
        target.tell("go");
        assert_eq!(target.hear(), "done");
        memprof.signal("USR1");
        memprof.next_report();
    }
    target.tell("end");
    let run = memprof.wait();
    assert_nothing_in_doubt(&run);
    let all: u64 = (1..=CHILDREN).sum();
    let leaked =
        |numbers: std::ops::RangeInclusive<u64>| numbers.map(|number| number * (CHILDREN / LEAKING)).sum::<u64>();
    let shown = children(run.last());
    let largest: u64 = shown.iter().map(|((bytes, _), _)| bytes).sum();
    assert_eq!((shown.len(), largest), (16, leaked(LEAKING - 15..=LEAKING)));
    let ended = &run.last().0["ended_processes"];
    assert_eq!(ended["processes"], CHILDREN - 16);
    assert_eq!(ended["outstanding"]["bytes"], leaked(1..=LEAKING - 16));
    assert_eq!(ended["outstanding"]["allocations"], LEAKING - 16);
    assert_eq!(ended["totals"]["allocations"], CHILDREN - 16);
    assert_eq!(ended["totals"]["allocated_bytes"], all - largest);
    assert_eq!(ended["totals"]["frees"], CHILDREN - LEAKING);
}

#[test]
fn a_child_of_a_running_process_is_attached_to_and_the_report_says_that_it_was_late() {
    let program = c(r#"
static char line[100];
static void *work(int size) {
    while (fgets(line, sizeof line, stdin)) {
        if (line[0] == 'q') _exit(0);
        if (line[0] == 'f') return NULL;
        allocate(size);
        puts("done");
        fflush(stdout);
    }
    _exit(1);
}
int main(void) {
    puts("ready");
    fflush(stdout);
    work(100);
    pid_t child = fork();
    // The parent reads no more.
    if (!child) work(1);
    await_child(child);
    return 0;
}"#);
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let mut memprof = attach(target.pid(), &["--follow-children", "--interval", "1h"]);
    memprof.ready();
    target.tell("allocate");
    assert_eq!(target.hear(), "done");
    target.tell("fork");
    let mut allocate = || {
        target.tell("allocate");
        assert_eq!(target.hear(), "done");
        memprof.signal("USR1");
        let report = memprof.next_report();
        let children = children(&report);
        (children.iter().map(|(_, totals)| totals[0]).sum::<u64>(), report.warnings())
    };
    // Some of its blocks may come before its probes.
    let mut seen = 0;
    wait_until("the child is probed", || {
        seen = allocate().0;
        seen > 0
    });
    let (after, warnings) = (0..10).map(|_| allocate()).last().unwrap();
    assert_eq!(after, seen + 10);
    assert!(warnings.iter().any(|warning| warning.starts_with("1 forked processes were observed from a moment")));
    target.tell("quit");
    let run = memprof.wait();
    assert_eq!(run.last().process_of(target.pid()).outstanding(), (100, 1));
    assert_eq!(children(run.last()), [((after, after), [after, after, 0, 0])]);
}

#[test]
fn when_memprof_ends_no_process_has_probes() {
    let program = c(r#"
__attribute__((noinline)) void *pool_allocate(size_t size) { return allocate(size); }
int main(void) {
    free(pool_allocate(10));
    puts("ready");
    fflush(stdout);
    getchar();
    return 0;
}"#);
    let (mut bystander, mut target) = (Target::piped(program.path()), Target::piped(program.path()));
    assert_eq!([bystander.hear(), target.hear()], ["ready"; 2]);
    let has_breakpoint = || code_of(bystander.pid(), program.path()).contains(&0xcc);
    assert!(!has_breakpoint());
    // In a file that no other test's processes map.
    let pool = ["--function", "pool_allocate:malloc", "--interval", "1h"];
    let mut memprof = attach(target.pid(), &[&[EXACT][..], &pool].concat());
    memprof.ready();
    assert!(has_breakpoint(), "probes are in every process");
    memprof.signal("KILL");
    memprof.wait_for_end();
    wait_until("the kernel has removed the probes", || !has_breakpoint());
    let mut memprof = attach(target.pid(), &[&["--follow-children"][..], &pool].concat());
    memprof.ready();
    assert!(!has_breakpoint(), "probes are in the target only");
    assert!(code_of(target.pid(), program.path()).contains(&0xcc));
    memprof.interrupt();
    assert!(!code_of(target.pid(), program.path()).contains(&0xcc));
}

/// The bytes of a function that the program defines, as they are in a process's memory.
fn code_of(pid: u32, program: &Path) -> Vec<u8> {
    let symbols = Command::new("nm").arg(program).output().unwrap();
    let symbols = String::from_utf8(symbols.stdout).unwrap();
    let number = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let offset = number(symbols.lines().find_map(|line| line.strip_suffix(" T pool_allocate")).unwrap());
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let start = number(maps.split('-').next().unwrap());
    let mut bytes = vec![0; 16];
    fs::File::open(format!("/proc/{pid}/mem")).unwrap().read_exact_at(&mut bytes, start + offset).unwrap();
    bytes
}
