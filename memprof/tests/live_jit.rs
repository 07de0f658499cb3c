//! Code that a process compiles while it runs: stacks go through it, and the process tells its names in a perf map.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use support::{ProcessReport, Program, Report, Run, StackReport, Target, attach, launch};

/// Does what its arguments say, and then, if the last is `listen`, what it reads, a line at a time, each answered.
///
/// `compile N` makes a function in slot N that keeps a frame pointer and calls `leak`; `name N NAME` tells its name, and
/// `map LINE` anything else; `leak N BYTES` calls it; `other N BYTES` calls it from elsewhere. After `aside` the map is written under
/// another name, until `publish`: nobody sees it before it is as it is to be.
const COMPILER: &str = r#"
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#define CHECK(condition) do { if (!(condition)) { dprintf(2, "line %d\n", __LINE__); _exit(1); } } while (0)
#define BARRIER(value) __asm__ volatile ("" : "+r"(value) : : "memory")
enum { SLOTS = 32, SLOT_BYTES = 64, PAGE = 4096 };
static unsigned char *code;
static char map[64], published[64];

static __attribute__((noinline)) void leak(size_t size) {
    void *block = malloc(size);
    CHECK(block);
    BARRIER(block);
}
static unsigned char *slot(int number) {
    CHECK(number < SLOTS);
    return code + SLOT_BYTES * number;
}
static void compile(int number) {
    // push %rbp; mov %rsp,%rbp; movabs $leak,%rax; call *%rax; pop %rbp; ret
    unsigned char bytes[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xd0, 0x5d, 0xc3};
    // push %rbp; xor %ebp,%ebp; movabs $leak,%rax; call *%rax; pop %rbp; ret
    unsigned char without[] = {0x55, 0x31, 0xed, 0x90, 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xd0, 0x5d, 0xc3};
    uintptr_t callee = (uintptr_t)leak;
    CHECK(!mprotect(code, PAGE, PROT_READ | PROT_WRITE));
    memcpy(slot(number), number == SLOTS - 1 ? without : bytes, sizeof bytes);
    memcpy(slot(number) + 6, &callee, sizeof callee);
    CHECK(!mprotect(code, PAGE, PROT_READ | PROT_EXEC));
}
static __attribute__((noinline)) void call(int number, size_t size) {
    ((void (*)(size_t))slot(number))(size);
    BARRIER(number);
}
static __attribute__((noinline)) void call_elsewhere(int number, size_t size) {
    ((void (*)(size_t))slot(number))(size);
    BARRIER(size);
}
static void append(const char *line) {
    int file = open(map, O_WRONLY | O_CREAT | O_APPEND, 0644);
    CHECK(file >= 0 && dprintf(file, "%s\n", line) > 0 && !close(file));
}
static void name(int number, const char *name) {
    char line[200];
    snprintf(line, sizeof line, "%lx %x %s", (unsigned long)slot(number), SLOT_BYTES, name);
    append(line);
}
static void obey(char *line) {
    char *rest = strchr(line, ' ');
    int number = rest ? atoi(rest) : 0;
    const char *argument = rest && strchr(rest + 1, ' ') ? strchr(rest + 1, ' ') + 1 : "";
    if (!strncmp(line, "compile ", 8)) compile(number);
    else if (!strncmp(line, "name ", 5)) name(number, argument);
    else if (!strncmp(line, "map ", 4)) append(rest + 1);
    else if (!strncmp(line, "leak ", 5)) call(number, atoi(argument));
    else if (!strncmp(line, "other ", 6)) call_elsewhere(number, atoi(argument));
    else if (!strcmp(line, "aside")) strcat(map, ".aside");
    else if (!strcmp(line, "publish")) { CHECK(!rename(map, published)); strcpy(map, published); }
    else if (!strcmp(line, "unlink")) CHECK(!unlink(map));
    else if (!strcmp(line, "truncate")) CHECK(!truncate(map, 0));
    else if (!strcmp(line, "fifo")) CHECK(!mkfifo(map, 0666));
    else if (!strncmp(line, "symlink ", 8)) CHECK(!symlink(rest + 1, map));
    else if (!strncmp(line, "owner ", 6)) CHECK(!chown(map, number, -1));
    else if (!strcmp(line, "old")) CHECK(!utimensat(AT_FDCWD, map, (struct timespec[2]){{1000}, {1000}}, 0));
    else CHECK(!"a command");
}
static int await(char *line, size_t size) {
    size_t length = 0;
    while (length < size && read(0, line + length, 1) == 1)
        if (line[length++] == '\n') { line[length - 1] = 0; return 1; }
    return 0;
}
int main(int count, char **arguments) {
    snprintf(map, sizeof map, "/tmp/perf-%d.map", getpid());
    strcpy(published, map);
    code = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(code != MAP_FAILED);
    for (int i = 1; i < count && strcmp(arguments[i], "listen"); i++) obey(arguments[i]);
    if (count == 1 || strcmp(arguments[count - 1], "listen")) return 0;
    char line[200];
    do CHECK(write(1, "done\n", 5) == 5); while (await(line, sizeof line) && (obey(line), 1));
    return 0;
}
"#;

