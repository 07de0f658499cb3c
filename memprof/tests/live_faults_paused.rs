//! memprof that does not run for a while, as when it is suspended or starved: what happens meanwhile waits in the kernel's tables. If these
//! are large enough nothing is lost; if not, what is lost is counted, and the figures are off by no more than that. While only its process
//! that reads names takes long, the recording goes on.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

mod support;

use std::{
    fs,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use support::{
    Attached, Program, Report, Run, TALK, Target, attach, kernel_objects::descendants, memprof, numbers, signal,
    wait_until,
};

const INCLUDES: &str = "
#include <sys/wait.h>
";

fn c(source: &str) -> Program {
    Program::c(&format!("{TALK}{INCLUDES}{source}"), &["-O1", "-fno-builtin", "-w"])
}

/// How long memprof does not run, at least.
const PAUSE: Duration = Duration::from_secs(5);

/// Replaces the oldest of its blocks by a new one, so often. It keeps count.
const TURNOVER: &str = r#"
enum { BLOCKS = 50000 };
static struct { void *start; size_t size; } blocks[BLOCKS];
int main(void) {
    unsigned long state = 88172645463325252u, allocations = 0, bytes = 0, frees = 0, freed = 0;
    say("ready");
    await_line();
    for (long i = 0; i < REPLACEMENTS; i++) {
        PACE;
        long oldest = i % BLOCKS;
        if (blocks[oldest].start) { free(blocks[oldest].start); frees++; freed += blocks[oldest].size; }
        state ^= state << 13; state ^= state >> 7; state ^= state << 17;
        size_t size = 1 + state % 1000;
        CHECK(blocks[oldest].start = malloc(size));
        blocks[oldest].size = size;
        allocations++; bytes += size;
    }
    char text[200];
    snprintf(text, sizeof text, "%lu %lu %lu %lu", allocations, bytes, frees, freed);
    say(text);
    await_line();
    return 0;
}
"#;

/// Bytes in the ring of an allocation and a free, each with its header, where the nursery has no place.
const REPLACEMENT_BYTES: u64 = (40 + 8) + (24 + 8);

/// 10 MB for each second of the pause.
const REPLACEMENTS: u64 = 10_000_000 * PAUSE.as_secs() / REPLACEMENT_BYTES;

fn turnover(replacements: u64, pace: &str) -> Program {
    c(&TURNOVER.replace("REPLACEMENTS", &replacements.to_string()).replace("PACE", pace))
}

/// What memprof reports that was paused, and the truth.
fn paused(ring: &str) -> (Run, [u64; 4]) {
    let program = turnover(REPLACEMENTS, "");
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let options = ["--interval", "1h", "--nursery-entries", "1000", "--ring-size", ring];
    let mut memprof = attach(target.pid(), &options);
    memprof.ready();
    memprof.signal("STOP");
    let start = Instant::now();
    target.tell("go");
    let truth = numbers(&target.hear()).try_into().unwrap();
    std::thread::sleep(PAUSE.saturating_sub(start.elapsed()));
    memprof.signal("CONT");
    target.tell("end");
    (memprof.wait(), truth)
}

#[test]
fn a_ring_that_is_large_enough_loses_nothing_in_a_pause() {
    let (run, truth) = paused("128MiB");
    assert_eq!(run.last().lost(), (0, 0, 0));
    let process = run.last().process();
    assert_eq!(process.totals(), truth);
    assert_eq!(process.outstanding(), (truth[1] - truth[3], truth[0] - truth[2]));
}

#[test]
fn what_does_not_fit_into_the_ring_in_a_pause_is_counted() {
    let (run, [allocations, bytes, frees, _]) = paused("16MiB");
    let (lost, lost_frees, lost_stacks) = run.last().lost();
    assert!(lost > 0 && lost_frees > 0, "{lost} {lost_frees}");
    assert_eq!(lost_stacks, 0);
    let causes = &run.last().0["lost"]["causes"];
    assert_eq!((causes["nursery_full"].as_u64(), causes["frees_ring_full"].as_u64()), (Some(lost), Some(lost_frees)));
    let warnings = run.last().warnings();
    for said in [format!("{lost} allocations were not recorded"), format!("{lost_frees} frees were not recorded")] {
        assert!(warnings.iter().any(|warning| warning.starts_with(&said)), "{said}: {warnings:?}");
    }
    let process = run.last().process();
    let (_, outstanding) = process.outstanding();
    let totals = process.totals();
    // Every allocation is counted, recorded or not; and each that was recorded is either outstanding or freed.
    assert_eq!((totals[0], totals[1]), (allocations, bytes));
    assert_eq!(totals[0] - totals[2] - outstanding, lost);
    let truth = allocations - frees;
    assert!(outstanding <= truth + lost_frees, "{outstanding} {truth} {lost_frees}");
    assert!(outstanding + lost >= truth, "{outstanding} {truth} {lost}");
}

fn command_of(pid: u32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).into_owned()
}

