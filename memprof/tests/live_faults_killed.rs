//! memprof killed with -9, whatever it is doing: the target goes on to its right result, and nothing of memprof is left, neither a
//! probe, a program nor a map in the kernel, nor a process.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal};
use support::{
    Program, Target,
    kernel_objects::{KernelObjects, descendants, has_ended, patched_bytes},
    memprof, wait_until,
};

/// Fills blocks, checks that nobody has changed them, and frees them, until its input ends; for each line it says how often. With an
/// argument it has a child do the same now and then.
const WORKER: &str = r#"
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#define CHECK(condition) do { if (!(condition)) { dprintf(2, "line %d\n", __LINE__); _exit(1); } } while (0)
enum { BLOCKS = 300 };
static struct { unsigned char *start; size_t size; } blocks[BLOCKS];
static unsigned long state = 88172645463325252u;

static size_t some_size(void) {
    state ^= state << 13; state ^= state >> 7; state ^= state << 17;
    return 1 + state % 2000;
}
static void release(int i) {
    for (size_t at = 0; at < blocks[i].size; at++) CHECK(blocks[i].start[at] == (unsigned char)i);
    free(blocks[i].start);
}
static void work(void) {
    for (int i = 0; i < BLOCKS; i++) {
        if (blocks[i].start && i % 2) {
            size_t size = some_size();
            CHECK(blocks[i].start = realloc(blocks[i].start, size));
            if (size > blocks[i].size) memset(blocks[i].start + blocks[i].size, i, size - blocks[i].size);
            blocks[i].size = size;
            continue;
        }
        if (blocks[i].start) release(i);
        blocks[i].size = some_size();
        CHECK(blocks[i].start = malloc(blocks[i].size));
        memset(blocks[i].start, i, blocks[i].size);
    }
}
static void have_a_child_work(void) {
    pid_t child = fork();
    if (!child) {
        work();
        _exit(0);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
}
int main(int count, char **arguments) {
    CHECK(write(1, "ready\n", 6) == 6);
    for (unsigned long rounds = 1;; rounds++) {
        work();
        if (count > 1 && rounds % 10 == 0) have_a_child_work();
        struct pollfd input = {0, POLLIN, 0};
        if (poll(&input, 1, 0) <= 0) continue;
        char c;
        if (read(0, &c, 1) != 1) break;
        if (c == '\n') CHECK(dprintf(1, "%lu\n", rounds) > 0);
    }
    for (int i = 0; i < BLOCKS; i++) release(i);
    CHECK(write(1, "right\n", 6) == 6);
    return 0;
}
"#;

/// The worker's own, so that nobody else's probes are there.
const LIBC: &str = "libc.so.6";

fn worker() -> Program {
    Program::c_with_own_libc(WORKER, &["-O1", "-fno-builtin"])
}

fn start(program: &Program, arguments: &[&str]) -> Target {
    let mut command = Command::new(program.path());
    let mut worker = Target::start(command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()));
    assert_eq!(worker.hear(), "ready");
    worker
}

/// Has a worker do more, and come to its end.
fn assert_works_to_its_end(mut worker: Target) {
    let mut rounds = || {
        worker.tell("");
        worker.hear().parse::<u64>().unwrap()
    };
    let before = rounds();
    wait_until("it has gone on", || rounds() > before + 10);
    drop(worker.0.stdin.take());
    assert_eq!(worker.hear(), "right");
    assert!(worker.0.wait().unwrap().success());
}

/// A memprof that is going to be killed. What it reports is dropped.
struct Memprof(Child);

impl Memprof {
    fn start(arguments: &[&str]) -> Self {
        let mut command = memprof();
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        Self(command.spawn().unwrap())
    }

    fn attach(worker: &Target, options: &[&str]) -> Self {
        Self::start(&[&["--verbose", "--pid", &worker.pid().to_string()], options].concat())
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Waits until it has said something. What it says afterwards is dropped.
    fn wait_for(&mut self, said: &str) {
        let mut lines = BufReader::new(self.0.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.contains(said)), "it ended and never said {said:?}");
        std::thread::spawn(move || lines.for_each(drop));
    }

