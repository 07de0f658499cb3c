//! The time of day is set by hours while memprof observes: what has lasted for some time has lasted for that, and a moment has
//! the time that it was then. These tests set the machine's clock. So they are ignored, but for the guests of `cargo xtask vm-test`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

mod support;

use std::{
    fs,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use rustix::time::{ClockId, Timespec, clock_gettime, clock_settime};
use serde_json::Value;
use support::{Attached, Program, Report, Target, attach, memprof, schema::assert_contract};

/// The machine's time of day, which a test has for itself, and which is right again after it.
struct Clock {
    hours_ahead: i64,
    _alone: MutexGuard<'static, ()>,
}

impl Clock {
    fn take() -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        assert!(std::env::var_os("MEMPROF_GUEST").is_some(), "this sets the machine's clock");
        Self { hours_ahead: 0, _alone: ALONE.lock().unwrap_or_else(PoisonError::into_inner) }
    }

    fn step(&mut self, hours: i64) {
        let now = clock_gettime(ClockId::Realtime);
        clock_settime(ClockId::Realtime, Timespec { tv_sec: now.tv_sec + 3600 * hours, ..now }).unwrap();
        self.hours_ahead += hours;
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.step(-self.hours_ahead);
    }
}

/// What both clocks say before and after something.
struct Span {
    times: [jiff::Timestamp; 2],
    moments: [Instant; 2],
}

impl Span {
    fn of<T>(does: impl FnOnce() -> T) -> (Self, T) {
        let read = || (jiff::Timestamp::try_from(SystemTime::now()).unwrap(), Instant::now());
        let before = read();
        let done = does();
        let after = read();
        (Self { times: [before.0, after.0], moments: [before.1, after.1] }, done)
    }

    /// Whether something that was done then can have that time, which may be that much off.
    fn has(&self, time: &Value, slack: Duration) -> bool {
        let time: jiff::Timestamp = time.as_str().unwrap().parse().unwrap();
        self.times[0] - slack <= time && time <= self.times[1] + slack
    }

    /// Whether that many seconds can have gone by since something else was done.
    fn is_after(&self, earlier: &Self, seconds: f64) -> bool {
        let least = self.moments[0].duration_since(earlier.moments[1]).as_secs_f64();
        let most = self.moments[1].duration_since(earlier.moments[0]).as_secs_f64();
        (least..=most).contains(&seconds)
    }
}

/// Obeys one letter a line: `l` leaks; `j` does so through code made at run time, at two places in turn; `n` tells the names of that
/// code. With an argument it leaks without being told to.
const TARGET: &str = r#"
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#define CHECK(condition) do { if (!(condition)) { dprintf(2, "line %d\n", __LINE__); _exit(1); } } while (0)
static void *kept;
static __attribute__((noinline)) void leak(void) { CHECK(kept = malloc(1000)); memset(kept, 1, 1000); }
static unsigned char *code;
static void compile(void) {
    // push %rbp; mov %rsp,%rbp; movabs $leak,%rax; call *%rax; pop %rbp; ret
    unsigned char bytes[] = {0x55, 0x48, 0x89, 0xe5, 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xd0, 0x5d, 0xc3};
    *(uintptr_t *)(bytes + 6) = (uintptr_t)leak;
    code = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    CHECK(code != MAP_FAILED);
    memcpy(code, bytes, sizeof bytes);
    memcpy(code + 64, bytes, sizeof bytes);
    CHECK(!mprotect(code, 4096, PROT_READ | PROT_EXEC));
}
static void tell_names(void) {
    char path[64];
    snprintf(path, sizeof path, "/tmp/perf-%d.map", getpid());
    int map = open(path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    CHECK(map >= 0 && dprintf(map, "%lx 40 compiled\n", (unsigned long)code) > 0);
    CHECK(dprintf(map, "%lx 40 recompiled\n", (unsigned long)code + 64) > 0 && !close(map));
}
int main(int count, char **arguments) {
    compile();
    for (; count > 1; usleep(10000))
        for (int i = 0; i < 50; i++) leak();
    int calls = 0;
    for (char letter = '\n';;) {
        switch (letter) {
        case 'l': leak(); break;
        case 'j': ((void (*)(void))(code + 64 * calls++))(); break;
        case 'n': tell_names(); break;
        case '\n': CHECK(write(1, "done\n", 5) == 5); break;
        }
        CHECK(read(0, &letter, 1) == 1);
    }
}
"#;

fn program() -> Program {
    Program::c(TARGET, &["-fno-builtin", "-w", "-O1", "-fno-omit-frame-pointer"])
}

/// A process that obeys.
fn obedient(program: &Program) -> Target {
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "done");
    target
}

