//! Libraries that come and go: every stack that ran through one is whole and has its name, wherever it was mapped, and
//! also when it is mapped no more.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Command, Stdio},
    time::Duration,
};

use support::{ProcessReport, Program, ROOM_FOR_COPIES, Run, StackReport, Target, attach, launch};

/// Opens libraries, calls what they hold, and closes them, as its arguments say.
const GUEST: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#define CHECK(condition) do { if (!(condition)) { dprintf(2, "line %d\n", __LINE__); _exit(1); } } while (0)
enum { MOST = 256 };
static char folder[200];
static void *libraries[MOST];

static void path_of(int number, char *path) { sprintf(path, "%s/lib%d.so", folder, number); }
static void open_library(int number) {
    char path[300];
    path_of(number, path);
    libraries[number] = dlopen(path, RTLD_NOW);
    CHECK(libraries[number]);
}
static void close_library(int number) {
    char path[300];
    path_of(number, path);
    CHECK(!dlclose(libraries[number]) && !dlopen(path, RTLD_NOW | RTLD_NOLOAD));
}
static __attribute__((noinline)) void visit(int number) {
    char name[30];
    sprintf(name, "enter%d", number);
    void *(*enter)(void) = (void *(*)(void))dlsym(libraries[number], name);
    CHECK(enter && enter());
}
static void await(const char *said) {
    char c;
    CHECK(write(1, said, strlen(said)) == strlen(said));
    do CHECK(read(0, &c, 1) == 1); while (c != '\n');
}
int main(int argc, char **arguments) {
    const char *order = arguments[1];
    int count = atoi(arguments[2]), rounds = atoi(arguments[3]);
    CHECK(readlink("/proc/self/exe", folder, sizeof folder - 1) > 0);
    *strrchr(folder, '/') = 0;
    if (!strcmp(order, "shifted")) {
        // What is mapped next lies below this, by so many bytes.
        CHECK(mmap(NULL, (size_t)rounds << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
        for (int i = 0; i < count; i++) open_library(i);
        char text[40];
        sprintf(text, "%lx\n", (unsigned long)dlsym(libraries[0], "enter0"));
        await(text);
        for (int i = 0; i < count; i++) visit(i);
        await("done\n");
        return 0;
    }
    if (!strcmp(order, "stepwise")) {
        await("ready\n");
        for (int i = 0; i < count; i++) {
            open_library(i);
            visit(i);
            close_library(i);
            await("closed\n");
        }
        return 0;
    }
    for (int round = 0; round < rounds; round++) {
        if (!strcmp(order, "alone")) {
            for (int i = 0; i < count; i++) { open_library(i); visit(i); close_library(i); }
        } else {
            for (int i = 0; i < count; i++) { open_library(i); visit(i); }
            for (int i = 0; i < count; i++) close_library(i);
        }
    }
    _exit(0);
}
"#;

/// Leaks below two of its own functions.
const LIBRARY: &str = r#"
#include <stdlib.h>
#define BARRIER(value) __asm__ volatile ("" : "+r"(value) : : "memory")
static __attribute__((noinline)) void *ALLOCATE(void) {
    void *block = malloc(SIZE);
    BARRIER(block);
    return block;
}
void *ENTER(void) {
    void *block = ALLOCATE();
    BARRIER(block);
    return block;
}
"#;

/// As many more functions, each with some unwinding rows.
fn padding(functions: usize) -> String {
    let function =
        |number| format!("void pad{number}(void (*use)(void *)) {{ char some[64]; use(some); use(some); }}\n");
    (0..functions).map(function).collect()
}

/// Library `number` leaks so much at each visit.
fn size(number: u64) -> u64 {
    10_000 + number
}

/// The program, and that many libraries beside it, none of which keeps frame pointers.
fn guest(libraries: u64) -> Program {
    padded_guest(libraries, 0)
}

fn padded_guest(libraries: u64, functions: usize) -> Program {
    let flags = ["-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-fno-builtin", "-w"];
    let program = Program::c(GUEST, &[&flags[..], &["-no-pie", "-ldl"]].concat());
    std::fs::write(program.folder().join("library.c"), LIBRARY.to_owned() + &padding(functions)).unwrap();
    let compile = |number: u64| {
        let mut gcc = Command::new("gcc");
        gcc.args(flags).args(["-shared", "-fPIC", "library.c", "-o", &format!("lib{number}.so")]);
        gcc.arg(format!("-DALLOCATE=allocate{number}")).arg(format!("-DENTER=enter{number}"));
        gcc.arg(format!("-DSIZE={}", size(number))).current_dir(program.folder()).spawn().unwrap()
    };
    let numbers: Vec<_> = (0..libraries).collect();
    for some in numbers.chunks(4) {
        let compilers: Vec<_> = some.iter().map(|number| compile(*number)).collect();
        compilers.into_iter().for_each(|mut gcc| assert!(gcc.wait().unwrap().success()));
    }
    program
}

fn run(program: &Program, order: &str, libraries: u64, rounds: u64) -> Run {
    let [libraries, rounds] = [libraries, rounds].map(|number| number.to_string());
    let options = [&["--min-size", "10000B"][..], &ROOM_FOR_COPIES].concat();
    let run = launch(&options, &[program.path().to_str().unwrap(), order, &libraries, &rounds]);
    assert!(run.status.success(), "{}", run.stderr);
    run
}

fn names(stack: &StackReport<'_>) -> Vec<String> {
    stack.functions().into_iter().map(Option::unwrap_or_default).collect()
}

/// Each library has one stack, which is whole and names it, and holds what was allocated in it.
fn assert_exact(program: &Program, process: &ProcessReport<'_>, libraries: u64, visits: u64) {
    let stacks = process.stacks();
    let of_library: BTreeMap<_, _> = stacks.iter().map(|stack| (names(stack)[0].clone(), stack)).collect();
    let found: Vec<_> = stacks.iter().map(|stack| (names(stack), stack.outstanding())).collect();
    let odd: Vec<_> = found.iter().filter(|(_, outstanding)| outstanding.1 != visits).collect();
    assert!(odd.is_empty(), "{odd:?}");
    assert_eq!((stacks.len() as u64, of_library.len() as u64), (libraries, libraries), "{found:?}");
    for number in 0..libraries {
        let stack = of_library[&format!("allocate{number}")];
        let names = names(stack);
        let expected = [&format!("allocate{number}"), &format!("enter{number}"), "visit", "main"];
        assert_eq!(names[..4], expected, "{names:?}");
        assert_eq!(names.last().map(String::as_str), Some("_start"), "{names:?}");
        assert!(stack.0["truncated"].is_null(), "{names:?}: {}", stack.0["truncated"]);
        assert_eq!(stack.outstanding(), (visits * size(number), visits));
        assert_eq!(stack.total_allocations(), visits);
        let module = program.folder().join(format!("lib{number}.so"));
        assert_eq!(stack.0["frames"][1]["module"].as_str(), module.to_str());
    }
}

#[test]
fn a_library_that_is_opened_again_and_again_has_one_stack() {
    let program = guest(1);
    let run = run(&program, "alone", 1, 500);
    assert_exact(&program, &run.exact(), 1, 500);
}

#[test]
fn many_libraries_that_are_opened_together_again_and_again_are_told_apart() {
    let program = guest(60);
    let run = run(&program, "together", 60, 5);
    assert_exact(&program, &run.exact(), 60, 5);
}

#[test]
fn many_libraries_one_after_the_other_at_one_address_are_told_apart() {
    let program = guest(60);
    let run = run(&program, "alone", 60, 5);
    assert_exact(&program, &run.exact(), 60, 5);
}

#[test]
fn the_rows_of_a_library_that_is_closed_make_room_for_others() {
    // Some 40 KB of rows each, where libc and the loader leave about 50.
    let program = padded_guest(4, 700);
    let little = ["--min-size", "10000B", "--unwind-memory", "256KiB", "-v"];
    let lacks_room = |run: &Run| run.stderr.contains("rows fit");
    let together = launch(&little, &[program.path().to_str().unwrap(), "together", "4", "1"]);
    assert!(lacks_room(&together), "{}", together.stderr);

    let mut command = Command::new(program.path());
    let mut target = Target::start(command.args(["stepwise", "4", "1"]).stdin(Stdio::piped()).stdout(Stdio::piped()));
    assert_eq!(target.hear(), "ready");
    let mut memprof = attach(target.pid(), &[&little[..], &["--interval", "1h"]].concat());
    memprof.ready();
    for _ in 0..4 {
        target.tell("go");
        assert_eq!(target.hear(), "closed");
        // One to see that it is closed, and one when nobody can be using its rows any more.
        for _ in 0..2 {
            memprof.signal("USR1");
            memprof.next_report();
            std::thread::sleep(Duration::from_millis(200));
        }
    }
    target.tell("end");
    let run = memprof.wait();
    assert!(!lacks_room(&run), "{}", run.stderr);
    assert_exact(&program, &run.exact(), 4, 1);
}

#[test]
fn a_library_of_a_process_that_exits_at_once_is_known() {
    let program = guest(1);
    for _ in 0..5 {
        assert_exact(&program, &run(&program, "alone", 1, 1).exact(), 1, 1);
    }
}

#[test]
fn one_stack_in_two_processes_has_one_name_wherever_the_library_is() {
    let program = guest(3);
    let mut targets = [1, 1000].map(|megabytes: u32| {
        let mut command = Command::new(program.path());
        command.args(["shifted", "3", &megabytes.to_string()]);
        Target::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))
    });
    let addresses = targets.each_mut().map(Target::hear);
    assert_ne!(addresses[0], addresses[1]);
    let [first, second] = targets.each_ref().map(Target::pid);
    let mut memprof = attach(first, &["--pid", &second.to_string(), "--min-size", "10000B"]);
    memprof.ready();
    targets.iter_mut().for_each(|target| target.tell("go"));
    targets.iter_mut().for_each(|target| assert_eq!(target.hear(), "done"));
    let run = memprof.interrupt();
    let report = run.last();
    assert_eq!((report.lost(), report.warnings()), ((0, 0, 0), vec![]));
    let processes = [first, second].map(|pid| report.process_of(pid));
    processes.iter().for_each(|process| assert_exact(&program, process, 3, 1));
    let texts = |process: &ProcessReport<'_>, text: &dyn Fn(&StackReport<'_>) -> String| -> BTreeSet<String> {
        process.stacks().iter().map(text).collect()
    };
    let [ids, others] = processes.map(|process| texts(&process, &|stack| stack.0["id"].as_str().unwrap().to_owned()));
    assert_eq!((ids.len(), &ids), (3, &others));
    let [places, others] =
        processes.map(|process| texts(&process, &|stack| stack.0["frames"][0]["address"].to_string()));
    assert!(places.is_disjoint(&others));
    // What a launched one has is the same again.
    let launched = self::run(&program, "together", 3, 1);
    let launched = texts(&launched.exact(), &|stack| stack.0["frames"][0]["offset"].to_string());
    assert_eq!(launched, texts(&processes[0], &|stack| stack.0["frames"][0]["offset"].to_string()));
}
