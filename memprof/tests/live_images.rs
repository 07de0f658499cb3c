//! Images: what `fork`, `vfork`, `execve`, the end of a process, and code that comes and goes do to the figures.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::{fs, os::unix::process::ExitStatusExt as _, path::Path, process::Command};

use support::{Program, Report, Target, attach, launch, start, wait_until};

const C_PRELUDE: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#define CHECK(condition) do { if (!(condition)) { dprintf(2, "line %d\n", __LINE__); _exit(1); } } while (0)
// Without allocating, unlike stdio's.
static void say(const char *line) { write(1, line, strlen(line)); write(1, "\n", 1); }
static void await_line(void) { char c; do CHECK(read(0, &c, 1) == 1); while (c != '\n'); }
"#;

fn c(source: &str, flags: &[&str]) -> Program {
    Program::c(&format!("{C_PRELUDE}{source}"), &[&["-fno-builtin", "-pthread", "-w"], flags].concat())
}

fn source(program: &Program, mark: &str) -> String {
    format!("program.c:{}", program.line(mark))
}

#[test]
fn a_child_of_fork_is_not_its_parent() {
    let program = c(
        r"
int main(void) {
    void *blocks[100];
    for (int i = 0; i < 100; i++) CHECK(blocks[i] = malloc(10)); // parent
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < 100; i++) free(blocks[i]);
        for (int i = 0; i < 1000; i++) CHECK(malloc(1000));
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    free(blocks[0]);
    return 0;
}",
        &[],
    );
    let run = launch(&[], &[program.path()]);
    assert!(run.status.success(), "{}", run.stderr);
    assert_eq!(run.exact().totals(), [100, 1000, 1, 10]);
    assert_eq!(run.exact().outstanding_at(&source(&program, "// parent")), (990, 99));
}

