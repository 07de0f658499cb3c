//! Where memory grows, by page faults: exact pages for each line that touches memory, with every fault counted.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::process::Command;

use serde_json::Value;
use support::{Attached, Program, Report, Target, memprof};

/// What memprof says when every page fault is counted from then on.
const WATCHING: &str = "watching where memory grows";

/// Waits for a line, does what the test defines as `work`, says so, and waits for another line.
const FRAME: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#define PAGE 4096
#define PAGES(number) ((number) * (size_t)PAGE)

/* Memory in pages of 4 KiB, whatever the machine's setting. */
static volatile char *map(size_t pages, int flags, int file) {
    char *memory = mmap(0, PAGES(pages), PROT_READ | PROT_WRITE, flags, file, 0);
    if (memory == MAP_FAILED) _exit(2);
    madvise(memory, PAGES(pages), MADV_NOHUGEPAGE);
    return memory;
}

static volatile char *own(size_t pages) { return map(pages, MAP_PRIVATE | MAP_ANONYMOUS, -1); }

/* Page faults of this thread, as the kernel counts them. A second call has none of its own. */
static long faults(void) {
    struct rusage usage;
    getrusage(RUSAGE_THREAD, &usage);
    return usage.ru_minflt + usage.ru_majflt;
}

static void work(char **arguments);

static void wait_for_line(void) {
    char byte = 0;
    while (read(0, &byte, 1) == 1 && byte != '\n') {}
}

int main(int count, char **arguments) {
    if (write(1, "ready\n", 6) != 6) return 1;
    wait_for_line();
    work(arguments);
    if (write(1, "done\n", 5) != 5) return 1;
    wait_for_line();
    return 0;
}
"#;

fn program(work: &str, flags: &[&str]) -> Program {
    let flags = [&["-O2", "-fomit-frame-pointer", "-pthread", "-w"], flags].concat();
    Program::c(&format!("{FRAME}\n{work}"), &flags)
}

/// A program that waits to be told to work.
fn waiting(program: &Program, arguments: &[&str]) -> Target {
    use std::process::Stdio;
    let mut command = Command::new(program.path());
    let mut target = Target::start(command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()));
    assert_eq!(target.hear(), "ready");
    target
}

/// `memprof growth OPTIONS`, from when page faults are counted.
fn watch(options: &[&str]) -> Attached {
    let mut memprof = memprof();
    memprof.args(["growth", "--format", "json", "--top", "0", "--interval", "1h"]).args(options);
    let mut watching = Attached::start(&mut memprof);
    watching.ready_when(WATCHING);
    watching
}

fn watch_process(target: &Target) -> Attached {
    watch(&["--pid", &target.pid().to_string()])
}

/// A report of now.
fn report(watching: &mut Attached) -> Report {
    watching.signal("USR1");
    watching.next_report()
}

/// Has it work, and what was seen of that.
fn work(target: &mut Target, watching: &mut Attached) -> Report {
    target.tell("go");
    assert_eq!(target.hear(), "done");
    report(watching)
}

/// What a report says of one process.
struct Growth<'a> {
    report: &'a Report,
    process: &'a Value,
}

impl<'a> Growth<'a> {
    fn of(report: &'a Report, pid: u32) -> Self {
        assert_eq!(report.0["schema"], "memprof.growth/1");
        assert_eq!(report.0["lost"]["stacks"], 0, "{:?}", report.warnings());
        Self::with_lost_stacks(report, pid)
    }

    fn with_lost_stacks(report: &'a Report, pid: u32) -> Self {
        assert_eq!(report.0["lost"]["unresolved"], 0, "{:?}", report.warnings());
        Self::of_all(report, pid)
    }

    /// From a report on all processes, each of which may have lost something.
    fn of_all(report: &'a Report, pid: u32) -> Self {
        Self { report, process: report.process_of(pid).0 }
    }

    /// Pages touched by stacks with a frame at this line.
    fn pages_at(&self, program: &Program, mark: &str) -> u64 {
        let source = format!("program.c:{}", program.line(mark));
        let is_there = |stack: &&Value| frames(stack).iter().any(|frame| frame["source"] == source.as_str());
        let stacks = self.process["stacks"].as_array().unwrap();
        stacks.iter().filter(is_there).map(|stack| stack["touched"]["pages"].as_u64().unwrap()).sum()
    }