fn compiler() -> Program {
    Program::c(COMPILER, &["-O2", "-fomit-frame-pointer", "-fno-optimize-sibling-calls", "-fno-builtin", "-w"])
}

/// A perf map that goes with the test.
struct Map(PathBuf);

impl Map {
    fn of(process: &ProcessReport<'_>) -> Self {
        Self::of_pid(process.0["pid"].as_u64().unwrap() as u32)
    }

    fn of_pid(pid: u32) -> Self {
        Self(PathBuf::from(format!("/tmp/perf-{pid}.map")))
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn launch_compiler(program: &Program, commands: &[&str]) -> (Run, Map) {
    let command: Vec<_> = [program.path().to_str().unwrap()].into_iter().chain(commands.iter().copied()).collect();
    let run = launch(&[], &command);
    assert!(run.status.success(), "{}", run.stderr);
    let map = Map::of(&run.exact());
    (run, map)
}

/// A compiler that obeys.
struct Compiler {
    target: Target,
    _map: Map,
}

impl Compiler {
    fn start(program: &Path, commands: &[&str]) -> Self {
        let mut command = Command::new(program);
        let target = Target::start(command.args(commands).arg("listen").stdin(Stdio::piped()).stdout(Stdio::piped()));
        let map = Map::of_pid(target.pid());
        let mut compiler = Self { target, _map: map };
        assert_eq!(compiler.target.hear(), "done");
        compiler
    }

    fn tell(&mut self, commands: &[&str]) {
        for command in commands {
            self.target.tell(command);
            assert_eq!(self.target.hear(), "done", "{command}");
        }
    }

    /// Lets it come to its end.
    fn end(&mut self) {
        drop(self.target.0.stdin.take());
    }
}

/// The stack that holds so many bytes.
fn holding<'a>(process: &ProcessReport<'a>, bytes: u64) -> StackReport<'a> {
    let stacks = process.stacks();
    let there: Vec<_> = stacks.iter().filter(|stack| stack.outstanding().0 == bytes).collect();
    assert_eq!(there.len(), 1, "{bytes}: {stacks:?}");
    *there[0]
}

fn jit_name(process: &ProcessReport<'_>, bytes: u64) -> Option<String> {
    holding(process, bytes).functions()[1].clone()
}

