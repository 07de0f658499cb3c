//! Verdicts: each stack's course, and whether it is malloc that makes a process grow. Programs do one step at a time
//! and memprof looks after each, so that what it sees does not depend on how fast anybody is.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

mod support;

use std::fs;

use serde_json::Value;
use support::{Attached, Program, Report, Target, attach, schema::assert_contract};

const C_PRELUDE: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#define CHECK(condition) do { if (!(condition)) { dprintf(2, "line %d\n", __LINE__); _exit(1); } } while (0)
static void await_line(void) { char c; do CHECK(read(0, &c, 1) == 1); while (c != '\n'); }
static void done(void) { write(1, "done\n", 5); }
"#;

fn c(source: &str) -> Program {
    Program::c(&format!("{C_PRELUDE}{source}"), &["-fno-builtin", "-w", "-O1"])
}

/// A process and a memprof that reports when it is asked.
struct Watched {
    target: Target,
    memprof: Attached,
}

impl Watched {
    /// `target` has said that it is ready.
    fn new(mut target: Target, options: &[&str]) -> Self {
        assert_eq!(target.hear(), "done");
        let mut memprof = attach(target.pid(), &[&["--interval", "1h"], options].concat());
        memprof.ready();
        Self { target, memprof }
    }

    fn report(&mut self) -> Report {
        self.memprof.signal("USR1");
        let report = self.memprof.next_report();
        assert_contract(&report.0);
        assert_eq!((report.lost(), report.warnings()), ((0, 0, 0), vec![]));
        report
    }

    /// So many steps, and a look after each: what the last one saw.
    fn after(&mut self, steps: usize) -> Report {
        for _ in 1..steps {
            self.step();
            self.report();
        }
        self.step();
        self.report()
    }

    fn step(&mut self) {
        self.target.tell("step");
        assert_eq!(self.target.hear(), "done");
    }
}

/// The stack with this mark in the source.
fn stack<'a>(report: &'a Report, program: &Program, mark: &str) -> &'a Value {
    let source = format!("program.c:{}", program.line(mark));
    let stacks = report.process().stacks();
    let is_it = |stack: &&support::StackReport<'_>| stack.sources().contains(&Some(source.clone()));
    let found = stacks.iter().find(is_it).unwrap_or_else(|| panic!("{mark}: {}", report.0));
    found.0
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap_or_else(|| panic!("no number: {value}"))
}

/// At every step it leaks, puts into a cache what fits, and replaces some blocks; once it makes a table. Some steps hold nothing of what
/// turns over, whichever of the looks are kept: of those that are left out in between there are one, three, seven …
const COURSES: &str = r#"
static void *kept[1000], *cache[16], *turning[8], *table;
int main() {
    int keeping = 0, cached = 0;
    done();
    for (int step = 0;; step++) {
        await_line();
        CHECK(kept[keeping++] = malloc(1000)); // leak
        if (cached < 16) CHECK(cache[cached++] = malloc(5000)); // cache
        if (step == 5) CHECK(table = malloc(300000)); // table
        for (int i = 0; i < 8; i++) {
            free(turning[i]);
            turning[i] = step % 5 < 2 ? NULL : malloc(700); // turning
        }
        done();
    }
}"#;

#[test]
fn each_stack_has_its_course() {
    let program = c(COURSES);
    let mut watched = Watched::new(Target::piped(program.path()), &[]);
    let early = watched.after(3);
    assert_eq!(stack(&early, &program, "// leak")["verdict"]["course"], "too_short");
    assert!(early.process().0["verdict"]["text"].as_str().unwrap().starts_with("too early to tell"));

    let report = watched.after(57);
    for (mark, course) in
        [("// leak", "grows"), ("// cache", "plateaued"), ("// table", "one_off"), ("// turning", "churn")]
    {
        let verdict = &stack(&report, &program, mark)["verdict"];
        assert_eq!(verdict["course"], course, "{mark}: {verdict}");
    }
    let leak = &stack(&report, &program, "// leak")["verdict"];
    let facts = ["change_bytes", "lowest_bytes", "highest_bytes"].map(|fact| number(&leak[fact]));
    assert_eq!(facts, [60_000, 0, 60_000]);
    assert!(leak["bytes_per_second"].as_f64().unwrap() > 0.0, "{leak}");
    assert!(leak["text"].as_str().unwrap().starts_with("growing "), "{leak}");

    let ages = |mark| {
        let stack = stack(&report, &program, mark);
        assert_eq!(stack["ages"]["oldest_seconds"], stack["oldest_seconds"]);
        ["youngest_seconds", "median_seconds", "oldest_seconds"].map(|age| stack["ages"][age].as_f64().unwrap())
    };
    let [youngest, median, oldest] = ages("// leak");
    assert!(0.0 < youngest && youngest < median && median < oldest, "{youngest} {median} {oldest}");
    let [youngest, median, oldest] = ages("// table");
    assert!(youngest == median && median == oldest, "{youngest} {median} {oldest}");
}