fn ask(target: &mut Target, letter: &str) {
    target.tell(letter);
    assert_eq!(target.hear(), "done");
}

fn report(memprof: &mut Attached) -> Report {
    memprof.signal("USR1");
    memprof.next_report()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("no number: {value}"))
}

#[test]
#[ignore = "it sets the machine's clock: `cargo xtask vm-test` runs it"]
fn ages_rates_and_verdicts_are_of_what_has_gone_by_and_a_report_has_the_time_of_its_moment() {
    let mut clock = Clock::take();
    let program = program();
    let mut target = obedient(&program);
    let (attached, mut memprof) = Span::of(|| {
        // No hour of these goes by.
        let mut memprof = attach(target.pid(), &["--interval", "1h", "--duration", "1h"]);
        memprof.ready();
        memprof
    });
    let (first_asked, first) = Span::of(|| report(&mut memprof));
    let mut last = first.clone();
    let (oldest, ()) = Span::of(|| ask(&mut target, "l"));
    for step in 2..=48 {
        match step {
            10 => clock.step(5),
            20 => clock.step(-11),
            30 => clock.step(-2),
            40 => clock.step(24),
            _ => {}
        }
        ask(&mut target, "l");
        let (asked, next) = Span::of(|| report(&mut memprof));
        assert_contract(&next.0);
        assert_eq!((next.lost(), next.warnings()), ((0, 0, 0), vec![]));
        assert_eq!(next.process().totals(), [step, step * 1000, 0, 0]);
        assert!(asked.has(&next.0["time"], Duration::ZERO), "{:?} {}", asked.times, next.0["time"]);
        let elapsed = [&first, &next].map(|report| number(&report.0["elapsed_seconds"]));
        assert!(asked.is_after(&first_asked, elapsed[1] - elapsed[0]), "{step}: {elapsed:?}");
        let [stack] = next.process().stacks()[..] else { panic!("{}", next.0) };
        assert!(asked.is_after(&oldest, number(&stack.0["oldest_seconds"])), "{step}: {}", stack.0);
        last = next;
    }
    let (process, observed) = (last.process(), attached.moments[0].elapsed().as_secs_f64());
    for verdict in [&process.0["verdict"], &process.stacks()[0].0["verdict"]] {
        assert_eq!(verdict["course"], "grows", "{verdict}");
        let (span, change) = (number(&verdict["span_seconds"]), number(&verdict["change_bytes"]));
        assert!(0.0 < span && span <= observed, "{verdict}");
        // The course need not be steady. But hours would make it a thousandth.
        let rate = number(&verdict["bytes_per_second"]) / (change / span);
        assert!(0.1 < rate && rate < 10.0, "{verdict}");
    }
    assert!(number(&process.0["memory"]["since_seconds"]) <= observed, "{}", process.0["memory"]);
    let run = memprof.interrupt();
    assert!(run.status.success(), "{}", run.stderr);
    assert_eq!(run.exact().outstanding(), (48_000, 48));
}

#[test]
#[ignore = "it sets the machine's clock: `cargo xtask vm-test` runs it"]
fn intervals_come_and_durations_end() {
    let mut clock = Clock::take();
    let program = program();
    let target = obedient(&program);
    let (whole, run) = Span::of(|| {
        let mut memprof = attach(target.pid(), &["--interval", "300ms", "--duration", "5s"]);
        memprof.ready();
        // Nine hours would have to go by, or none.
        for hours in [-9, 15, -4] {
            memprof.next_report();
            clock.step(hours);
        }
        memprof.wait()
    });
    assert!(run.status.success(), "{}", run.stderr);
    let elapsed = number(&run.last().0["elapsed_seconds"]);
    let most = whole.moments[1].duration_since(whole.moments[0]).as_secs_f64();
    assert!(5.0 <= elapsed && elapsed <= most, "{elapsed} {most}");
}

