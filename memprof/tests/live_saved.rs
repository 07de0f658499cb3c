//! Profiles that are saved, shown again, compared, named later, and read by other tools.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

mod support;

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use serde_json::Value;
use support::{Program, Target, copy_program, memprof, numbers, wait_until};

/// What it leaks is known to the byte; with an argument, more of it at one place, and less at another.
const LEAK: &str = r#"
#include <stdio.h>
#include <stdlib.h>

void *volatile kept;

__attribute__((noinline)) void hold(size_t bytes) { kept = malloc(bytes); }
__attribute__((noinline)) void small(int blocks) { for (int i = 0; i < blocks; i++) hold(100); }
__attribute__((noinline)) void large(int blocks) { for (int i = 0; i < blocks; i++) hold(1000); }

int main(int count, char **arguments) {
    small(count > 1 ? 4 : 10);
    large(count > 1 ? 12 : 5);
    for (int i = 0; i < 20; i++) free(malloc(50));
    return 0;
}
"#;

fn leak(flags: &[&str]) -> Program {
    Program::c(LEAK, &[&["-fno-builtin", "-fno-optimize-sibling-calls"], flags].concat())
}

fn succeeded(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

fn said(command: &mut Command) -> String {
    String::from_utf8(succeeded(command).stdout).unwrap()
}

/// `memprof OPTIONS -o FILE... -- COMMAND`; the paths of the files.
fn save<const N: usize>(program: &Program, options: &[&str], arguments: &[&str], files: [&str; N]) -> [PathBuf; N] {
    let paths = files.map(|file| program.folder().join(file));
    let mut command = memprof();
    command.args(options);
    paths.iter().for_each(|path| {
        command.arg("--output").arg(path);
    });
    succeeded(command.arg("--").arg(program.path()).args(arguments));
    paths
}

fn report(file: &Path, options: &[&str]) -> String {
    said(memprof().arg("report").arg(file).args(options))
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Bytes and allocations of the stack that has this function.
fn held_by(report: &Value, function: &str) -> Option<(u64, u64)> {
    let stacks = report["processes"][0]["stacks"].as_array().unwrap();
    let has = |stack: &&Value| stack["frames"].as_array().unwrap().iter().any(|frame| frame["function"] == function);
    let stack = stacks.iter().find(has)?;
    Some((stack["outstanding_bytes"].as_u64()?, stack["outstanding_allocations"].as_u64()?))
}

#[test]
fn a_saved_profile_says_again_what_was_said() {
    let program = leak(&[]);
    let [profile, lines, text] = save(&program, &[], &[], ["a.pb.gz", "b.json", "c.txt"]);
    let (lines, text) = (fs::read_to_string(lines).unwrap(), fs::read_to_string(text).unwrap());
    assert_eq!(report(&profile, &["--format", "json"]), lines);
    assert_eq!(report(&profile, &[]), text);
    let whole = json(&lines);
    assert_eq!((held_by(&whole, "small"), held_by(&whole, "large")), (Some((1000, 10)), Some((5000, 5))));
    // What is filtered later is what the blocks are.
    let large = json(&report(&profile, &["--format", "json", "--min-size", "500B"]));
    assert_eq!((held_by(&large, "small"), held_by(&large, "large")), (None, Some((5000, 5))));
    let first = json(&report(&profile, &["--format", "json", "--sort", "allocations", "--top", "1"]));
    assert_eq!((held_by(&first, "small"), held_by(&first, "large")), (Some((1000, 10)), None));
    assert_eq!(first["processes"][0]["selected_stacks"], 2);
    // A profile of a profile is the same one.
    let copy = program.folder().join("copy.pb.gz");
    succeeded(memprof().arg("report").arg(&profile).arg("-o").arg(&copy));
    assert_eq!(report(&copy, &["--format", "json"]), lines);
}

#[test]
fn what_is_asked_for_holds_for_each_output() {
    let program = leak(&[]);
    let asked = ["--min-size", "500B", "--sort", "allocations", "--show-allocations"];
    let [profile, lines, text] = save(&program, &asked, &[], ["a.pb.gz", "b.json", "c.txt"]);
    let with = |format: &str| report(&profile, &[&asked[..], &["--format", format]].concat());
    assert_eq!(with("json"), fs::read_to_string(&lines).unwrap());
    assert_eq!(with("text"), fs::read_to_string(text).unwrap());
    let lines = json(&fs::read_to_string(lines).unwrap());
    assert_eq!((held_by(&lines, "small"), held_by(&lines, "large")), (None, Some((5000, 5))));
    assert_eq!(lines["processes"][0]["stacks"][0]["allocations"].as_array().unwrap().len(), 5);
}

#[test]
fn blocks_that_were_not_saved_are_missed() {
    let program = leak(&[]);
    let [profile] = save(&program, &[], &[], ["a.pb.gz"]);
    let report = json(&report(&profile, &["--format", "json", "--show-allocations"]));
    let expected = "single allocations are not in this profile (record it with --show-allocations)";
    assert_eq!(report["warnings"], serde_json::json!([expected]));
}

#[test]
fn one_profile_less_another_is_what_the_program_did_otherwise() {
    let program = leak(&[]);
    let [before] = save(&program, &[], &[], ["before.pb.gz"]);
    let [after] = save(&program, &[], &["more"], ["after.pb.gz"]);
    let difference = |options: &[&str]| said(memprof().arg("diff").arg(&before).arg(&after).args(options));
    let difference_json = json(&difference(&["--format", "json"]));
    let process = &difference_json["processes"][0];
    assert_eq!(difference_json["warnings"], serde_json::json!([]));
    let change = |of: &Value| {
        let change = &of["change"];
        ["outstanding_bytes", "outstanding_allocations", "allocated_bytes", "total_allocations"]
            .map(|figure| change[figure].as_i64().unwrap())
    };
    assert_eq!(change(process), [6400, 1, 6400, 1]);
    let stacks = process["stacks"].as_array().unwrap();
    let second = |stack: &Value| stack["frames"][1]["function"].as_str().unwrap().to_owned();
    assert_eq!(stacks.iter().map(second).collect::<Vec<_>>(), ["large", "small"]);
    assert_eq!(change(&stacks[0]), [7000, 7, 7000, 7]);
    assert_eq!(change(&stacks[1]), [-600, -6, -600, -6]);
    assert!(difference(&[]).contains("#1  +6.8 KiB in +7 allocations  (4.9 KiB in 5 -> 11.7 KiB in 12)"));
    // Signed samples, and what `go tool pprof` makes of both files itself.
    let signed = program.folder().join("difference.pb.gz");
    difference(&["-o", signed.to_str().unwrap()]);
    assert_eq!(sums(&mut pprof(&["-raw", signed.to_str().unwrap()])), [1, 6400, 1, 6400]);
    let [before, after] = [&before, &after].map(|path| path.to_str().unwrap());
    assert_eq!(sums(&mut pprof(&["-raw", "-diff_base", before, after])), [1, 6400, 1, 6400]);
}

/// `go tool pprof`, which looks at no other file.
fn pprof(arguments: &[&str]) -> Command {
    let mut command = Command::new("go");
    command.args(["tool", "pprof", "-symbolize=none"]).args(arguments).env("HOME", std::env::temp_dir());
    command
}

/// Of the samples that `pprof -raw` lists: `5 5000 5 5000: 1 2 3`.
fn sums(pprof: &mut Command) -> [i64; 4] {
    let raw = said(pprof);
    let samples = raw.lines().skip_while(|line| *line != "Samples:").take_while(|line| *line != "Locations");
    let figures = samples.filter_map(|line| line.split_once(": ")).filter(|(figures, _)| !figures.contains('['));
    let figures = figures.map(|(figures, _)| -> Vec<i64> {
        figures.split_whitespace().filter_map(|figure| figure.parse().ok()).collect()
    });
    let mut sums = [0; 4];
    for figures in figures.filter(|figures| figures.len() == 4) {
        sums.iter_mut().zip(figures).for_each(|(sum, figure)| *sum += figure);
    }
    sums
}

#[test]
fn go_tool_pprof_reads_it_and_finds_the_same_sums() {
    let program = leak(&[]);
    let [profile] = save(&program, &[], &[], ["a.pb.gz"]);
    let path = profile.to_str().unwrap();
    assert_eq!(sums(&mut pprof(&["-raw", path])), [35, 7000, 15, 6000]);
    let top = said(&mut pprof(&["-top", path]));
    assert!(top.contains("Type: inuse_space\n"), "{top}");
    assert!(top.contains("Showing nodes accounting for 6000B, 100% of 6000B total"), "{top}");
    let of = |function: &str| top.lines().find(|line| line.ends_with(&format!(" {function}"))).unwrap().to_owned();
    assert_eq!(of("large").split_whitespace().collect::<Vec<_>>(), ["0", "0%", "100%", "5000B", "83.33%", "large"]);
    // Other figures are there to be asked for.
    for (figure, total) in [("alloc_objects", "35"), ("alloc_space", "7000B"), ("inuse_objects", "15")] {
        let shown = said(&mut pprof(&["-top", &format!("-sample_index={figure}"), path]));
        assert!(shown.contains(&format!("100% of {total} total")), "{figure}: {shown}");
    }
    // The program is known by its build id, and processes by their labels.
    let raw = said(&mut pprof(&["-raw", path]));
    let id = unnamed_build_id(&json(&self::report(&profile, &["--format", "json"])), program.path());
    assert!(raw.contains(&format!(" {} {id} [FN][FL][LN][IN]\n", program.path().display())), "{raw}");
    let tags = said(&mut pprof(&["-tags", path]));
    assert!(tags.contains(" command: Total 5.9kB\n") && tags.contains(" pid: Total "), "{tags}");
    // What is told to be shown to nobody is not shown.
    assert!(top.contains("nothing lost\n") && !top.contains("memprof.profile"), "{top}");
    let by_size = said(&mut pprof(&["-top", "-tagfocus=bytes=100b", path]));
    assert!(by_size.contains("accounting for 1000B"), "{by_size}");
    // And what it writes is read.
    let rewritten = program.folder().join("rewritten.pb.gz");
    succeeded(&mut pprof(&["-proto", "-focus=large", "-output", rewritten.to_str().unwrap(), path]));
    let report = json(&report(&rewritten, &["--format", "json"]));
    assert_eq!((held_by(&report, "small"), held_by(&report, "large")), (None, Some((5000, 5))));
    assert!(report["warnings"][0].as_str().unwrap().starts_with("this profile was not written by memprof"));
}

/// What is known of frames in a module: functions, and whether there is a line, a build id and an offset.
fn frames_in(report: &Value, module: &Path) -> Vec<(Option<String>, bool)> {
    let stacks = report["processes"][0]["stacks"].as_array().unwrap();
    let frames = stacks.iter().flat_map(|stack| stack["frames"].as_array().unwrap());
    let own = frames.filter(|frame| frame["module"] == module.to_str().unwrap());
    own.map(|frame| {
        assert!(frame["build_id"].is_string() && frame["offset"].is_string(), "{frame}");
        (frame["function"].as_str().map(str::to_owned), frame["source"].is_string())
    })
    .collect()
}

fn run(directory: &Path, command: &str) {
    let words: Vec<_> = command.split_whitespace().collect();
    succeeded(Command::new(words[0]).args(&words[1..]).current_dir(directory));
}

#[test]
fn a_stripped_program_is_named_where_its_debug_file_is() {
    for flags in [&[][..], &["-no-pie"], &["-Wl,-z,noseparate-code"], &["-O1"]] {
        let program = leak(flags);
        let symbols = program.folder().join("symbols");
        fs::create_dir(&symbols).unwrap();
        run(program.folder(), "objcopy --only-keep-debug program symbols/anything.debug");
        run(program.folder(), "strip program");
        let [profile] = save(&program, &[], &[], ["a.pb.gz"]);
        let before = json(&report(&profile, &["--format", "json"]));
        let unnamed = frames_in(&before, program.path());
        assert!(unnamed.len() > 4 && unnamed.iter().all(|frame| *frame == (None, false)), "{unnamed:?}");
        // The program is not needed.
        fs::remove_file(program.path()).unwrap();
        let named = report(&profile, &["--format", "json", "--debug-dir", symbols.to_str().unwrap()]);
        let named = json(&named);
        assert_eq!((held_by(&named, "small"), held_by(&named, "large")), (Some((1000, 10)), Some((5000, 5))));
        let line = format!("program.c:{}", program.line("large(count"));
        assert!(named.to_string().contains(&line), "{flags:?}");
        // That of another build is not used, whatever its name.
        let other = Program::c("int main(void) { return 0; }", &[]);
        let id = unnamed_build_id(&before, program.path());
        let place = other.folder().join("symbols/.build-id").join(&id[..2]);
        fs::create_dir_all(&place).unwrap();
        fs::copy(other.path(), place.join(format!("{}.debug", &id[2..]))).unwrap();
        let with_other = report(&profile, &["--format", "json", "--debug-dir", other.folder().to_str().unwrap()]);
        assert_eq!(json(&with_other), before);
    }
}

/// Where the debug file has lost its build id, the stripped program says which it is, and its checksum whether it is that.
#[test]
fn a_debug_file_without_a_build_id_is_found_by_the_programs_link() {
    let program = leak(&[]);
    let folder = program.folder();
    for command in [
        "mkdir symbols",
        "objcopy --only-keep-debug --remove-section=.note.gnu.build-id program symbols/program.dbg",
        "objcopy --strip-all --add-gnu-debuglink=symbols/program.dbg program",
        "cp program symbols/stripped",
    ] {
        run(folder, command);
    }
    let [profile] = save(&program, &[], &[], ["a.pb.gz"]);
    let before = report(&profile, &["--format", "json"]);
    let symbols = folder.join("symbols");
    let named = || {
        let mut command = memprof();
        let output =
            succeeded(command.arg("report").arg(&profile).args(["--format", "json", "--debug-dir"]).arg(&symbols));
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (report, said) = named();
    assert_eq!(held_by(&json(&report), "large"), Some((5000, 5)));
    assert!(report.contains(&format!("program.c:{}", program.line("large(count"))), "{report}");
    assert_eq!(said, "");
    run(folder, "objcopy --set-section-flags .comment=alloc symbols/program.dbg");
    let (report, said) = named();
    assert_eq!(report, before, "it is another file");
    let id = unnamed_build_id(&json(&before), program.path());
    let expected = format!("memprof: no file in --debug-dir has names for {} ({id})\n", program.path().display());
    assert_eq!(said, expected);
}

/// Another tool finds the lines of frames without names, by our mappings and the program.
#[test]
fn go_tool_pprof_names_what_has_no_names() {
    let program = leak(&[]);
    run(program.folder(), "cp program whole");
    run(program.folder(), "strip program");
    let [profile] = save(&program, &[], &[], ["a.pb.gz"]);
    run(program.folder(), "mv whole program");
    let mut pprof = Command::new("go");
    pprof.args(["tool", "pprof", "-symbolize=local", "-lines", "-top"]).arg(&profile).env("HOME", program.folder());
    let top = said(&mut pprof);
    for (function, mark) in [("hold", "malloc(bytes)"), ("large", "hold(1000)"), ("main", "large(count")] {
        let line = format!("/program.c:{}", program.line(mark));
        let is_there = |text: &str| text.contains(&format!(" {function} ")) && text.ends_with(&line);
        assert!(top.lines().any(is_there), "{function} {line}: {top}");
    }
}

fn unnamed_build_id(report: &Value, module: &Path) -> String {
    let frames = report["processes"][0]["stacks"][0]["frames"].as_array().unwrap();
    let frame = frames.iter().find(|frame| frame["module"] == module.to_str().unwrap()).unwrap();
    frame["build_id"].as_str().unwrap().to_owned()
}

#[test]
fn nobody_can_read_it_without_the_program() {
    let program = leak(&[]);
    let [profile] = save(&program, &[], &[], ["a.pb.gz"]);
    let expected = report(&profile, &["--format", "json"]);
    fs::remove_file(program.path()).unwrap();
    // Both where everybody may look.
    let executable = program.folder().join("memprof");
    copy_program(memprof().get_program(), &executable);
    for (path, mode) in [(program.folder(), 0o755), (&executable, 0o755), (&profile, 0o644)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&executable);
    assert_eq!(said(command.arg("report").arg(&profile).args(["--format", "json"])), expected);
}

#[test]
fn the_file_is_whole_at_any_moment() {
    let program = Program::c(
        "#include <unistd.h>\n#include <stdlib.h>\nvoid *volatile p; int main(void) { for (;;) { p = malloc(10); usleep(1000); } }",
        &[],
    );
    let target = Target::start(&mut Command::new(program.path()));
    let path = program.folder().join("a.pb.gz");
    let mut command = memprof();
    command.args(["--quiet", "--interval", "50ms", "--pid", &target.pid().to_string(), "--output"]).arg(&path);
    let mut recording = Target::start(&mut command);
    wait_until("there is a profile", || path.exists());
    let elapsed = || json(&report(&path, &["--format", "json"]))["elapsed_seconds"].as_f64().unwrap();
    let first = elapsed();
    wait_until("it is another", || elapsed() > first);
    // Killed at any moment, it leaves the last one.
    recording.0.kill().unwrap();
    recording.0.wait().unwrap();
    assert!(elapsed() > first);
}

#[test]
fn a_terminal_is_not_given_a_profile() {
    let line = format!("{} --format pprof -- true", memprof().get_program().to_str().unwrap());
    let output = Command::new("script").args(["-qec", &line, "/dev/null"]).stdin(Stdio::null()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(!output.status.success());
    assert_eq!(
        text.trim_end(),
        "memprof: a profile is not for a terminal: give a file (-o FILE), or pipe it somewhere"
    );
}

#[test]
fn a_profile_goes_through_a_pipe_too() {
    let program = leak(&[]);
    let output =
        succeeded(memprof().args(["--quiet", "--format", "pprof", "--interval", "1h", "--"]).arg(program.path()));
    let path = program.folder().join("piped");
    fs::write(&path, output.stdout).unwrap();
    assert_eq!(held_by(&json(&report(&path, &["--format", "json"])), "large"), Some((5000, 5)));
    let top = report(&path, &["--top", "1"]);
    assert!(numbers(&top).contains(&5), "{top}");
}
