//! What cannot be profiled: one line that says why and what to do, a status that is not zero, and nothing left behind.
//! And what can, though it looks hard: two at once, one that is killed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

mod support;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::FileExt as _,
    path::Path,
    process::{ChildStdin, ChildStdout, Command, Output, Stdio},
    time::Duration,
};

use support::{Attached, Program, Target, attach, child_of, memprof, refusal_of, signal, wait_until};

fn output_of(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

fn refusal(pid: u32) -> String {
    refusal_of(memprof().args(["--pid", &pid.to_string()]))
}

/// A target that does nothing.
fn sleeper() -> Target {
    Target::start(Command::new("sleep").arg("1000"))
}

fn command_of(pid: u32) -> Option<String> {
    Some(fs::read_to_string(format!("/proc/{pid}/comm")).ok()?.trim_end().to_owned())
}

#[test]
fn who_is_no_process_is_said_to_be_so() {
    assert_eq!(refusal(999_999_999), "no process has the pid 999999999");
    if command_of(2).as_deref() == Some("kthreadd") {
        assert_eq!(refusal(2), "process 2 is a kernel thread: it has no heap");
    }
    let mut child = Command::new("true").spawn().unwrap();
    let zombie = child.id();
    wait_until("it is a zombie", || fs::read_to_string(format!("/proc/{zombie}/stat")).unwrap().contains(") Z "));
    assert_eq!(refusal(zombie), format!("process {zombie} has exited (it is a zombie)"));
    child.wait().unwrap();
}

#[test]
fn a_thread_is_answered_with_its_process() {
    let wait = "import threading; threading.Thread(target=threading.Event().wait).start()";
    let python = Target::start(Command::new("/usr/bin/python3").args(["-c", wait]));
    let threads = || fs::read_dir(format!("/proc/{}/task", python.pid())).into_iter().flatten().flatten();
    let other =
        || threads().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).find(|&id| id != python.pid());
    wait_until("it has a second thread", || other().is_some());
    let thread = other().unwrap();
    let process = python.pid();
    assert_eq!(refusal(thread), format!("{thread} is a thread of process {process} (profile that: --pid {process})"));
}

#[test]
fn memprof_does_not_profile_itself() {
    let line = format!("exec {:?} --pid $$", memprof().get_program());
    let said = refusal_of(Command::new("sh").args(["-c", &line]));
    assert!(said.ends_with(" is memprof itself, which it does not profile"), "{said}");
}

/// Whenever it ends, before, during or after: a report, or one line.
#[test]
fn a_process_may_end_while_memprof_attaches_to_it() {
    for milliseconds in [0, 1, 3, 5, 10, 20, 40, 80, 160] {
        let seconds = format!("{}", f64::from(milliseconds) / 1000.0);
        let mut target = Target::start(Command::new("sleep").arg(&seconds));
        let pid = target.pid().to_string();
        let waiting = std::thread::spawn(move || target.0.wait().unwrap());
        let output = output_of(memprof().args(["--quiet", "--format", "json", "--pid", &pid]));
        waiting.join().unwrap();
        let message = String::from_utf8(output.stderr).unwrap();
        if output.status.success() {
            assert_eq!(message, "");
            assert!(String::from_utf8(output.stdout).unwrap().contains("\"exited\":true"));
        } else {
            let reasons = ["no process has the pid", "has exited", "ended while memprof attached to it"];
            assert!(reasons.iter().any(|reason| message.contains(reason)), "{message}");
            assert_eq!((message.lines().count(), output.stdout.as_slice()), (1, b"".as_slice()), "{message}");
        }
    }
}

#[test]
fn a_static_target_is_refused_with_what_was_searched() {
    let source = "#include <unistd.h>\nint main(void) { for (;;) pause(); }";
    let program = Program::c(source, &["-static", "-s"]);
    let target = Target::start(&mut Command::new(program.path()));
    wait_until("it runs", || command_of(target.pid()).as_deref() == Some("program"));
    let path = fs::canonicalize(program.path()).unwrap();
    let expected = format!(
        "no allocator function found in process {} (program); searched: {} (none: it is statically linked and stripped: its allocator's functions have no names)",
        target.pid(),
        path.display()
    );
    assert_eq!(refusal(target.pid()), expected);
}