#[test]
fn what_happens_while_names_are_looked_up_is_recorded() {
    const RING_BYTES: u64 = 1 << 20;
    let program = turnover(4 * RING_BYTES / REPLACEMENT_BYTES, "if (i % 50 == 49) usleep(4000)");
    let (ring, reports) = (RING_BYTES.to_string(), program.folder().join("reports"));
    let sizes = ["--nursery-entries", "1000", "--ring-size", &ring];
    let options = [&["--interval", "1h", "--output", reports.to_str().unwrap()], &sizes[..]].concat();
    for _ in 0..20 {
        let mut target = Target::piped(program.path());
        assert_eq!(target.hear(), "ready");
        let mut memprof = attach(target.pid(), &options);
        memprof.ready();
        target.tell("go");
        // The process that reads names begins with the first of them, and is stopped at once.
        let mut reader = None;
        wait_until("memprof looks for names", || {
            memprof.signal("USR1");
            reader = descendants(memprof.pid()).into_iter().find(|&pid| command_of(pid).contains("read-names"));
            reader.is_some()
        });
        let reader = reader.unwrap();
        signal(reader, "STOP");
        let truth = numbers(&target.hear());
        // Else it was faster.
        let is_waited_for = fs::read_to_string(&reports).unwrap().is_empty();
        signal(reader, "CONT");
        target.tell("end");
        memprof.wait_for_end();
        if !is_waited_for {
            continue;
        }
        let text = fs::read_to_string(&reports).unwrap();
        let last = Report::parse(text.lines().last().unwrap());
        assert_eq!((last.lost(), last.warnings()), ((0, 0, 0), vec![]));
        assert_eq!(last.process().totals()[..], truth);
        assert_eq!(last.process().outstanding(), (truth[1] - truth[3], truth[0] - truth[2]));
        return;
    }
    panic!("names were always there before the process that reads them could be stopped");
}

/// Replaces itself as often as its argument says; only the last image waits, and has something.
const CHAIN: &str = r#"
int main(int count, char **arguments) {
    int left = atoi(arguments[1]);
    if (count > 2) { CHECK(malloc(50)); say("ready"); await_line(); }
    if (!left) {
        for (int i = 0; i < 10; i++) CHECK(malloc(100));
        free(malloc(3));
        say("done");
        await_line();
        for (int i = 0; i < 10; i++) CHECK(malloc(100));
        return 0;
    }
    char number[20];
    snprintf(number, sizeof number, "%d", left - 1);
    execl("/proc/self/exe", "program", number, NULL);
    return 1;
}
"#;