    fn pages(&self, field: &str) -> u64 {
        self.process[field]["pages"].as_u64().unwrap()
    }

    /// That so many pages were touched there. The kernel says if it has left out page faults: then there are as many fewer at most.
    fn assert_pages_at(&self, program: &Program, mark: &str, expected: u64) {
        self.assert_pages(self.pages_at(program, mark), expected, mark);
    }

    fn assert_pages(&self, pages: u64, expected: u64, what: &str) {
        let missed = self.report.0["lost"]["missed"].as_u64().unwrap();
        assert!(pages <= expected && pages + missed >= expected, "{what}: {pages} of {expected}, {:#}", self.process);
    }
}

fn frames(stack: &Value) -> &Vec<Value> {
    stack["frames"].as_array().unwrap()
}

/// Touches memory of all kinds, each at a line of its own.
const OF_ALL_KINDS: &str = r#"
__attribute__((noinline)) static void first(volatile char *memory) {
    for (size_t page = 0; page < 1000; page++) memory[page * PAGE] = 1; /* first */
}

__attribute__((noinline)) static void second(volatile char *memory) {
    for (size_t page = 0; page < 500; page++) memory[page * PAGE] = 2; /* second */
}

__attribute__((noinline)) static void others(volatile char *shared, volatile char *shared_file, volatile char *copied) {
    for (size_t page = 0; page < 300; page++) shared[page * PAGE] = 3; /* shared */
    for (size_t page = 0; page < 200; page++) shared_file[page * PAGE] = 4; /* shared file */
    for (size_t page = 0; page < 150; page++) copied[page * PAGE] = 5; /* copied from a file */
}

__attribute__((noinline)) static void only_reads(volatile char *zeros, volatile char *file) {
    char sum = 0;
    for (size_t page = 0; page < 120; page++) sum += zeros[page * PAGE]; /* zeros */
    for (size_t page = 0; page < 110; page++) sum += file[page * PAGE]; /* file */
}

static void work(char **arguments) {
    int file = open(arguments[1], O_RDWR | O_CREAT, 0600), zero = open("/dev/zero", O_RDONLY);
    if (ftruncate(file, PAGES(200)) != 0) _exit(3);
    volatile char *shared_file = map(200, MAP_SHARED, file);
    first(own(1000));
    second(own(500));
    others(map(300, MAP_SHARED | MAP_ANONYMOUS, -1), shared_file, map(200, MAP_PRIVATE, file));
    only_reads(own(120), map(200, MAP_PRIVATE, file));
    if (read(zero, (char *)own(90), PAGES(90)) != PAGES(90)) _exit(4); /* by the kernel */
}
"#;

#[test]
fn each_page_of_new_anonymous_memory_is_counted_at_the_line_that_touches_it() {
    let program = program(OF_ALL_KINDS, &[]);
    let file = program.folder().join("file");
    let mut target = waiting(&program, &[file.to_str().unwrap()]);
    let mut watching = watch_process(&target);
    let report = work(&mut target, &mut watching);
    let growth = Growth::of(&report, target.pid());
    for (mark, pages) in
        [("/* first */", 1000), ("/* second */", 500), ("/* copied from a file */", 150), ("/* by the kernel */", 90)]
    {
        growth.assert_pages_at(&program, mark, pages);
    }
    for mark in ["/* shared */", "/* shared file */", "/* zeros */", "/* file */"] {
        assert_eq!(growth.pages_at(&program, mark), 0, "{mark}");
    }
    // Around a page of a file that is read, others are mapped with it.
    let only_read = growth.pages("only_read");
    assert!((120..=230).contains(&(only_read + report.0["lost"]["missed"].as_u64().unwrap())), "{only_read}");
}

#[test]
fn stacks_are_whole() {
    let program = program(OF_ALL_KINDS, &[]);
    let file = program.folder().join("file");
    let mut target = waiting(&program, &[file.to_str().unwrap()]);
    let mut watching = watch_process(&target);
    let report = work(&mut target, &mut watching);
    let growth = Growth::of(&report, target.pid());
    let largest = &growth.process["stacks"][0];
    let functions: Vec<_> =
        frames(largest).iter().map(|frame| frame["function"].as_str().unwrap_or_default()).collect();
    assert_eq!(functions[..3], ["first", "work", "main"], "{functions:?}");
    assert_eq!(functions.last(), Some(&"_start"), "{functions:?}");
    assert_eq!(largest["truncated"], Value::Null);
}