#[test]
fn a_32_bit_target_is_refused() {
    // Without a C library, so that no 32-bit one is needed: pause(2).
    let source = "void _start(void) { for (;;) __asm__ volatile(\"int $0x80\" : : \"a\"(29)); }";
    let program = Program::c(source, &["-m32", "-static", "-nostdlib", "-fno-pie", "-no-pie"]);
    let Ok(child) = Command::new(program.path()).spawn() else {
        eprintln!("this kernel runs no 32-bit programs");
        return;
    };
    let target = Target(child);
    let expected = format!("process {} is a 32-bit process, which memprof does not support", target.pid());
    assert_eq!(refusal(target.pid()), expected);
    let output = output_of(memprof().arg("--").arg(program.path()));
    assert_eq!(output.status.code(), Some(126));
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.ends_with("not a program: a 32-bit ELF file, which memprof does not support\n"), "{message}");
}

#[test]
fn an_output_that_cannot_be_written_is_refused_before_anything_starts() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("started");
    let directory = folder.path().to_str().unwrap();
    for (output, reason) in [
        ("/no/such/folder/report", "No such file or directory (os error 2)"),
        (directory, "Is a directory (os error 21)"),
    ] {
        let said = refusal_of(memprof().args(["--output", output, "--", "touch"]).arg(&mark));
        assert_eq!(said, format!("cannot write {output}: {reason}"));
    }
    assert!(!mark.exists());
}

#[test]
fn a_refusal_costs_no_older_report_its_file() {
    let folder = tempfile::tempdir().unwrap();
    let report = folder.path().join("report");
    fs::write(&report, "older").unwrap();
    refusal_of(memprof().args(["--pid", "999999999", "--output"]).arg(&report));
    assert_eq!(fs::read_to_string(&report).unwrap(), "older");
    let new = folder.path().join("new");
    refusal_of(memprof().args(["--pid", "999999999", "--output"]).arg(&new));
    assert!(!new.exists());
}

#[test]
fn a_full_disk_is_told() {
    let expected = "cannot write the report: No space left on device (os error 28)";
    assert_eq!(refusal_of(memprof().args(["--output", "/dev/full", "--", "true"])), expected);
    let target = sleeper();
    let mut command = memprof();
    command.args([
        "--quiet",
        "--format",
        "text",
        "--output",
        "/dev/full",
        "--interval",
        "100ms",
        "--pid",
        &target.pid().to_string(),
    ]);
    assert_eq!(refusal_of(&mut command), expected);
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let target = sleeper();
    let memprof = memprof();
    let pipe = |arguments: &str| {
        let line = format!("set -o pipefail; {:?} {arguments} | head -1", memprof.get_program());
        output_of(Command::new("bash").args(["-c", &line]))
    };
    for arguments in [
        format!("--quiet --interval 100ms --pid {}", target.pid()),
        "-- true".to_owned(),
        format!("doctor --pid {}", target.pid()),
        "--help".to_owned(),
    ] {
        let output = pipe(&arguments);
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{arguments}");
        assert_eq!(output.status.code(), Some(0), "{arguments}");
        assert_eq!(output.stdout.iter().filter(|&&byte| byte == b'\n').count(), 1, "{arguments}");
    }
}

/// For each line on standard input it keeps 10 blocks of 100 bytes, frees as many more, and answers.
const SERVER: &str = r#"
#include <stdio.h>
#include <stdlib.h>

static char input[100], output[100];

int main(void) {
    setvbuf(stdin, input, _IOLBF, sizeof input);
    setvbuf(stdout, output, _IOLBF, sizeof output);
    while (getchar() != EOF) {
        for (int i = 0; i < 10; i++) {
            if (!malloc(100)) return 1;
            free(malloc(200));
        }
        puts("done");
    }
    return 0;
}
"#;