/// More images than can be told of while nobody listens: the last one's figures are those that are reported.
#[test]
fn a_target_that_replaces_itself_while_nobody_listens() {
    let program = c(CHAIN);
    let mut command = Command::new(program.path());
    command.args(["2000", "wait"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut target = Target::start(&mut command);
    assert_eq!(target.hear(), "ready");
    let mut memprof = attach(target.pid(), &["--interval", "1h"]);
    memprof.ready();
    memprof.signal("STOP");
    target.tell("go");
    assert_eq!(target.hear(), "done");
    memprof.signal("CONT");
    memprof.signal("USR1");
    let report = memprof.next_report();
    assert_eq!(report.lost(), (0, 0, 0));
    assert_eq!(report.process().totals(), [11, 1003, 1, 3]);
    assert_eq!(report.process().outstanding(), (1000, 10));
    let gap = "was without probes for a moment after it executed programs faster than memprof could follow";
    assert!(report.warnings().iter().any(|warning| warning.contains(gap)), "{:?}", report.warnings());
    target.tell("end");
    let run = memprof.wait();
    assert_eq!(run.last().lost(), (0, 0, 0));
    assert_eq!(run.last().process().totals(), [21, 2003, 1, 3]);
    assert_eq!(run.last().process().outstanding(), (2000, 20));
}

const CHILDREN: u64 = 1000;

/// As many children as there are targets for are followed, and the others are counted.
#[test]
fn a_target_that_forks_while_nobody_listens() {
    let program = c(&format!(
        r#"
int main(void) {{
    say("ready");
    await_line();
    for (int number = 0; number < {CHILDREN}; number++) {{
        int status;
        pid_t child = fork();
        if (!child) {{
            CHECK(malloc(10));
            _exit(0);
        }}
        CHECK(waitpid(child, &status, 0) == child && status == 0);
    }}
    say("done");
    await_line();
    return 0;
}}"#
    ));
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let mut memprof = attach(target.pid(), &["--interval", "1h", "--follow-children=exact"]);
    memprof.ready();
    memprof.signal("STOP");
    target.tell("go");
    assert_eq!(target.hear(), "done");
    memprof.signal("CONT");
    target.tell("end");
    let run = memprof.wait();
    let report = run.last();
    let shown = report.0["processes"].as_array().unwrap().len() as u64 - 1;
    let followed = shown + report.0["ended_processes"]["processes"].as_u64().unwrap();
    let not_followed = CHILDREN - followed;
    assert_eq!(followed, 512);
    let said = format!("{not_followed} forked processes were not observed because too many were at once");
    assert!(report.warnings().iter().any(|warning| warning.starts_with(&said)), "{:?}", report.warnings());
    let outstanding = report.0["ended_processes"]["outstanding"]["allocations"].as_u64().unwrap();
    assert_eq!((outstanding + shown, report.lost().0), (followed, 0));
}

/// Leaks on a line, twice.
const PATIENT: &str = r#"
int main(void) {
    for (int i = 0; i < 2; i++) {
        say("ready");
        await_line();
        CHECK(malloc(100)); // leak
    }
    say("done");
    await_line();
    return 0;
}
"#;

/// More mappings than can be told of while nobody listens, in a process that nobody observes: all on one CPU, since each has a ring of
/// its own.
fn storm(program: &Program) -> Target {
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", "0"]).arg(program.path()).arg("2000");
    Target::start(command.stdin(Stdio::piped()).stdout(Stdio::piped()))
}

/// More mappings than can be told of while nobody listens, in a process that is not observed. What the target has mapped can be read, as
/// long as it lives; then whether it had mapped something else is not known.
#[test]
fn mappings_of_others_while_nobody_listens() {
    let (program, other) = (c(PATIENT), c(CHAIN));
    for lives in [true, false] {
        let mut target = Target::piped(program.path());
        assert_eq!(target.hear(), "ready");
        let mut memprof = attach(target.pid(), &["--interval", "1h"]);
        memprof.ready();
        memprof.signal("STOP");
        assert_eq!(storm(&other).hear(), "done");
        for _ in 0..2 {
            target.tell("go");
            target.hear();
        }
        if !lives {
            target.tell("end");
            target.0.wait().unwrap();
        }
        memprof.signal("CONT");
        let run = if lives { memprof.interrupt() } else { memprof.wait() };
        assert_eq!(run.last().process().outstanding(), (200, 2));
        let line = format!("program.c:{}", program.line("// leak"));
        assert_eq!(run.last().process().outstanding_at(&line), (200, 2));
        let warnings = run.last().warnings();
        let are_doubted = warnings.iter().any(|warning| warning.contains("notices of new mappings"));
        assert_eq!(are_doubted, !lives, "{warnings:?}");
    }
}

/// The same while probes go in for a command that has yet to start: what it maps itself is told of, be it ever so short.
#[test]
fn mappings_of_others_before_the_command_starts() {
    let program = c("int main(void) { CHECK(malloc(100)); return 0; } // leak");
    let other = c(CHAIN);
    let is_command = |pid: &u32| fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == program.path());
    let mut has_been_held = false;
    for _ in 0..20 {
        let mut memprof =
            Attached::start(memprof().args(["--format", "json", "--top", "0", "--verbose", "--"]).arg(program.path()));
        // What is to be probed is known; the probes are yet to be made.
        memprof.hear(": process ");
        memprof.signal("STOP");
        has_been_held = !descendants(memprof.pid()).iter().any(is_command);
        if has_been_held {
            assert_eq!(storm(&other).hear(), "done");
        }
        memprof.signal("CONT");
        let run = memprof.wait();
        assert_eq!(run.exact().outstanding(), (100, 1));
        if has_been_held {
            break;
        }
    }
    assert!(has_been_held);
}
