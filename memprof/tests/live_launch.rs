//! Commands that memprof launches: it stands between them and whoever started it, and nobody notices.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::{
    fs,
    io::{BufReader, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use support::{Report, memprof, signal, start, wait_until};
use tempfile::TempDir;

/// Where the report goes while the command has standard output.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// `memprof --output FILE -- COMMAND`, in this folder.
    fn launch(&self, command: &[&str]) -> Command {
        let mut memprof = memprof();
        memprof.args(["--format", "json", "--output", "report", "--"]).args(command).current_dir(self.path());
        memprof.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        memprof
    }

    /// The reports so far, without one that is being written.
    fn reports(&self) -> Vec<Report> {
        let text = fs::read_to_string(self.path().join("report")).unwrap();
        text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')).map(Report::parse).collect()
    }

    fn file(&self, name: &str, content: &str, mode: u32) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    }
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// The status that a command gave memprof, and the standard output that is the command's.
fn outcome(command: &[&str]) -> (Option<i32>, String) {
    let output = Folder::new().launch(command).output().unwrap();
    (output.status.code(), stdout(&output).into())
}

fn spawn(command: &mut Command) -> (Child, BufReader<std::process::ChildStdout>) {
    let mut child = command.spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    (child, stdout)
}

fn expect_line(reader: &mut impl std::io::BufRead, expected: &str) {
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert_eq!(line.trim_end(), expected);
}

#[test]
fn standard_streams_are_the_commands() {
    let folder = Folder::new();
    let mut command = folder.launch(&["sh", "-c", "cat; echo to standard error >&2"]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"one\ntwo\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(stdout(&output), "one\ntwo\n");
    assert_eq!(stderr(&output), "to standard error\n");
    assert!(output.status.success());
    let reports = folder.reports();
    assert_eq!(reports.len(), 1);
    assert!(reports[0].process().exited());
}

#[test]
fn what_the_command_does_not_read_is_left_for_the_next() {
    let memprof = memprof();
    let line = format!("{:?} -o /dev/null -- head -c 4; cat", memprof.get_program());
    let mut child =
        Command::new("sh").args(["-c", &line]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"one\n").unwrap();
    let mut first = [0; 4];
    child.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
    stdin.write_all(b"two\n").unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!((&first, stdout(&output)), (b"one\n", "two\n"));
}

#[test]
fn the_commands_status_is_memprofs() {
    for (script, status) in [("exit 0", 0), ("exit 3", 3), ("exit 255", 255), ("kill -KILL $$", 137), ("kill $$", 143)]
    {
        assert_eq!(outcome(&["sh", "-c", script]).0, Some(status), "{script}");
    }
}

#[test]
fn a_signal_to_memprof_reaches_a_command_that_traps_it() {
    for name in ["TERM", "HUP", "INT"] {
        let folder = Folder::new();
        let trap = format!("trap 'echo trapped; exit 7' {name}; echo ready; while :; do sleep 0.05; done");
        let (mut child, mut output) = spawn(&mut folder.launch(&["sh", "-c", &trap]));
        expect_line(&mut output, "ready");
        signal(child.id(), name);
        expect_line(&mut output, "trapped");
        assert_eq!(child.wait().unwrap().code(), Some(7), "SIG{name}");
        assert_eq!(folder.reports().len(), 1, "SIG{name}");
    }
}

#[test]
fn a_command_that_a_signal_ends_is_reported() {
    let folder = Folder::new();
    let (mut child, mut output) = spawn(&mut folder.launch(&["sh", "-c", "echo ready; exec sleep 1000"]));
    expect_line(&mut output, "ready");
    signal(child.id(), "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(143));
    assert!(folder.reports()[0].process().exited());
}

#[test]
fn a_command_that_ignores_a_signal_goes_on_and_so_does_memprof() {
    let folder = Folder::new();
    let script = "trap '' TERM; echo ready; read line; echo $line; exit 5";
    let (mut child, mut output) = spawn(folder.launch(&["sh", "-c", script]).stdin(Stdio::piped()));
    expect_line(&mut output, "ready");
    signal(child.id(), "TERM");
    std::thread::sleep(Duration::from_millis(200));
    child.stdin.take().unwrap().write_all(b"still here\n").unwrap();
    expect_line(&mut output, "still here");
    assert_eq!(child.wait().unwrap().code(), Some(5));
    assert_eq!(folder.reports().len(), 1);
}

/// As a shell starts what is to run in the background.
#[test]
fn a_command_ignores_the_signals_that_memprof_was_to_ignore() {
    let folder = Folder::new();
    let mask = "grep SigIgn /proc/self/status";
    // Real-time signals are libc's own.
    let of = |launch: &mut Command| {
        let mask = u64::from_str_radix(stdout(&launch.output().unwrap()).trim().trim_start_matches("SigIgn:\t"), 16);
        mask.unwrap() & 0x7fff_ffff
    };
    let ignoring = |command: &Command| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "trap '' INT QUIT TERM USR1; exec \"$@\"", "sh"]).arg(command.get_program());
        shell.args(command.get_args()).current_dir(folder.path());
        shell
    };
    let (mut with, mut without) = (folder.launch(&["sh", "-c", mask]), Command::new("sh"));
    without.args(["-c", mask]);
    assert_eq!(of(&mut ignoring(&with)), of(&mut ignoring(&without)));
    assert_eq!(of(&mut with), of(&mut without));
}

