//! Many processes at once, and one after the other: a machine that is swept as a whole.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use support::{Attached, ProcessReport, Program, ROOM_FOR_COPIES, Report, Target, memory_of, memprof};

fn c(source: &str) -> Program {
    let prelude = r#"
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#define CHECK(condition) do { if (!(condition)) abort(); } while (0)
extern char **environ;
static char line[100];
static void say(const char *what) { puts(what); fflush(stdout); }
static void await_line(void) { if (!fgets(line, sizeof line, stdin)) exit(0); }
__attribute__((noinline)) static void *allocate(size_t size) { void *volatile block = malloc(size); return block; }
"#;
    Program::c(&format!("{prelude}{source}"), &["-O1"])
}

/// `memprof sweep --all` of a process and those below it, without end.
fn sweep(target: &Target, attached: usize, options: &[&str]) -> Attached {
    let mut sweep = memprof();
    sweep.args(["sweep", "--all", "--parent", &target.pid().to_string(), "--duration", "1h", "--format", "json"]);
    sweep.args(["--top", "0"]).args(options);
    let mut sweep = Attached::start(&mut sweep);
    sweep.ready_for(attached);
    sweep
}

fn processes(report: &Report) -> Vec<ProcessReport<'_>> {
    assert_eq!((report.lost(), report.warnings()), ((0, 0, 0), Vec::new()));
    report.0["processes"].as_array().unwrap().iter().map(ProcessReport).collect()
}

#[test]
fn three_hundred_processes_are_observed_at_once() {
    const CHILDREN: u64 = 300;
    let program = c(&format!(
        r#"
int main(void) {{
    int go[2], done[2];
    char c;
    CHECK(!pipe(go) && !pipe(done));
    for (int number = 1; number <= {CHILDREN}; number++) {{
        if (fork()) continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        CHECK(read(go[0], &c, 1) == 1);
        allocate(number);
        CHECK(write(done[1], "", 1) == 1);
        for (;;) pause();
    }}
    say("ready");
    await_line();
    for (int number = 1; number <= {CHILDREN}; number++) CHECK(write(go[1], "", 1) == 1);
    for (int number = 1; number <= {CHILDREN}; number++) CHECK(read(done[0], &c, 1) == 1);
    say("done");
    await_line();
    return 0;
}}"#
    ));
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let sweep = sweep(&target, 1 + CHILDREN as usize, &[]);
    target.tell("go");
    assert_eq!(target.hear(), "done");
    assert!(memory_of(sweep.pid(), "VmHWM") < 200_000_000, "{}", memory_of(sweep.pid(), "VmHWM"));
    let run = sweep.interrupt();
    let processes = processes(run.last());
    let mut outstanding: Vec<_> =
        processes.iter().map(ProcessReport::outstanding).filter(|held| *held != (0, 0)).collect();
    outstanding.sort_unstable();
    assert!(outstanding.into_iter().eq((1..=CHILDREN).map(|number| (number, 1))));
    assert_eq!(processes.len(), 1 + CHILDREN as usize);
}

#[test]
fn processes_that_come_and_go_leave_sums_and_no_memory() {
    const AT_ONCE: u64 = 150;
    const MOST_ROUNDS: usize = 40;
    let program = c(&format!(
        r#"
int main(int count, char **arguments) {{
    if (count > 1) {{
        allocate(1000);
        free(allocate(10));
        return 0;
    }}
    say("ready");
    for (;;) {{
        await_line();
        for (int number = 0; number < {AT_ONCE}; number++) {{
            char *again[] = {{"program", "again", NULL}};
            pid_t child;
            int status;
            CHECK(!posix_spawn(&child, "/proc/self/exe", NULL, NULL, again, environ));
            CHECK(waitpid(child, &status, 0) == child && status == 0);
        }}
        say("done");
    }}
}}"#
    ));
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let mut sweep = sweep(&target, 1, &ROOM_FOR_COPIES);
    let mut memory = Vec::new();
    while !has_levelled_off(&memory) {
        assert!(memory.len() < MOST_ROUNDS, "each round takes more: {memory:?}");
        target.tell("go");
        assert_eq!(target.hear(), "done");
        sweep.signal("USR1");
        // Of the last of them it may not be known yet that they have ended.
        let report = sweep.next_report();
        let shown = processes(&report).len() as u64 - 1;
        let ended = report.0["ended_processes"]["processes"].as_u64().unwrap_or_default();
        memory.push(memory_of(sweep.pid(), "RssAnon"));
        assert_eq!(shown + ended, memory.len() as u64 * AT_ONCE);
    }
    let run = sweep.interrupt();
    let processes = processes(run.last());
    let ended = &run.last().0["ended_processes"];
    let number = |of: &str, name: &str| ended[of][name].as_u64().unwrap();
    let count = memory.len() as u64 * AT_ONCE - (processes.len() as u64 - 1);
    assert_eq!((number("outstanding", "bytes"), number("outstanding", "allocations")), (1000 * count, count));
    assert_eq!((number("totals", "allocations"), number("totals", "frees")), (2 * count, count));
    assert!(processes[1..].iter().all(|process| process.outstanding() == (1000, 1)));
}

/// Whether of late a round has taken no more memory than the one before, but for a page or two. How much is taken before that depends on how
/// much ever waits at once, which is as it happens. What was kept of each process that has ended would add up, round by round.
fn has_levelled_off(memory: &[u64]) -> bool {
    const ROUNDS: usize = 4;
    memory.len() > ROUNDS && memory[memory.len() - 1] <= memory[memory.len() - ROUNDS] + 8192
}
