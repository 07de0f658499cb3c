//! What the exit status says: `--fail-above`, `--fail-on` and `--suppressions`, of commands that are launched, processes that are
//! attached to, and a sweep.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

mod support;

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use support::{Attached, Program, Report, Target, launch, memprof, schema::assert_contract};

/// Leaks 456 bytes, unless it is told not to, and exits with the status that it is given.
const LEAK: &str = r#"
#include <stdlib.h>
#include <string.h>

__attribute__((noipa)) static void *make_table(void) {
    return calloc(16, 16); // table
}

__attribute__((noipa)) static void *make_block(void) {
    return malloc(100); // block
}

int main(int argc, char **argv) {
    if (argc > 1 && !strcmp(argv[1], "clean")) {
        free(make_table());
        return 0;
    }
    for (int i = 0; i < 2; i++)
        if (!make_block()) return 1;
    if (!make_table()) return 1;
    return argc > 1 ? atoi(argv[1]) : 0;
}
"#;

/// `memprof OPTIONS -- COMMAND`, for people.
fn run(options: &[&str], program: &Program, argument: &str) -> Output {
    let mut memprof = memprof();
    memprof.args(options).arg("--").arg(program.path()).arg(argument).current_dir(program.folder());
    memprof.stdin(Stdio::null()).output().unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn write(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

#[test]
fn a_command_that_leaves_nothing_passes() {
    let output = run(&["--fail-above", "0B", "--fail-on", "growing,loss"], &Program::c(LEAK, &[]), "clean");
    assert_eq!((output.status.code(), stderr(&output)), (Some(0), ""));
}

#[test]
fn one_that_leaks_fails_and_the_culprit_is_on_standard_error() {
    let program = Program::c(LEAK, &[]);
    let output = run(&["--fail-above", "0B", "--output", "report", "--format", "json", "--top", "1"], &program, "0");
    assert_eq!(output.status.code(), Some(100));
    assert!(output.stdout.is_empty());
    let said = stderr(&output);
    let (first, stacks) = said.split_once('\n').unwrap();
    assert!(first.starts_with("memprof: failed: program ("), "{said}");
    assert!(first.ends_with(") holds 456 B in 3 allocations, more than --fail-above 0 B"), "{said}");
    let places = ["table", "block"].map(|mark| format!("program.c:{}", program.line(&format!("// {mark}"))));
    let lines: Vec<_> = stacks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    for (figures, frame) in [
        ("#1 256 B in 1 allocation", format!("make_table {}", places[0])),
        ("#2 200 B in 2 allocations", format!("make_block {}", places[1])),
    ] {
        let start = lines.iter().position(|line| line == figures).unwrap_or_else(|| panic!("{figures}: {said}"));
        assert_eq!(lines[start + 1], frame, "{said}");
        assert!(lines[start + 2].starts_with("main program.c:"), "{said}");
    }
    // What is shown is still what was asked for.
    let report = Report::parse(&fs::read_to_string(program.folder().join("report")).unwrap());
    assert_eq!((report.process().stacks().len(), &report.process().0["selected_stacks"]), (1, &Value::from(2)));
    assert!(report.process().0.get("suppressed").is_none());
}

#[test]
fn the_limit_is_to_the_byte_and_of_what_is_selected() {
    let program = Program::c(LEAK, &[]);
    for (options, status) in [
        (&["--fail-above", "455B"][..], 100),
        (&["--fail-above", "456B"], 0),
        (&["--fail-above", "0B", "--older", "1h"], 0),
        (&["--fail-above", "255B", "--min-size", "101B"], 100),
        (&["--fail-above", "256B", "--min-size", "101B"], 0),
    ] {
        let output = run(options, &program, "0");
        assert_eq!(output.status.code(), Some(status), "{options:?}: {}", stderr(&output));
        assert_eq!(stderr(&output).is_empty(), status == 0, "{options:?}");
    }
}

#[test]
fn a_command_that_fails_keeps_its_status_and_the_verdict_is_still_told() {
    let output = run(&["--fail-above", "0B"], &Program::c(LEAK, &[]), "3");
    assert_eq!(output.status.code(), Some(3));
    assert!(stderr(&output).contains("holds 456 B in 3 allocations"), "{}", stderr(&output));
}

#[test]
fn what_is_suppressed_counts_for_nothing_and_is_told_of() {
    let program = Program::c(LEAK, &[]);
    let table = write(program.folder(), "table", "# known\nleak:^make_table$\nleak:no such function\n");
    let block = write(program.folder(), "block", "leak:make_b*k\n");
    let both = ["--suppressions", &table, "--suppressions", &block, "--fail-above", "0B", "--verbose"];
    let run = launch(&both, &[program.path()]);
    assert_eq!(run.status.code(), Some(0), "{}", run.stderr);
    assert!(run.stderr.contains("the suppression leak:no such function matched nothing"), "{}", run.stderr);
    assert!(!run.stderr.contains("leak:^make_table$ matched nothing"), "{}", run.stderr);
    assert_contract(&run.last().0);
    let process = run.exact();
    assert_eq!(process.outstanding(), (456, 3), "the process's figures stay true");
    assert_eq!((process.stacks().len(), &process.0["selected_stacks"]), (0, &Value::from(0)));
    let patterns = serde_json::json!([
        {"pattern": "^make_table$", "stacks": 1, "bytes": 256, "allocations": 1},
        {"pattern": "make_b*k", "stacks": 1, "bytes": 200, "allocations": 2},
    ]);
    let suppressed = serde_json::json!({"stacks": 2, "bytes": 456, "allocations": 3, "patterns": patterns});
    assert_eq!(process.0["suppressed"], suppressed);

    let one = self::run(&["--suppressions", &table, "--fail-above", "0B"], &program, "0");
    assert_eq!(one.status.code(), Some(100));
    assert!(stderr(&one).contains("holds 200 B in 2 allocations"), "{}", stderr(&one));
    assert!(!stderr(&one).contains("make_table"), "{}", stderr(&one));
    let text = String::from_utf8(one.stdout).unwrap();
    assert!(text.contains("\n  suppressed: 1 stack, 256 B in 1 allocation\n"), "{text}");
}

#[test]
fn what_cannot_be_seen_is_a_doubt_or_a_failure() {
    let program = Program::c("#include <stdlib.h>\nint main(void) { return !malloc(10); }", &["-static", "-s"]);
    let doubted = run(&["--fail-above", "0B"], &program, "");
    assert_eq!(doubted.status.code(), Some(0));
    assert!(
        stderr(&doubted).contains("what --fail-above and --fail-on decide is not certain:\n"),
        "{}",
        stderr(&doubted)
    );
    let failed = run(&["--fail-on", "loss"], &program, "");
    assert_eq!(failed.status.code(), Some(100));
    assert!(stderr(&failed).contains("failed: the figures are not certain (--fail-on loss):\n"), "{}", stderr(&failed));
    for output in [doubted, failed] {
        assert!(stderr(&output).contains("no allocator function was found"), "{}", stderr(&output));
    }
}

/// It keeps more and more at each line that it reads.
const GROWING: &str = r#"
#include <stdlib.h>
#include <unistd.h>

__attribute__((noipa)) static void *grow(void) {
    return malloc(1000); // growing
}

int main(void) {
    char c;
    write(1, "ready\n", 6);
    while (read(0, &c, 1) == 1) {
        if (c == '\n' && grow()) write(1, "ready\n", 6);
    }
    return 0;
}
"#;

const STEPS: usize = 60;

/// Attaches to a program that grows from look to look, and ends with the last report.
fn watch_growing(program: &Program, options: &[&str]) -> support::Run {
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let mut memprof = memprof();
    memprof.args(["--interval", "1h", "--count", &STEPS.to_string(), "--format", "json"]).args(options);
    let mut memprof = Attached::start(memprof.args(["--pid", &target.pid().to_string()]));
    memprof.hear("attached to process");
    for _ in 0..STEPS {
        target.tell("");
        assert_eq!(target.hear(), "ready");
        memprof.signal("USR1");
        memprof.next_report();
    }
    memprof.wait()
}

#[test]
fn a_process_that_grows_fails_with_the_stack_that_does() {
    let program = Program::c(GROWING, &[]);
    let run = watch_growing(&program, &["--fail-on", "growing"]);
    assert_eq!(run.status.code(), Some(100), "{}", run.stderr);
    let failure: Vec<_> = run.stderr.lines().skip_while(|line| !line.contains("failed: program (")).collect();
    assert!(
        failure[0].contains("): outstanding grows by ") && failure[0].ends_with("/s (--fail-on growing)"),
        "{failure:?}"
    );
    assert!(failure[1].starts_with("  #1  58.6 KiB in 60 allocations, growing "), "{failure:?}");
    let line = program.line("// growing");
    assert!(failure[2].contains("grow") && failure[2].ends_with(&format!("program.c:{line}")), "{failure:?}");

    let known = write(program.folder(), "known", "leak:grow\n");
    let run = watch_growing(&program, &["--fail-on", "growing", "--suppressions", &known]);
    assert_eq!(run.status.code(), Some(0), "{}", run.stderr);
}

/// Leaks for ever.
const FOREVER: &str = r#"
#include <stdlib.h>
#include <unistd.h>
int main(void) {
    for (;;) {
        if (!malloc(1000)) return 1; // forever
        usleep(10000);
    }
}
"#;

#[test]
fn after_a_duration_the_last_report_is_judged() {
    let program = Program::c(FOREVER, &[]);
    let target = Target::start(&mut Command::new(program.path()));
    let pid = target.pid().to_string();
    let of = |arguments: &[&str]| memprof().args(arguments).stdin(Stdio::null()).output().unwrap();
    let attached = of(&["--pid", &pid, "--duration", "1s", "--fail-above", "0B"]);
    let swept = of(&["sweep", "--all", "--parent", &pid, "--duration", "1s", "--fail-above", "0B"]);
    for output in [attached, swept] {
        assert_eq!(output.status.code(), Some(100), "{}", stderr(&output));
        let place = format!("program.c:{}", program.line("// forever"));
        assert!(stderr(&output).contains(&place), "{}", stderr(&output));
        assert!(String::from_utf8_lossy(&output.stdout).contains(&place), "{output:?}");
    }
}

#[test]
fn a_sweep_in_which_nothing_grows_passes() {
    let mut idle = Target::start(Command::new("sleep").arg("60"));
    let parent = idle.pid().to_string();
    let output =
        memprof().args(["sweep", "--watch", "1s", "--parent", &parent, "--fail-on", "growing"]).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    idle.0.kill().unwrap();
}

#[test]
fn the_command_is_judged_though_nobody_reads_the_reports() {
    let program = Program::c(
        r#"
#include <stdlib.h>
#include <unistd.h>
int main(void) {
    char c;
    free(malloc(1));
    return read(0, &c, 1) != 1 || !malloc(77);
}
"#,
        &[],
    );
    let mut memprof = memprof();
    memprof.args(["--interval", "50ms", "--fail-above", "0B", "--verbose", "--"]).arg(program.path());
    let mut child = memprof.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = [0; 1];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut first).unwrap();
    drop(child.stdout.take());
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"go").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(100), "{}", stderr(&output));
    assert!(stderr(&output).contains("holds 77 B in 1 allocation, more than --fail-above 0 B"), "{}", stderr(&output));
}

/// What the documentation recommends to begin with is enough for a program that itself leaves nothing.
#[test]
fn the_suppressions_of_the_documentation_are_enough_for_what_libraries_keep() {
    let documentation = include_str!("../../docs/ci.md");
    let block = documentation.split("```").find(|block| block.lines().any(|line| line.starts_with("leak:"))).unwrap();
    let program = Program::cpp(
        r#"
#include <cstdio>
#include <iostream>
#include <thread>
int main() {
    std::printf("printed\n");
    std::cout << "also printed\n";
    std::thread([] {}).join();
}
"#,
        &["-pthread"],
    );
    let known = write(program.folder(), "known", block);
    let run = |options: &[&str]| launch(&[&["--fail-above", "0B"], options].concat(), &[program.path()]);
    assert_eq!(run(&[]).status.code(), Some(100));
    let run = run(&["--suppressions", &known]);
    assert_eq!(run.status.code(), Some(0), "{}", run.stderr);
}