/// `script` makes a terminal, in whose foreground memprof and the command are.
fn in_terminal(folder: &Folder, command: &str) -> (Child, BufReader<std::process::ChildStdout>) {
    // Without `exec`, a shell that waits (dash does) would die of the Ctrl-C itself, and its status would be seen.
    let line = format!("exec {:?} --format json --output report -- {command}", memprof().get_program());
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &line, "/dev/null"]).current_dir(folder.path());
    spawn(script.stdin(Stdio::piped()).stdout(Stdio::piped()))
}

#[test]
fn ctrl_c_ends_the_command_and_brings_the_report() {
    let folder = Folder::new();
    let (mut child, mut output) = in_terminal(&folder, "sh -c 'echo ready; exec sleep 1000'");
    expect_line(&mut output, "ready");
    child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(folder.reports().len(), 1);
    assert!(folder.reports()[0].process().exited());
}

#[test]
fn ctrl_c_reaches_the_command_once() {
    let folder = Folder::new();
    // Not `read`: a signal that comes just before it waits would not be told of while it does.
    let wait = r#"until [ "$t" ]; do sleep 0.05; done"#;
    let trap = format!(r#"sh -c 'trap "t=1; echo trapped" INT; echo ready; {wait}; read a; read a; echo $a; exit 9'"#);
    let (mut child, mut output) = in_terminal(&folder, &trap);
    expect_line(&mut output, "ready");
    child.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    expect_line(&mut output, "^Ctrapped");
    std::thread::sleep(Duration::from_millis(300));
    child.stdin.as_mut().unwrap().write_all(b"\nend\n").unwrap();
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    assert_eq!(rest.matches("trapped").count(), 0, "{rest}");
    assert_eq!(child.wait().unwrap().code(), Some(9), "{rest}");
}

/// What memprof says of a command that cannot be started, and its status.
fn refusal(folder: &Folder, command: &str) -> (Option<i32>, String) {
    let output = folder.launch(&[command]).output().unwrap();
    assert_eq!(stdout(&output), "");
    assert!(!folder.path().join("report").exists(), "{command}");
    (output.status.code(), stderr(&output).into())
}

#[test]
fn what_is_no_command_is_refused_as_env_refuses_it() {
    let folder = Folder::new();
    folder.file("plain", "text", 0o644);
    folder.file("binary", "\x01\x02\0\x03", 0o755);
    folder.file("orphan", "#!/no/such/interpreter\n", 0o755);
    let cases = [
        ("no-such-command", 127, "no-such-command: command not found"),
        ("./gone", 127, "./gone: command not found"),
        ("./plain", 126, "./plain: not executable (permission denied)"),
        ("./plain/below", 127, "./plain/below: command not found"),
        (".", 127, ".: command not found"),
        ("./", 126, "./: is a directory"),
        ("./orphan", 127, "./orphan: bad interpreter: /no/such/interpreter: command not found"),
        ("", 127, ": command not found"),
    ];
    for (command, status, message) in cases {
        let expected = (Some(status), format!("memprof: {message}\n"));
        assert_eq!(refusal(&folder, command), expected, "{command}");
    }
    let (status, message) = refusal(&folder, "./binary");
    assert_eq!(status, Some(126));
    assert!(message.ends_with("binary: not a program: not an ELF file\n"), "{message}");
}

#[test]
fn scripts_run_with_and_without_a_first_line() {
    let folder = Folder::new();
    folder.file("with", "#!/bin/sh -e\necho with $0 $1\n", 0o755);
    folder.file("through-env", "#!/usr/bin/env sh\necho env $1\n", 0o755);
    folder.file("without", "echo without $0 $1\n", 0o755);
    let cases = [
        (["./with", "a"], "with ./with a\n"),
        (["./through-env", "b"], "env b\n"),
        (["./without", "c"], "without ./without c\n"),
    ];
    for (command, expected) in cases {
        let output = folder.launch(&command).output().unwrap();
        assert_eq!((stdout(&output), stderr(&output)), (expected, ""));
        assert!(output.status.success());
        let reports = folder.reports();
        assert!(reports[0].process().totals()[0] > 0, "{command:?}");
        assert_eq!(reports[0].warnings(), Vec::<String>::new(), "{command:?}");
    }
}

#[test]
fn the_command_is_found_in_the_path() {
    let folder = Folder::new();
    folder.file("tool-of-mine", "#!/bin/sh\necho found\n", 0o755);
    let path = format!("/nowhere:{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    let output = folder.launch(&["tool-of-mine"]).env("PATH", path).output().unwrap();
    assert_eq!(stdout(&output), "found\n");
}

#[test]
fn arguments_environment_and_directory_are_passed_on() {
    let folder = Folder::new();
    let print = r#"printf '%s|' "$@"; printf '%s|' "$VARIABLE"; pwd"#;
    let arguments = ["sh", "-c", print, "sh", "a b", "", "--output", "-p", "*", "\"quoted\""];
    let output = folder.launch(&arguments).env("VARIABLE", "its value").output().unwrap();
    let directory = fs::canonicalize(folder.path()).unwrap();
    let expected = format!("a b||--output|-p|*|\"quoted\"|its value|{}\n", directory.display());
    assert_eq!(stdout(&output), expected);
    let (_, environment) = outcome(&["env"]);
    let added = environment
        .lines()
        .filter_map(|line| line.split_once('='))
        .find(|(name, _)| std::env::var_os(name).is_none() && *name != "_");
    assert_eq!(added, None);
}

#[test]
fn the_limit_of_open_files_is_passed_on() {
    let memprof = memprof().get_program().to_owned();
    let line = r#"ulimit -Sn 200 && exec "$0" --quiet --output /dev/null -- sh -c 'ulimit -Sn'"#;
    let output = Command::new("sh").args(["-c", line]).arg(memprof).output().unwrap();
    assert_eq!(stdout(&output), "200\n");
}

#[test]
fn no_descriptor_of_memprofs_reaches_the_command() {
    let list = "for i in /proc/self/fd/*; do readlink $i; done";
    let inherited =
        |printed: &str| printed.lines().filter(|line| line.contains("bpf") || line.contains("anon_inode")).count();
    let (_, printed) = outcome(&["bash", "-c", list]);
    assert_eq!(inherited(&printed), 0, "{printed}");
}

#[test]
fn reports_come_at_intervals_while_the_command_runs() {
    let mut memprof = start(&["--interval", "200ms"], &["sh", "-c", "read line; exit 4"]);
    for _ in 0..2 {
        assert!(!memprof.next_report().process().exited());
    }
    memprof.tell("");
    let run = memprof.wait();
    assert_eq!(run.status.code(), Some(4));
    assert!(run.last().process().exited());
}

#[test]
fn after_the_duration_or_the_count_the_command_goes_on() {
    for options in [["--duration", "200ms", "--interval", "1h"], ["--count", "1", "--interval", "200ms"]] {
        let folder = Folder::new();
        let mut memprof = memprof();
        memprof.args(options).args(["--format", "json", "--output", "report", "--"]);
        memprof.args(["sh", "-c", "echo ready; read line; echo $line; exit 6"]).current_dir(folder.path());
        let (mut child, mut output) = spawn(memprof.stdin(Stdio::piped()).stdout(Stdio::piped()));
        expect_line(&mut output, "ready");
        wait_until("the report is there", || folder.reports().len() == 1);
        assert!(!folder.reports()[0].process().exited());
        child.stdin.take().unwrap().write_all(b"goes on\n").unwrap();
        expect_line(&mut output, "goes on");
        assert_eq!(child.wait().unwrap().code(), Some(6));
        assert_eq!(folder.reports().len(), 1);
    }
}

#[test]
fn a_reader_who_leaves_ends_neither_the_command_nor_its_status() {
    let mut memprof = memprof();
    memprof.args(["--interval", "100ms", "--", "sh", "-c", "sleep 1; exit 8"]);
    let (mut child, output) = spawn(memprof.stdout(Stdio::piped()).stderr(Stdio::piped()));
    drop(output);
    assert_eq!(child.wait().unwrap().code(), Some(8));
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(said, "");
}

#[test]
fn a_static_command_runs_and_the_report_says_that_nothing_is_known_of_it() {
    let program =
        support::Program::c("#include <stdlib.h>\nint main(void) { return !malloc(10); }", &["-static", "-s"]);
    let folder = Folder::new();
    let output = folder.launch(&[program.path().to_str().unwrap()]).output().unwrap();
    assert!(output.status.success());
    assert!(stderr(&output).contains("no allocator function found"), "{}", stderr(&output));
    let warnings = folder.reports()[0].warnings();
    assert!(warnings.iter().any(|warning| warning.contains("no allocator function was found")), "{warnings:?}");
}