/// Every frame of a stack through one compiled function is there; that nothing is missing cannot be known.
fn assert_whole(stack: &StackReport<'_>, name: &str, caller: &str) {
    let names: Vec<_> = stack.functions().into_iter().map(Option::unwrap_or_default).collect();
    assert_eq!(names[..3], ["leak", name, caller], "{names:?}");
    let main = names.iter().position(|name| name == "main").unwrap();
    assert!(main <= 4 && names.len() <= main + 4, "{names:?}");
    assert_eq!(names.last().map(String::as_str), Some("_start"), "{names:?}");
    assert_eq!(stack.0["truncated"], "code without unwind tables");
    let frame = &stack.0["frames"][1];
    assert_eq!((frame["module"].as_str(), frame["offset"].as_str()), (Some("[JIT]"), None));
    assert!(frame["address"].as_str().unwrap().starts_with("0x"));
}

#[test]
fn compiled_functions_of_a_launched_program_have_names_after_its_end() {
    let program = compiler();
    let commands = [
        "compile 0",
        "name 0 LazyCompile:~one /srv/a b.js:3",
        "leak 0 100",
        "compile 1",
        "name 1 two",
        "leak 1 1000",
        "leak 1 1000",
    ];
    for _ in 0..5 {
        let (run, _map) = launch_compiler(&program, &commands);
        let process = run.exact();
        assert_eq!(process.outstanding(), (2100, 3));
        assert_whole(&holding(&process, 100), "LazyCompile:~one /srv/a b.js:3", "call");
        assert_whole(&holding(&process, 2000), "two", "call");
        assert_eq!(process.0["truncated_stacks"], 2);
    }
}

#[test]
fn names_that_are_told_at_the_very_end_are_known() {
    let program = compiler();
    let (run, _map) = launch_compiler(&program, &["compile 3", "leak 3 100", "compile 4", "name 3 late"]);
    assert_whole(&holding(&run.exact(), 100), "late", "call");
    let mut compiler = Compiler::start(program.path(), &["compile 3"]);
    let mut memprof = attach(compiler.target.pid(), &[]);
    memprof.ready();
    compiler.tell(&["leak 3 100", "name 3 later"]);
    compiler.end();
    assert_whole(&holding(&memprof.wait().exact(), 100), "later", "call");
}

#[test]
fn compiled_functions_of_an_attached_program_have_names_after_it_has_removed_them() {
    let program = compiler();
    let mut compiler = Compiler::start(program.path(), &["compile 0", "name 0 before", "compile 1"]);
    let mut memprof = attach(compiler.target.pid(), &["--interval", "50ms"]);
    memprof.ready();
    compiler.tell(&["name 1 while", "leak 0 100", "leak 1 200"]);
    await_stacks(&mut memprof, 2);
    compiler.tell(&["unlink"]);
    compiler.end();
    let run = memprof.wait();
    assert_whole(&holding(&run.exact(), 100), "before", "call");
    assert_whole(&holding(&run.exact(), 200), "while", "call");
    assert!(run.exact().exited());
}

fn await_stacks(memprof: &mut support::Attached, count: usize) -> Report {
    loop {
        let report = memprof.next_report();
        if report.process().stacks().len() == count {
            return report;
        }
    }
}

#[test]
fn a_function_in_the_place_of_another_does_not_take_over_its_stacks() {
    let program = compiler();
    let mut compiler = Compiler::start(program.path(), &["compile 0", "name 0 zeroth", "name 0 first"]);
    let mut memprof = attach(compiler.target.pid(), &["--interval", "50ms"]);
    memprof.ready();
    compiler.tell(&["leak 0 100"]);
    assert_eq!(jit_name(&await_stacks(&mut memprof, 1).process(), 100).as_deref(), Some("first"));
    compiler.tell(&["compile 0", "name 0 second", "other 0 200"]);
    await_stacks(&mut memprof, 2);
    compiler.end();
    let run = memprof.wait();
    assert_whole(&holding(&run.exact(), 100), "first", "call");
    assert_whole(&holding(&run.exact(), 200), "second", "call_elsewhere");
}