struct Server {
    target: Target,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Server {
    fn start(program: &Program) -> Self {
        let mut target = Target::start(Command::new(program.path()).stdin(Stdio::piped()).stdout(Stdio::piped()));
        let input = target.0.stdin.take().unwrap();
        let output = BufReader::new(target.0.stdout.take().unwrap());
        let mut server = Self { target, input, output };
        server.ask();
        server
    }

    fn pid(&self) -> u32 {
        self.target.pid()
    }

    fn ask(&mut self) {
        self.input.write_all(b"\n").unwrap();
        let mut answer = String::new();
        self.output.read_line(&mut answer).unwrap();
        assert_eq!(answer, "done\n");
    }
}

fn ready(pid: u32) -> Attached {
    let mut memprof = attach(pid, &["--interval", "1h"]);
    memprof.ready();
    memprof
}

#[test]
fn two_memprofs_on_one_target_are_both_exact() {
    let program = Program::c(SERVER, &[]);
    let mut server = Server::start(&program);
    let first = ready(server.pid());
    server.ask();
    let second = ready(server.pid());
    server.ask();
    let first = first.interrupt();
    server.ask();
    let second = second.interrupt();
    for run in [&first, &second] {
        assert_eq!(run.last().process().totals(), [40, 6000, 20, 4000]);
        assert_eq!(run.last().process().outstanding(), (2000, 20));
        assert_eq!(run.last().lost(), (0, 0, 0));
    }
}

/// Whether doctor says here where `malloc` is probed: place, name, choice, kind.
fn is_site_of_malloc(line: &str) -> bool {
    line.contains("  malloc ") && line.ends_with("): allocates arg0")
}

/// The byte of libc's `malloc` that is probed, in a process's memory and in the file.
fn probed_byte_of_malloc(pid: u32) -> (u8, u8) {
    let doctor = output_of(memprof().args(["doctor", "--pid", &pid.to_string()]));
    let doctor = String::from_utf8(doctor.stdout).unwrap();
    let site = doctor.lines().find(|line| is_site_of_malloc(line)).unwrap().split_whitespace().next().unwrap();
    let offset = u64::from_str_radix(site.trim_start_matches("0x"), 16).unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let is_code = |line: &&str| line.contains(" r-xp ") && line.contains("/libc.so");
    let fields: Vec<_> = maps.lines().find(is_code).unwrap().split_whitespace().collect();
    let number = |digits: &str| u64::from_str_radix(digits, 16).unwrap();
    let address = number(fields[0].split_once('-').unwrap().0) + offset - number(fields[2]);
    let byte = |path: &Path, place: u64| {
        let mut byte = [0];
        fs::File::open(path).unwrap().read_exact_at(&mut byte, place).unwrap();
        byte[0]
    };
    (byte(Path::new(&format!("/proc/{pid}/mem")), address), byte(Path::new(fields[5]), offset))
}

/// The instruction of a breakpoint.
const INT3: u8 = 0xcc;

#[test]
fn killed_memprof_leaves_an_unprobed_target() {
    let program = Program::c(SERVER, &[]);
    let mut server = Server::start(&program);
    let memprof = ready(server.pid());
    server.ask();
    assert_eq!(probed_byte_of_malloc(server.pid()).0, INT3);
    memprof.signal("KILL");
    assert_eq!(memprof.wait().reports.len(), 0);
    wait_until("malloc is as it was", || {
        let (in_memory, in_file) = probed_byte_of_malloc(server.pid());
        in_memory == in_file
    });
    server.ask();
}

#[test]
fn a_launched_command_outlives_a_killed_memprof() {
    let program = Program::c(SERVER, &[]);
    let mut memprof = memprof();
    memprof.args(["--quiet", "--output", "/dev/null", "--"]).arg(program.path());
    let mut child = memprof.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut input = child.stdin.take().unwrap();
    let mut ask = || {
        input.write_all(b"\n").unwrap();
        let mut answer = String::new();
        output.read_line(&mut answer).unwrap();
        assert_eq!(answer, "done\n");
    };
    ask();
    let command = child_of(child.id()).unwrap();
    signal(child.id(), "KILL");
    child.wait().unwrap();
    wait_until("malloc is as it was", || {
        let (in_memory, in_file) = probed_byte_of_malloc(command);
        in_memory == in_file
    });
    ask();
    drop(input);
    wait_until("the command has ended", || !Path::new(&format!("/proc/{command}/exe")).exists());
}

/// The child of a memprof that is killed while it attaches must neither wait for ever nor become the command.
#[test]
fn a_held_child_does_not_outlive_a_killed_memprof() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("started");
    let mut caught = 0;
    for _ in 0..20 {
        let mut memprof = memprof();
        memprof.args(["--quiet", "--output", "/dev/null", "--", "touch"]).arg(&mark);
        let mut child = memprof.stdin(Stdio::null()).spawn().unwrap();
        // The first child may be the dynamic loader that lists the libraries.
        let held = loop {
            let held = child_of(child.id()).filter(|&pid| command_of(pid).is_some_and(|name| name == "memprof"));
            if held.is_some() || child.try_wait().unwrap().is_some() {
                break held;
            }
        };
        let _ = child.kill();
        child.wait().unwrap();
        let Some(held) = held else { continue };
        wait_until("the held child has ended", || {
            let state = fs::read_to_string(format!("/proc/{held}/stat"));
            state.map_or(true, |state| state.contains(") Z "))
        });
        if mark.exists() {
            // It was released in the meantime.
            fs::remove_file(&mark).unwrap();
        } else {
            caught += 1;
        }
        if caught == 3 {
            return;
        }
    }
    assert!(caught > 0, "memprof could never be caught while it held its child");
}