    /// Starts one after the other, until one could be stopped while what it has in the kernel is as it should be. Each is to end by
    /// itself.
    fn caught_when(what: &str, start: impl Fn() -> Self, is_so: impl Fn(&KernelObjects, u32) -> bool) -> Self {
        for _ in 0..20 {
            let mut memprof = start();
            let pid = memprof.pid();
            while memprof.0.try_wait().unwrap().is_none() {
                if is_so(&KernelObjects::of(pid), pid) {
                    if is_so(&memprof.stop(), pid) {
                        return memprof;
                    }
                    break;
                }
            }
        }
        unreachable!("none could be caught while {what}")
    }

    /// Stops it where it is. What it has in the kernel.
    fn stop(&self) -> KernelObjects {
        // By no other process: it is to be quick.
        rustix::process::kill_process(Pid::from_child(&self.0), Signal::STOP).unwrap();
        let is_stopped = || fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap().contains(") T ");
        wait_until("it is stopped", is_stopped);
        KernelObjects::of(self.pid())
    }

    /// Kills it, and asserts that nothing is left of it, but for `spared` that it has started.
    fn kill(self, spared: Option<u32>) {
        let objects = KernelObjects::of(self.pid());
        assert!(!objects.programs.is_empty() && !objects.maps.is_empty(), "{objects:?}");
        let listed = objects.listed();
        assert_eq!(
            (&listed.programs, &listed.maps),
            (&objects.programs, &objects.maps),
            "the kernel lists what it has"
        );
        self.end(&objects, spared);
    }

    /// Kills it where it is, be it that it closes what it has, and asserts that nothing is left of that.
    fn kill_while_it_ends(self) {
        let objects = KernelObjects::of(self.pid());
        self.end(&objects, None);
    }

    fn end(mut self, objects: &KernelObjects, spared: Option<u32>) {
        let children = descendants(self.pid());
        self.0.kill().unwrap();
        self.0.wait().unwrap();
        for child in children.into_iter().filter(|child| Some(*child) != spared) {
            wait_until("its children are gone", || has_ended(child));
        }
        wait_until("the kernel lists nothing of it", || objects.listed().is_empty());
    }
}