#[test]
fn a_child_of_vfork_shares_its_parents_heap() {
    let program = c(
        r"
extern char **environ;
int main(void) {
    static void *volatile shared;
    int status;
    pid_t child = vfork();
    if (child == 0) {
        shared = malloc(50);
        _exit(0);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(shared);
    free(shared);
    child = vfork();
    if (child == 0) {
        execl(PATH, PATH, NULL);
        _exit(1);
    }
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    char *arguments[] = {PATH, NULL};
    CHECK(posix_spawn(&child, arguments[0], NULL, NULL, arguments, environ) == 0);
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    CHECK(malloc(60)); // afterwards
    return 0;
}",
        &[r#"-DPATH="/bin/true""#],
    );
    let run = launch(&[], &[program.path()]);
    assert!(run.status.success(), "{}", run.stderr);
    assert_eq!(run.exact().totals(), [2, 110, 1, 50]);
    assert_eq!(run.exact().outstanding_at(&source(&program, "// afterwards")), (60, 1));
}

/// Replaces itself as often as its argument says, and allocates before and after.
const CHAIN: &str = r#"
int main(int argc, char **arguments) {
    int left = argc > 1 ? atoi(arguments[1]) : 0;
    for (int i = 0; i < 100; i++) CHECK(malloc(1000 + left)); // each image
    if (argc > 2) { say("ready"); await_line(); }
    free(malloc(3));
    if (left == 0) return 0;
    char number[20];
    snprintf(number, sizeof number, "%d", left - 1);
    execl("/proc/self/exe", "program", number, NULL);
    return 1;
}
"#;

#[test]
fn a_launched_command_that_replaces_itself_shows_its_last_image_alone() {
    let program = c(CHAIN, &[]);
    for images in ["0", "1", "5"] {
        let run = launch(&[], &[program.path().as_os_str(), images.as_ref()]);
        assert!(run.status.success(), "{}", run.stderr);
        let process = run.exact();
        assert_eq!(process.totals(), [101, 100_003, 1, 3]);
        assert_eq!(process.outstanding_at(&source(&program, "// each image")), (100_000, 100));
        assert_eq!(process.stacks().len(), 1);
        assert!(process.exited());
    }
}

#[test]
fn an_attached_process_that_replaces_itself_shows_its_last_image_alone() {
    let program = c(CHAIN, &[]);
    for images in ["1", "4"] {
        let mut command = Command::new(program.path());
        command.args([images, "wait"]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
        let mut target = Target::start(&mut command);
        assert_eq!(target.hear(), "ready");
        let mut memprof = attach(target.pid(), &["--interval", "50ms"]);
        memprof.ready();
        target.tell("go");
        let run = memprof.wait();
        let process = run.exact();
        assert_eq!(process.totals(), [101, 100_003, 1, 3]);
        assert_eq!(process.outstanding_at(&source(&program, "// each image")), (100_000, 100));
    }
}

#[test]
fn a_shell_that_becomes_the_program_is_forgotten() {
    let program = c(CHAIN, &[]);
    let script = format!("exec {} 0", program.path().display());
    let run = launch(&[], &["/bin/sh", "-c", &script]);
    assert!(run.status.success(), "{}", run.stderr);
    assert_eq!(run.exact().totals(), [101, 100_003, 1, 3]);
    assert_eq!(run.exact().command(), "program");
}

#[test]
fn an_exec_by_another_thread_is_told_with_its_gap() {
    let program = c(
        r#"
static void *replace(void *path) {
    CHECK(malloc(40));
    execl(path, path, "again", NULL);
    return NULL;
}
int main(int argc, char **arguments) {
    if (argc > 1) {
        await_line();
        for (int i = 0; i < 1000; i++) free(malloc(20));
        for (int i = 0; i < 100; i++) CHECK(malloc(30)); // after the gap
        return 0;
    }
    CHECK(malloc(50));
    pthread_t thread;
    CHECK(!pthread_create(&thread, NULL, replace, arguments[0]));
    pause();
}"#,
        &[],
    );
    let reports = program.folder().join("reports");
    let mut memprof = start(&["--interval", "100ms", "--output", reports.to_str().unwrap()], &[program.path()]);
    let gap = "was without probes for a moment after one of its threads called execve";
    wait_until(gap, || fs::read_to_string(&reports).is_ok_and(|reports| reports.contains(gap)));
    memprof.tell("go");
    assert!(memprof.wait().status.success());
    let last = last_report(&reports);
    assert_eq!(last.lost(), (0, 0, 0), "{:?}", last.warnings());
    // `execve` ends the main thread first, which may be told by itself.
    assert!(last.warnings().iter().all(|warning| warning.contains("was without probes for a moment")));
    assert!(last.warnings().iter().any(|warning| warning.contains(gap)), "{:?}", last.warnings());
    assert_eq!(last.process().totals(), [1100, 23_000, 1000, 20_000]);
    assert_eq!(last.process().outstanding_at(&source(&program, "// after the gap")), (3000, 100));
}

fn last_report(path: &Path) -> Report {
    Report(serde_json::from_str(fs::read_to_string(path).unwrap().lines().last().unwrap()).unwrap())
}

#[test]
fn a_process_that_exits_at_once_has_a_report() {
    let program = c("int main(void) { _exit(7); }", &[]);
    let run = launch(&[], &[program.path()]);
    assert_eq!(run.status.code(), Some(7));
    assert_eq!(run.exact().totals(), [0; 4]);
    assert!(run.exact().exited());
    let program = c("int main(void) { CHECK(malloc(5)); free(malloc(6)); _exit(0); }", &[]);
    for _ in 0..5 {
        assert_eq!(launch(&[], &[program.path()]).exact().totals(), [2, 11, 1, 6]);
    }
}

#[test]
fn a_process_that_is_killed_has_a_report() {
    let program = c(
        r#"
int main(void) {
    for (int i = 0; i < 5; i++) CHECK(malloc(100)); // killed
    say("ready");
    await_line();
    for (int i = 0; i < 5; i++) CHECK(malloc(100)); // late
    say("done");
    pause();
}"#,
        &[],
    );
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let mut memprof = attach(target.pid(), &[]);
    memprof.ready();
    target.tell("go");
    assert_eq!(target.hear(), "done");
    support::signal(target.pid(), "KILL");
    let run = memprof.wait();
    assert!(run.status.success());
    assert!(run.exact().exited());
    assert_eq!(run.exact().totals(), [5, 500, 0, 0]);
    assert_eq!(run.exact().outstanding_at(&source(&program, "// late")), (500, 5));

    let program = c("int main(void) { CHECK(malloc(100)); kill(getpid(), SIGKILL); pause(); }", &[]);
    let run = launch(&[], &[program.path()]);
    assert_eq!((run.status.code(), run.status.signal()), (Some(128 + 9), None));
    assert_eq!(run.exact().totals(), [1, 100, 0, 0]);
}

#[test]
fn two_processes_of_one_program_do_not_mix() {
    // Without ASLR their blocks have the same addresses, and their stacks the same frames.
    let program = c(
        r#"
int main(int argc, char **arguments) {
    int size = atoi(arguments[1]);
    say("ready");
    await_line();
    for (int i = 0; i < 10000; i++) {
        void *block = malloc(size); // allocated
        CHECK(block);
        if (i % size) free(block);
    }
    say("done");
    await_line();
    return 0;
}"#,
        &[],
    );
    let sizes = [8, 10];
    let mut targets = sizes.map(|size: u64| {
        let mut command = Command::new("setarch");
        command.arg("--addr-no-randomize").arg(program.path()).arg(size.to_string());
        Target::start(command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()))
    });
    targets.iter_mut().for_each(|target| assert_eq!(target.hear(), "ready"));
    let [first, second] = targets.each_ref().map(Target::pid);
    let mut memprof = attach(first, &["--pid", &second.to_string(), "--interval", "100ms"]);
    memprof.ready();
    targets.iter_mut().for_each(|target| target.tell("go"));
    targets.iter_mut().for_each(|target| assert_eq!(target.hear(), "done"));
    targets[0].tell("end");
    let run = memprof.interrupt();
    assert_eq!(run.last().lost(), (0, 0, 0));
    assert_eq!(run.last().warnings(), Vec::<String>::new());
    for (target, size) in targets.iter().zip(sizes) {
        let process = run.last().process_of(target.pid());
        let kept = 10_000 / size;
        assert_eq!(process.totals(), [10_000, 10_000 * size, 10_000 - kept, (10_000 - kept) * size]);
        assert_eq!(process.outstanding_at(&source(&program, "// allocated")), (kept * size, kept));
        assert_eq!(process.stacks().len(), 1);
        assert_eq!(process.stacks()[0].total_allocations(), 10_000);
    }
}

/// Opens two libraries, `together` or one after the other, and closes each before the end.
const GUEST: &str = r#"
typedef void *allocate_t(void);
static void *open_library(const char *path) {
    void *library = dlopen(path, RTLD_NOW);
    CHECK(library);
    allocate_t *allocate = (allocate_t *)dlsym(library, "allocate");
    CHECK(allocate && allocate());
    return library;
}
static void close_library(void *library, const char *path) {
    CHECK(!dlclose(library) && !dlopen(path, RTLD_NOW | RTLD_NOLOAD));
}
int main(int argc, char **arguments) {
    int together = !strcmp(arguments[1], "together");
    for (int round = 0; round < 2; round++) {
        void *one = open_library("./one.so");
        if (!together) close_library(one, "./one.so");
        void *two = open_library("./two.so");
        close_library(two, "./two.so");
        if (together) close_library(one, "./one.so");
    }
    return 0;
}
"#;

fn run_with_libraries(order: &str) -> support::Run {
    let program = c(GUEST, &["-ldl"]);
    for (name, size) in [("one", 111), ("two", 222)] {
        let library = format!("#include <stdlib.h>\n\nvoid *allocate(void) {{\n    return malloc({size});\n}}\n");
        fs::write(program.folder().join(format!("{name}.c")), library).unwrap();
        let (input, output) = (format!("{name}.c"), format!("{name}.so"));
        let mut gcc = Command::new("gcc");
        gcc.args(["-g", "-shared", "-fPIC", &input, "-o", &output]).current_dir(program.folder());
        assert!(gcc.status().unwrap().success());
    }
    let script = format!("cd {} && exec ./program {order}", program.folder().display());
    let run = launch(&[], &["/bin/sh", "-c", &script]);
    assert!(run.status.success(), "{}", run.stderr);
    let [allocations, bytes, frees, freed] = run.exact().totals();
    assert_eq!((bytes - freed, allocations - frees), run.exact().outstanding());
    run
}

#[test]
fn libraries_that_were_closed_keep_their_names() {
    let run = run_with_libraries("together");
    assert_eq!(run.exact().outstanding_at("one.c:4"), (222, 2));
    assert_eq!(run.exact().outstanding_at("two.c:4"), (444, 2));
}

#[test]
fn libraries_at_one_address_after_another_are_told_apart() {
    let run = run_with_libraries("alternating");
    assert_eq!(run.exact().outstanding_at("one.c:4"), (222, 2));
    assert_eq!(run.exact().outstanding_at("two.c:4"), (444, 2));
}

const PLAIN: &str = r"
static __attribute__((noinline)) void *leak(void) { return malloc(100); } // leak
int main(int argc, char **arguments) {
    if (argc > 1) return 0;
    for (int i = 0; i < 3; i++) CHECK(leak()); // main
    free(calloc(5, 5));
    CHECK(realloc(malloc(20), 200000)); // moved
    return 0;
}
";

#[test]
fn executables_of_every_kind() {
    for flags in [&["-no-pie"][..], &["-pie"], &["-static"], &["-static-pie"]] {
        let program = c(PLAIN, flags);
        // Without a dynamic loader, libc itself allocates before `main`.
        let before = launch(&[], &[program.path().as_os_str(), "not".as_ref()]);
        let [allocations, bytes, frees, freed] = before.exact().totals();
        let run = launch(&[], &[program.path()]);
        assert!(run.status.success(), "{flags:?}: {}", run.stderr);
        let process = run.exact();
        assert_eq!(process.totals(), [6 + allocations, 200_345 + bytes, 2 + frees, 45 + freed], "{flags:?}");
        for (mark, outstanding) in [("// leak", (300, 3)), ("// main", (300, 3)), ("// moved", (200_000, 1))] {
            assert_eq!(process.outstanding_at(&source(&program, mark)), outstanding, "{flags:?} {mark}");
        }
        assert_eq!(process.outstanding(), (200_300 + bytes - freed, 4 + allocations - frees));
    }
}