#[test]
fn a_map_that_is_written_anew_is_read_anew() {
    let program = compiler();
    let mut compiler = Compiler::start(program.path(), &["compile 0", "compile 1", "name 0 zero"]);
    let mut memprof = attach(compiler.target.pid(), &["--interval", "50ms"]);
    memprof.ready();
    compiler.tell(&["leak 0 100"]);
    assert_eq!(jit_name(&await_stacks(&mut memprof, 1).process(), 100).as_deref(), Some("zero"));
    compiler.tell(&["truncate", "name 1 one", "name 0 nil", "leak 1 200"]);
    await_stacks(&mut memprof, 2);
    compiler.tell(&["unlink", "compile 2", "name 2 two", "leak 2 300"]);
    await_stacks(&mut memprof, 3);
    compiler.end();
    let run = memprof.wait();
    let names = [100, 200, 300].map(|bytes| jit_name(&run.exact(), bytes).unwrap());
    assert_eq!(names, ["zero", "one", "two"]);
}

#[test]
fn a_map_is_found_in_the_targets_own_namespaces() {
    let program = compiler();
    // Its executable is out of sight once its own `/tmp` is there.
    let script = r#"exec 9<"$0"; mount -t tmpfs none /tmp && exec /proc/self/fd/9 "compile 0" "name 0 inside" listen"#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "--pid", "--fork", "--kill-child", "sh", "-c", script]).arg(program.path());
    let mut target = Target::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()));
    assert_eq!(target.hear(), "done");
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", target.pid())).unwrap();
    let pid = children.trim().parse().unwrap();
    assert!(Path::new(&format!("/proc/{pid}/root/tmp/perf-1.map")).exists());
    let mut memprof = attach(pid, &[]);
    memprof.ready();
    target.tell("leak 0 100");
    assert_eq!(target.hear(), "done");
    drop(target.0.stdin.take());
    assert_whole(&holding(&memprof.wait().exact(), 100), "inside", "call");
}

#[test]
fn what_may_be_somebody_elses_is_not_believed() {
    let program = compiler();
    let name = "name 0 deceit";
    let (owned, old) = (["aside", name, "owner 12345", "publish"], ["aside", name, "old", "publish"]);
    for commands in [&["fifo"][..], &["symlink /dev/zero"], &["symlink /etc/passwd"], &owned, &old] {
        let commands = [commands, &["compile 0", "leak 0 100"]].concat();
        let (run, _map) = launch_compiler(&program, &commands);
        let process = run.exact();
        let stack = holding(&process, 100);
        assert_eq!(stack.functions()[1], None, "{commands:?}");
        assert_eq!(stack.0["frames"][1]["module"], "//anon", "{commands:?}");
    }
}

#[test]
fn lines_that_make_no_sense_are_passed_over() {
    let program = compiler();
    let (run, _map) = launch_compiler(
        &program,
        &[
            "map nonsense",
            "map 0 ffffffffffffffff everything",
            "map ffffffffffffffff ffffffffffffffff nothing",
            "compile 0",
            "name 0 \u{1b}[2Jsense",
            "map 0x 0x 0x",
            "leak 0 100",
        ],
    );
    let process = run.exact();
    assert_whole(&holding(&process, 100), "\u{1b}[2Jsense", "call");
    // A name for all addresses is none for those of files.
    assert!(holding(&process, 100).functions().iter().flatten().all(|name| name != "everything"));
}

#[test]
fn where_compiled_code_keeps_no_frame_pointer_the_stack_says_so() {
    let program = compiler();
    let mut compiler = Compiler::start(program.path(), &["compile 31", "name 31 without"]);
    let mut memprof = attach(compiler.target.pid(), &[]);
    memprof.ready();
    compiler.tell(&["leak 31 100"]);
    compiler.end();
    let run = memprof.wait();
    let process = run.exact();
    let stack = holding(&process, 100);
    let names: Vec<_> = stack.functions().into_iter().map(Option::unwrap_or_default).collect();
    assert_eq!(names, ["leak", "without"]);
    assert_eq!(stack.0["truncated"], "code without unwind tables");
}