#[test]
fn doctor_says_that_all_is_well() {
    let output = output_of(memprof().arg("doctor"));
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let subjects = [
        "kernel ",
        "uprobes",
        "uprobe links",
        "kernel BTF",
        "lockdown",
        "privileges",
        "pid namespace",
        "programs",
        "page faults",
    ];
    for (line, subject) in text.lines().zip(subjects) {
        let rest = line.strip_prefix("ok    ").or_else(|| line.strip_prefix("note  ")).unwrap();
        assert!(rest.starts_with(subject), "{line}");
    }
    assert_eq!(text.lines().count(), subjects.len(), "{text}");
}

#[test]
fn doctor_examines_targets() {
    let program = Program::c(SERVER, &[]);
    let server = Server::start(&program);
    let doctor = |pid: u32| {
        let output = output_of(memprof().args(["doctor", "--pid", &pid.to_string()]));
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (status, text) = doctor(server.pid());
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains(&format!("ok    process {:<6} program\n", server.pid())), "{text}");
    let path = fs::canonicalize(program.path()).unwrap();
    assert!(text.contains(&format!("      {}: functions and source lines\n", path.display())), "{text}");
    assert!(text.lines().any(is_site_of_malloc), "{text}");
    assert!(text.contains("\nok    allocator      "), "{text}");

    let stripped = Program::c("#include <unistd.h>\nint main(void) { for (;;) pause(); }", &["-static", "-s"]);
    let target = Target::start(&mut Command::new(stripped.path()));
    wait_until("it runs", || command_of(target.pid()).as_deref() == Some("program"));
    let (status, text) = doctor(target.pid());
    assert_eq!(status, Some(1), "{text}");
    assert!(text.contains("\nFAIL  allocator      none found"), "{text}");
    assert!(text.contains(": exported functions only: it is stripped"), "{text}");

    let (status, text) = doctor(999_999_999);
    assert_eq!(status, Some(1), "{text}");
    assert!(text.ends_with("FAIL  process 999999999 no process has the pid 999999999\n"), "{text}");
}

#[test]
fn a_target_that_replaces_its_program_by_a_static_one_is_warned_of() {
    let program = Program::c("#include <unistd.h>\nint main(void) { sleep(1); return 0; }", &["-static", "-s"]);
    let line = format!("read line; exec {}", program.path().display());
    let mut target = Target::start(Command::new("bash").args(["-c", &line]).stdin(Stdio::piped()));
    wait_until("it runs", || command_of(target.pid()).as_deref() == Some("bash"));
    let memprof = ready(target.pid());
    target.0.stdin.take().unwrap().write_all(b"\n").unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let waiting = std::thread::spawn(move || target.0.wait().unwrap());
    let run = memprof.wait();
    waiting.join().unwrap();
    let warnings = run.last().warnings();
    assert!(warnings.iter().any(|warning| warning.contains("no allocator function was found")), "{warnings:?}");
}

#[test]
fn what_memprof_says_of_itself_is_no_part_of_the_report() {
    let output = output_of(memprof().args(["-v", "-v", "--format", "json", "--", "true"]));
    let mut text = String::new();
    output.stdout.as_slice().read_to_string(&mut text).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("memprof: kernel memory: "));
}

/// With `-v`: what the tables take, which the options decide; where each function is probed, and why there; and what the programs
/// themselves say, in the kernel.
#[test]
fn more_is_said_to_those_who_ask() {
    let said = |options: &[&str]| {
        let mut command = memprof();
        command.args(options).args(["--output", "/dev/null", "--", "sh", "-c", "exec true"]);
        let output = output_of(&mut command);
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let kernel_memory = |text: &str| {
        let size = text.lines().find_map(|line| line.strip_prefix("memprof: kernel memory: ")).unwrap();
        size.parse::<bytesize::ByteSize>().unwrap().as_u64()
    };
    assert_eq!(said(&[]), "");
    let text = said(&["-v"]);
    assert!(text.lines().any(is_site_of_malloc), "{text}");
    // Those of the shell, and of what it becomes: the first image's number is memprof's, and the programs give the others.
    let images: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("memprof: execve: image ")).collect();
    let [shell, command] = images[..] else { panic!("{text}") };
    let (shell, before) = shell.split_once(" follows ").unwrap();
    assert_eq!((before, command.split_once(" follows ").unwrap().1), ("0", shell), "{text}");

    let ring = kernel_memory(&said(&["-v", "--ring-size", "64MiB"])) - kernel_memory(&text);
    assert!(ring.abs_diff(48 << 20) < 1 << 20, "{ring}");
    let small = ["--nursery-entries", "1000", "--stack-entries", "1000", "--threads", "100"];
    let small = [&["-v", "--ring-size", "4KiB", "--unwind-memory", "4KiB"], &small[..]].concat();
    assert!(kernel_memory(&said(&small)) < 10 << 20);
}