#[test]
fn the_words_of_the_text_are_those_of_the_courses() {
    let program = c(COURSES);
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "done");
    let pid = target.pid().to_string();
    let output = program.folder().join("report.txt");
    let mut memprof = support::memprof();
    memprof.args(["--verbose", "--interval", "1h", "--top", "0", "--pid", &pid, "--output"]).arg(&output);
    let mut memprof = Attached::start(&mut memprof);
    memprof.ready();
    for reports in 1..=60 {
        target.tell("step");
        assert_eq!(target.hear(), "done");
        memprof.signal("USR1");
        let count =
            || fs::read_to_string(&output).unwrap_or_default().lines().filter(|line| line.starts_with('[')).count();
        support::wait_until("there is another report", || count() >= reports);
    }
    let run = memprof.interrupt();
    assert!(run.status.success());
    let text = fs::read_to_string(&output).unwrap();
    let last = &text[text.rfind("\n[").unwrap()..];
    for (mark, words) in [
        ("// leak", "growing "),
        ("// cache", "plateaued, level for"),
        ("// table", "one-off"),
        ("// turning", "churn"),
    ] {
        let source = format!("program.c:{}\n", program.line(mark));
        let entry = last.split("  #").find(|entry| entry.contains(&source)).unwrap();
        assert!(entry.lines().next().unwrap().contains(words), "{entry}");
    }
}

/// Grows by a mebibyte a step, in the way that its argument says.
const GROWS: &str = r#"
enum { STEP = 1 << 20, OLD = 64 };
static char *old[OLD];
static void touch(char *memory) {
    volatile char *page = memory;
    for (long i = 0; i < STEP; i += 4096) page[i] = 1;
}
static void look_at(char *memory) {
    volatile char *page = memory;
    for (long i = 0; i < STEP; i += 4096) page[i];
}
static char *map(int protection, int flags, int file) {
    char *memory = mmap(NULL, STEP, protection, flags, file, 0);
    CHECK(memory != MAP_FAILED);
    return memory;
}
int main(int count, char **arguments) {
    char way = arguments[1][0];
    int file = open(arguments[2], O_RDONLY);
    CHECK(file >= 0);
    for (int i = 0; way == 'r' && i < OLD; i++) {
        CHECK(old[i] = malloc(STEP - 64));
        memset(old[i], 1, STEP - 64);
    }
    if (count > 3) CHECK(dup2(open("/dev/null", O_WRONLY), 1) == 1);
    done();
    for (int step = 0;; step++) {
        await_line();
        switch (way) {
        case 'a': touch(map(PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1)); break;
        case 's': touch(map(PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1)); break;
        case 'f': look_at(map(PROT_READ, MAP_PRIVATE, file)); break;
        case 'm': touch(malloc(STEP)); break;
        case 'r': free(old[step]); memset(old[step] = malloc(STEP - 64), 1, STEP - 64); break;
        }
        done();
    }
}"#;

/// A file of at least a mebibyte, which is on a disk and has no probes: where there are any, pages are copied.
fn large_file() -> String {
    std::env::current_exe().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_process_learns_whether_it_is_malloc() {
    let program = c(GROWS);
    const STEPS: i64 = 24;
    for (way, cause, field, says) in [
        ("malloc", "heap", "anonymous_growth", "it is the heap that grows"),
        ("anonymous", "not_heap", "anonymous_growth", "not malloc"),
        ("file", "files", "file_growth", "not malloc"),
        ("shared", "shared", "shared_growth", "not malloc"),
        ("reuse", "reuse", "tracked_growth", "anonymous memory"),
    ] {
        let mut command = std::process::Command::new(program.path());
        command.args([way, &large_file()]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut watched = Watched::new(Target::start(&mut command), &[]);
        // Its memory before it grows.
        watched.report();
        let report = watched.after(STEPS as usize);
        let process = report.process();
        let (memory, verdict) = (&process.0["memory"], &process.0["verdict"]);
        assert_eq!(memory["cause"], cause, "{way}: {memory} {verdict}");
        let growth = number(&memory[field]);
        // A mebibyte a step, less what an allocator needs; and at most another for what else a process writes to.
        assert!(((STEPS << 20)..(STEPS + 1) << 20).contains(&(growth + 64 * STEPS)), "{way}: {growth} {memory}");
        assert!(verdict["text"].as_str().unwrap().contains(says), "{way}: {verdict}");
        if way == "malloc" {
            assert_eq!((number(&memory["tracked_growth"]), &verdict["course"]), (STEPS << 20, &Value::from("grows")));
        }
    }
}

#[test]
fn a_command_has_all_its_memory_accounted_for_from_its_start() {
    let program = c(GROWS);
    let words = [program.path().to_str().unwrap(), "malloc", &large_file(), "quiet"].map(str::to_owned);
    let mut memprof = support::start(&["--interval", "20ms"], &words);
    for step in 1..=24 {
        memprof.tell("step");
        while memprof.next_report().process().outstanding() != (step << 20, step) {}
    }
    let report = memprof.next_report();
    assert_contract(&report.0);
    let memory = &report.process().0["memory"];
    assert_eq!(memory["cause"], "heap", "{memory}");
    assert_eq!(memory["anonymous_growth"], memory["anonymous"], "{memory}");
}