#[test]
#[ignore = "it sets the machine's clock: `cargo xtask vm-test` runs it"]
fn a_sweep_knows_how_fast_a_process_grows() {
    let mut clock = Clock::take();
    let program = program();
    let target = Target::start(std::process::Command::new(program.path()).arg("leak"));
    let mut sweep = memprof();
    sweep.args(["sweep", "--parent", &target.pid().to_string(), "--watch", "6s", "--duration", "1s"]);
    let mut sweep = Attached::start(sweep.args(["--format", "json"]));
    let (watching, said) = Span::of(|| {
        sweep.hear("watching for 6s");
        for hours in [7, -16, 1] {
            std::thread::sleep(Duration::from_secs(1));
            clock.step(hours);
        }
        sweep.hear("watched 1 process for ")
    });
    assert!(said.ends_with(&format!(": program ({}) grows steadily", target.pid())), "{said}");
    let (ending, run) = Span::of(|| sweep.wait());
    assert!(run.status.success(), "{}", run.stderr);
    let report = &run.last().0;
    assert!((Span { times: [watching.times[1], ending.times[1]], ..ending }).has(&report["time"], Duration::ZERO));
    let most = watching.moments[1].duration_since(watching.moments[0]).as_secs_f64();
    let suspect = &report["watched"]["suspects"][0];
    assert_eq!((&suspect["pid"], &suspect["course"]), (&target.pid().into(), &"grows".into()), "{suspect}");
    let (seconds, change) = (number(&suspect["seconds"]), number(&suspect["change_bytes"]));
    assert!(0.0 < seconds && seconds <= most, "{suspect}");
    let rate = number(&suspect["growth_bytes_per_second"]) / (change / seconds);
    assert!(0.1 < rate && rate < 10.0, "{suspect}");
}

#[test]
#[ignore = "it sets the machine's clock: `cargo xtask vm-test` runs it"]
fn each_call_of_a_trace_has_the_time_of_its_moment() {
    let mut clock = Clock::take();
    let program = program();
    let mut target = obedient(&program);
    let mut memprof = memprof();
    memprof.args(["--trace", "--format", "json", "--verbose", "--pid", &target.pid().to_string()]);
    let mut memprof = Attached::start(&mut memprof);
    memprof.ready();
    let mut first = None;
    for hours in [0, 6, -13] {
        clock.step(hours);
        let (told, call) = Span::of(|| {
            ask(&mut target, "l");
            memprof.next_report().0
        });
        assert_eq!((&call["event"], &call["size"]), (&"alloc".into(), &1000.into()));
        // The two clocks are not compared at each call.
        assert!(told.has(&call["time"], Duration::from_secs(1)), "{:?} {call}", told.times);
        let elapsed = number(&call["elapsed_seconds"]);
        let (first_told, first_elapsed) = first.get_or_insert((told, elapsed));
        assert!(first_told.moments[0].elapsed().as_secs_f64() >= elapsed - *first_elapsed, "{call}");
    }
    assert!(memprof.interrupt().status.success());
}

/// What a perf map was last written to before the process began is not believed.
#[test]
#[ignore = "it sets the machine's clock: `cargo xtask vm-test` runs it"]
fn a_perf_map_is_not_taken_for_older_than_its_process() {
    let mut clock = Clock::take();
    let program = program();
    for [before_it_is_written, after] in [[0, 5], [-5, 0], [4, -8]] {
        let mut target = obedient(&program);
        let mut memprof = attach(target.pid(), &["--interval", "1h"]);
        memprof.ready();
        // It has looked for the file.
        report(&mut memprof);
        clock.step(before_it_is_written);
        ask(&mut target, "n");
        clock.step(after);
        ask(&mut target, "j");
        ask(&mut target, "j");
        let report = report(&mut memprof);
        let mut names: Vec<_> = report.process().stacks().iter().map(|stack| stack.functions()[1].clone()).collect();
        names.sort();
        let _ = fs::remove_file(format!("/tmp/perf-{}.map", target.pid()));
        let names: Vec<_> = names.iter().flatten().collect();
        assert_eq!(names, ["compiled", "recompiled"], "{before_it_is_written} {after}: {}", report.0);
        memprof.interrupt();
    }
}