/// The kernel's figure for a process is the sum of figures that its CPUs keep, which may lag behind.
#[test]
fn what_was_touched_explains_how_anonymous_memory_has_grown() {
    let program = program(
        "static void work(char **arguments) { memset((char *)own(20000), 1, PAGES(20000)); /* touched */ }",
        &[],
    );
    let mut target = waiting(&program, &[]);
    let mut watching = watch_process(&target);
    let report = work(&mut target, &mut watching);
    let growth = Growth::of(&report, target.pid());
    growth.assert_pages_at(&program, "/* touched */", 20_000);
    let change = growth.process["anonymous"]["change_bytes"].as_i64().unwrap() / 4096;
    assert!((19_000..21_000).contains(&change), "{change}");
}

#[test]
fn blocks_that_malloc_maps_count_when_they_are_written_to() {
    let source = r#"
        static void work(char **arguments) {
            void *small = malloc(1); /* the heap */
            __asm__ volatile ("" : "+r"(small) : : "memory");
            for (int block = 0; block < 4; block++) {
                char *memory = malloc(PAGES(2048)); /* malloc */
                __asm__ volatile ("" : "+r"(memory) : : "memory");
                memset(memory, 1, PAGES(2048)); /* memset */
                __asm__ volatile ("" : : "r"(memory) : "memory");
            }
        }
    "#;
    let program = program(source, &[]);
    let mut target = waiting(&program, &[]);
    let mut watching = watch_process(&target);
    let report = work(&mut target, &mut watching);
    let growth = Growth::of(&report, target.pid());
    // A block begins behind its header, which malloc writes.
    let pages = growth.pages_at(&program, "/* malloc */") + growth.pages_at(&program, "/* memset */");
    growth.assert_pages(pages, 4 * 2049, "malloc and memset");
}

#[test]
fn two_processes_are_told_apart_and_one_that_exits_keeps_its_names() {
    let source = r#"
        static void work(char **arguments) {
            size_t pages = atoi(arguments[1]);
            volatile char *memory = own(pages);
            for (size_t page = 0; page < pages; page++) memory[page * PAGE] = 1; /* touched */
        }
    "#;
    let program = program(source, &[]);
    let mut targets = [waiting(&program, &["700"]), waiting(&program, &["300"])];
    let pids = [targets[0].pid(), targets[1].pid()];
    let mut watching = watch(&["--pid", &pids[0].to_string(), "--pid", &pids[1].to_string()]);
    for target in &mut targets {
        target.tell("go");
        assert_eq!(target.hear(), "done");
    }
    let first = report(&mut watching);
    Growth::of(&first, pids[0]).assert_pages_at(&program, "/* touched */", 700);
    Growth::of(&first, pids[1]).assert_pages_at(&program, "/* touched */", 300);
    for target in &mut targets {
        target.tell("end");
        assert!(target.0.wait().unwrap().success());
    }
    let run = watching.wait();
    assert!(run.status.success(), "{}", run.stderr);
    let last = Growth::of(run.last(), pids[1]);
    assert_eq!(last.process["exited"], true);
    assert_eq!(last.process["command"], "program");
    assert_eq!(last.process["anonymous"], Value::Null);
    last.assert_pages_at(&program, "/* touched */", 300);
}