impl Drop for Memprof {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const ATTACHED: &str = "attached to process";

/// The kernel takes a breakpoint out a moment after it has forgotten the link.
const UNTOUCHED: &str = "its code is as it was";

#[test]
fn while_it_loads_attaches_and_detaches() {
    let program = worker();
    let worker = start(&program, &[]);
    let is_untouched = || patched_bytes(worker.pid(), LIBC) == 0;
    let attach = || Memprof::attach(&worker, &["--duration", "1s"]);

    let memprof = Memprof::caught_when("it loads programs", attach, |objects, _| {
        objects.programs.len() >= 3 && objects.links.is_empty()
    });
    memprof.kill(None);
    wait_until(UNTOUCHED, is_untouched);

    let mut memprof = attach();
    memprof.wait_for(ATTACHED);
    let all = memprof.stop().links.len();
    assert!(!is_untouched());
    memprof.kill(None);
    wait_until(UNTOUCHED, is_untouched);

    let is_some = |objects: &KernelObjects, _| (all / 2..all - 1).contains(&objects.links.len());
    let memprof = Memprof::caught_when("it attaches", attach, is_some);
    assert!(!is_untouched());
    memprof.kill(None);
    wait_until(UNTOUCHED, is_untouched);

    // At any moment of it: the kernel is not to be left with half of what it was doing.
    for delay in 0..ENDS {
        let mut memprof = attach();
        memprof.wait_for(ATTACHED);
        wait_until("it detaches", || KernelObjects::of(memprof.pid()).links.len() < all);
        std::thread::sleep(Duration::from_millis(25) * delay);
        memprof.kill_while_it_ends();
        wait_until(UNTOUCHED, is_untouched);
    }
    assert_works_to_its_end(worker);
}

/// So often memprof is killed while it detaches.
const ENDS: u32 = 8;

/// Each with what it says when it is at work.
#[test]
fn while_it_observes_in_whatever_way() {
    let program = worker();
    let worker = start(&program, &[]);
    let is_untouched = || patched_bytes(worker.pid(), LIBC) == 0;
    let pid = worker.pid().to_string();
    let attach = ["--verbose", "--output", "/dev/null", "--pid", &pid];
    let ways: [(&[&str], &str); 5] = [
        // It drains and reports all the time.
        (&["--interval", "1ms"], ATTACHED),
        (&["--trace", "--format", "text"], ATTACHED),
        (&["--max-overhead", "1%"], ATTACHED),
        (&["--sample", "1KiB", "--interval", "1ms"], ATTACHED),
        (&["--follow-children", "--interval", "1ms"], ATTACHED),
    ];
    for (options, said) in ways {
        let mut memprof = Memprof::start(&[&attach[..], options].concat());
        memprof.wait_for(said);
        std::thread::sleep(AT_WORK);
        memprof.stop();
        memprof.kill(None);
        wait_until(UNTOUCHED, is_untouched);
    }
    assert_works_to_its_end(worker);
}

/// So long it is let alone.
const AT_WORK: Duration = Duration::from_millis(300);

#[test]
fn while_it_watches_without_probes() {
    let program = worker();
    let worker = start(&program, &[]);
    let pid = worker.pid().to_string();
    let ways: [(&[&str], &str); 2] = [
        (&["growth", "--verbose", "--interval", "10ms", "--pid", &pid], "watching where memory grows"),
        (&["sweep", "--verbose", "--watch", "1h", "--parent", &pid], "watching for"),
    ];
    for (arguments, said) in ways {
        let mut memprof = Memprof::start(arguments);
        memprof.wait_for(said);
        std::thread::sleep(AT_WORK);
        memprof.stop();
        memprof.kill(None);
        wait_until(UNTOUCHED, || patched_bytes(worker.pid(), LIBC) == 0);
    }
    assert_works_to_its_end(worker);
}

/// Then its probes are in every process that maps the worker's libc.
#[test]
fn while_it_follows_children_from_their_first_instruction() {
    let program = worker();
    let (bystander, worker) = (start(&program, &[]), start(&program, &["children"]));
    let are_untouched = || [&worker, &bystander].iter().all(|process| patched_bytes(process.pid(), LIBC) == 0);
    let mut memprof = Memprof::attach(&worker, &["--follow-children=exact", "--interval", "1ms"]);
    memprof.wait_for(ATTACHED);
    std::thread::sleep(AT_WORK);
    memprof.stop();
    assert!(patched_bytes(bystander.pid(), LIBC) > 0);
    memprof.kill(None);
    wait_until("their code is as it was", are_untouched);
    assert_works_to_its_end(worker);
    assert_works_to_its_end(bystander);
}

/// A command that is held back until the probes are in is never begun.
#[test]
fn while_it_holds_the_command_back() {
    let program = worker();
    let mark = program.folder().join("begun");
    let script = format!("touch {}", mark.display());
    let launch = || {
        let _ = fs::remove_file(&mark);
        Memprof::start(&["--quiet", "--", "sh", "-c", &script])
    };
    // The other child that it may have is there to be measured.
    let is_held =
        |objects: &KernelObjects, pid| objects.links.len() > 4 && descendants(pid).into_iter().any(is_memprof);
    let memprof = Memprof::caught_when("it attaches", launch, is_held);
    memprof.kill(None);
    assert!(!mark.exists());
}

/// Whether a process was forked and has not executed a program.
fn is_memprof(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == "memprof")
}

#[test]
fn while_a_command_runs_that_it_has_launched() {
    let program = worker();
    let mut command = memprof();
    command.args(["--output", "/dev/null", "--interval", "1ms", "--"]).arg(program.path());
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut memprof = Memprof(command.spawn().unwrap());
    // Its standard input and output are the command's, which outlives it.
    let mut input = memprof.0.stdin.take().unwrap();
    let mut output = BufReader::new(memprof.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert_eq!(output.next().unwrap(), "ready");
    memprof.stop();
    let command = descendants(memprof.pid())[0];
    assert!(patched_bytes(command, LIBC) > 0);
    memprof.kill(Some(command));
    wait_until(UNTOUCHED, || patched_bytes(command, LIBC) == 0);
    let mut rounds = || {
        input.write_all(b"\n").unwrap();
        output.next().unwrap().parse::<u64>().unwrap()
    };
    let before = rounds();
    wait_until("it has gone on", || rounds() > before + 10);
    drop(input);
    assert_eq!(output.next().unwrap(), "right");
}