#[test]
fn threads_count_and_what_a_fork_makes_copied_counts_again() {
    let source = r#"
        static volatile char *memory;

        static void *touch(void *from) {
            volatile char *part = from;
            for (size_t page = 0; page < 250; page++) part[page * PAGE] = 1; /* by threads */
            return 0;
        }

        static void work(char **arguments) {
            pthread_t threads[4];
            memory = own(1000);
            for (int part = 0; part < 4; part++) pthread_create(threads + part, 0, touch, (void *)memory + PAGES(250 * part));
            for (int part = 0; part < 4; part++) pthread_join(threads[part], 0);
            int ends[2];
            if (pipe(ends) != 0) _exit(3);
            pid_t child = fork();
            if (child == 0) {
                char byte;
                close(ends[1]);
                read(ends[0], &byte, 1);
                _exit(0);
            }
            faults();
            long before = faults();
            for (size_t page = 0; page < 400; page++) memory[page * PAGE] = 2; /* after the fork */
            long after = faults();
            dprintf(1, "%ld\n", after - before);
            close(ends[1]);
            waitpid(child, 0, 0);
        }
    "#;
    let program = program(source, &[]);
    let mut target = waiting(&program, &[]);
    let mut watching = watch_process(&target);
    target.tell("go");
    // One a page, and one more where the kernel has to be asked twice, such as for a page that it is moving.
    let faults = target.hear().parse().unwrap();
    assert!(faults >= 400, "{faults}");
    assert_eq!(target.hear(), "done");
    let report = report(&mut watching);
    let growth = Growth::of(&report, target.pid());
    growth.assert_pages_at(&program, "/* by threads */", 1000);
    growth.assert_pages_at(&program, "/* after the fork */", faults);
}

/// Where the kernel does not tell of huge pages, that is said.
#[test]
fn a_huge_page_counts_as_512_pages() {
    let source = r#"
        static void work(char **arguments) {
            size_t huge = 512 * (size_t)PAGE;
            char *memory = mmap(0, 9 * huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            memory = (char *)(((size_t)memory + huge - 1) & ~(huge - 1));
            if (madvise(memory, 8 * huge, MADV_HUGEPAGE) != 0) _exit(3);
            for (size_t page = 0; page < 8 * 512; page++) ((volatile char *)memory)[page * PAGE] = 1; /* huge */
        }
    "#;
    let program = program(source, &[]);
    let mut target = waiting(&program, &[]);
    let mut watching = watch_process(&target);
    let report = work(&mut target, &mut watching);
    let growth = Growth::of(&report, target.pid());
    let has_warned = report.warnings().iter().any(|warning| warning.contains("huge page"));
    if !has_warned {
        return growth.assert_pages_at(&program, "/* huge */", 8 * 512);
    }
    // Not more than all pages, not less than one for each huge page.
    let pages = growth.pages_at(&program, "/* huge */") + report.0["lost"]["missed"].as_u64().unwrap();
    assert!((8..=8 * 512).contains(&pages), "{pages}");
}

/// The kernel fills the new program's stack when there is nothing yet to unwind.
#[test]
fn a_program_that_is_executed_begins_anew() {
    let source = r#"
        static void work(char **arguments) {
            volatile char *memory = own(600);
            for (size_t page = 0; page < 600; page++) memory[page * PAGE] = 1; /* touched */
            if (arguments[1]) execl(arguments[0], arguments[0], (char *)0);
        }
    "#;
    let program = program(source, &[]);
    let mut target = waiting(&program, &["again"]);
    let mut watching = watch_process(&target);
    target.tell("go");
    assert_eq!(target.hear(), "ready");
    let report = work(&mut target, &mut watching);
    Growth::with_lost_stacks(&report, target.pid()).assert_pages_at(&program, "/* touched */", 600);
}

/// One in so many of all page faults on a CPU is counted, so that what other processes do there decides which.
#[test]
fn with_all_processes_a_sample_is_within_its_error() {
    let program = program(
        "static void work(char **arguments) { memset((char *)own(40000), 1, PAGES(40000)); /* touched */ }",
        &[],
    );
    let mut target = waiting(&program, &[]);
    let mut watching = watch(&["--all"]);
    let report = work(&mut target, &mut watching);
    // Of other processes stacks may be lost.
    let growth = Growth::of_all(&report, target.pid());
    assert_eq!(growth.pages("without_stack"), 0);
    assert_eq!(report.0["period"], 17);
    let error = growth.process["touched"]["standard_error"].as_f64().unwrap() / 4096.0;
    let expected = (40_000.0_f64 * 16.0).sqrt();
    assert!((error - expected).abs() < expected / 5.0, "{error} {expected}");
    let missed = report.0["lost"]["missed"].as_f64().unwrap() * 17.0;
    let pages = growth.pages_at(&program, "/* touched */") as f64;
    assert!((pages - 40_000.0).abs() < 6.0 * error + missed, "{pages} ± {error}");
    // The target's end would not be its.
    watching.interrupt();
}
