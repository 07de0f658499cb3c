//! What live tests share: programs compiled on the spot, memprof run on them, and its JSON taken apart.
#![allow(dead_code, reason = "each test executable uses its part")]
#![allow(unreachable_pub, missing_docs, reason = "this is no interface")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

pub mod kernel_objects;
pub mod privileges;
pub mod schema;

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// Longest time that anything here may take.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// In C: what programs begin with that a test talks to, line by line.
pub const TALK: &str = include_str!("talk.h");

/// The memprof to test: the release build where `cargo xtask test` has made one.
pub fn memprof() -> Command {
    let path = std::env::var_os("MEMPROF_RELEASE").unwrap_or_else(|| env!("CARGO_BIN_EXE_memprof").into());
    Command::new(path)
}

/// A program that was compiled for a test, in a folder that goes with it.
pub struct Program {
    folder: TempDir,
    path: PathBuf,
}

impl Program {
    /// `gcc -g FLAGS`
    pub fn c(source: &str, flags: &[&str]) -> Self {
        Self::compiled("gcc", "program.c", source, &[&["-g"], flags].concat())
    }

    /// `gcc -g FLAGS`, with a copy of libc of its own beside it, which no other process maps: `libc.so.6`.
    pub fn c_with_own_libc(source: &str, flags: &[&str]) -> Self {
        let program = Self::c(source, &[&["-Wl,-rpath,$ORIGIN"], flags].concat());
        let output = Command::new("gcc").arg("-print-file-name=libc.so.6").output().unwrap();
        let libc = String::from_utf8(output.stdout).unwrap();
        fs::copy(libc.trim_end(), program.folder().join("libc.so.6")).unwrap();
        program
    }

    /// `g++ -g FLAGS`
    pub fn cpp(source: &str, flags: &[&str]) -> Self {
        Self::compiled("g++", "program.cc", source, &[&["-g"], flags].concat())
    }

    /// `musl-gcc -g FLAGS`
    pub fn musl(source: &str, flags: &[&str]) -> Self {
        Self::compiled("musl-gcc", "program.c", source, &[&["-g"], flags].concat())
    }

    /// `rustc -g FLAGS`
    pub fn rust(source: &str, flags: &[&str]) -> Self {
        Self::compiled("rustc", "program.rs", source, &[&["-g"], flags].concat())
    }

    fn compiled(compiler: &str, file: &str, source: &str, flags: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(file), source).unwrap();
        let mut command = Command::new(compiler);
        let output = command.args([file, "-o", "program"]).args(flags).current_dir(folder.path()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let path = folder.path().join("program");
        Self { folder, path }
    }

    /// The executable.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder it is in, for what else a test writes.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The line of the source, from 1, that contains `mark`, which must be one line only.
    pub fn line(&self, mark: &str) -> u32 {
        let file = ["program.c", "program.cc", "program.rs"].map(|name| self.folder().join(name));
        let source = fs::read_to_string(file.iter().find(|file| file.exists()).unwrap()).unwrap();
        let lines: Vec<_> = source.lines().enumerate().filter(|(_, line)| line.contains(mark)).collect();
        assert_eq!(lines.len(), 1, "lines with {mark:?}: {lines:?}");
        lines[0].0 as u32 + 1
    }
}

/// What memprof said in one run.
#[derive(Debug)]
pub struct Run {
    pub status: ExitStatus,
    pub stderr: String,
    pub reports: Vec<Report>,
    /// What a launched command printed.
    pub printed: Vec<String>,
}

impl Run {
    fn of(output: Output) -> Self {
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        let stdout = String::from_utf8(output.stdout).unwrap();
        let (reports, printed): (Vec<_>, Vec<_>) = stdout.lines().partition(|line| line.starts_with("{\"schema\""));
        let reports = reports.into_iter().map(Report::parse).collect();
        let printed = printed.into_iter().map(str::to_owned).collect();
        Self { status: output.status, stderr, reports, printed }
    }

    /// The last report.
    pub fn last(&self) -> &Report {
        self.reports.last().unwrap_or_else(|| panic!("no report; standard error: {}", self.stderr))
    }

    /// The last report, of one process, in which nothing is lost or doubted.
    pub fn exact(&self) -> ProcessReport<'_> {
        let report = self.last();
        assert_eq!(report.lost(), (0, 0, 0), "{:?}", report.warnings());
        assert_eq!(report.warnings(), Vec::<String>::new());
        report.process()
    }

    /// The numbers on a line that the command printed.
    pub fn numbers(&self, line: usize) -> Vec<u64> {
        numbers(&self.printed[line])
    }
}

/// For a ring with room for what a program allocates before memprof knows its code, be that ever so late: until then a copy of the stack, of
/// up to 12 KiB, waits there for each allocation.
pub const ROOM_FOR_COPIES: [&str; 2] = ["--ring-size", "256MiB"];

/// `memprof OPTIONS --format json --top 0 -- COMMAND`, with what the command printed dropped.
pub fn launch(options: &[&str], command: &[impl AsRef<OsStr>]) -> Run {
    let mut memprof = memprof();
    memprof.args(["--format", "json", "--top", "0"]).args(options).arg("--").args(command);
    Run::of(memprof.stdin(Stdio::null()).output().unwrap())
}

/// As [`launch`], not waited for. What is [told](Attached::tell) goes to the command.
pub fn start(options: &[&str], command: &[impl AsRef<OsStr>]) -> Attached {
    let mut memprof = memprof();
    memprof.args(["--format", "json", "--top", "0"]).args(options).arg("--").args(command);
    Attached::of(memprof.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap())
}

/// Copies a program that is to be run. Not by [`std::fs::copy`]: a process that another thread forks meanwhile would have the copy open for
/// writing, and as long as anybody has, nobody can execute it.
pub fn copy_program(from: impl AsRef<OsStr>, to: impl AsRef<OsStr>) {
    assert!(Command::new("cp").arg(from).arg(to).status().unwrap().success());
}

/// The numbers in a text.
pub fn numbers(text: &str) -> Vec<u64> {
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

/// `memprof --pid PID OPTIONS --format json --top 0`, started and not waited for.
pub fn attach(pid: u32, options: &[&str]) -> Attached {
    let mut memprof = memprof();
    memprof.args(["--format", "json", "--top", "0", "--verbose", "--pid", &pid.to_string()]).args(options);
    let processes = 1 + options.iter().filter(|option| **option == "--pid").count();
    Attached { processes, ..Attached::start(&mut memprof) }
}

/// A memprof that runs.
pub struct Attached {
    child: Child,
    processes: usize,
    stdout: BufReader<ChildStdout>,
}

impl Attached {
    /// Starts a memprof that writes JSON.
    pub fn start(memprof: &mut Command) -> Self {
        Self::of(memprof.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    fn of(mut child: Child) -> Self {
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, processes: 1, stdout }
    }

    /// Waits until its probes are in: it says so on standard error.
    pub fn ready(&mut self) {
        self.ready_for(self.processes);
    }

    /// Waits until it has said something on standard error.
    pub fn ready_when(&mut self, said: &str) {
        let mut lines = BufReader::new(self.child.stderr.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.contains(said)), "memprof ended and never said {said:?}");
        std::thread::spawn(move || lines.for_each(drop));
    }

    /// Waits until its probes are in so many processes.
    pub fn ready_for(&mut self, processes: usize) {
        let mut lines = BufReader::new(self.child.stderr.take().unwrap()).lines().map(Result::unwrap);
        let attached = lines.by_ref().filter(|line| line.contains("attached to process")).take(processes).count();
        assert_eq!(attached, processes, "memprof ended before it had attached");
        // Nobody must be stopped by a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
    }

    /// Waits for a line on its standard error that contains this, and returns it. What follows is left there.
    #[allow(clippy::unbuffered_bytes, reason = "what follows the line is for others")]
    pub fn hear(&mut self, text: &str) -> String {
        loop {
            let bytes = self.child.stderr.as_mut().unwrap().bytes().map(Result::unwrap);
            let line = String::from_utf8(bytes.take_while(|byte| *byte != b'\n').collect()).unwrap();
            assert!(!line.is_empty(), "memprof ended without saying {text:?}");
            if line.contains(text) {
                return line;
            }
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Writes a line to the standard input of a launched command.
    pub fn tell(&mut self, line: &str) {
        tell(&mut self.child, line);
    }

    /// Waits for the next report.
    pub fn next_report(&mut self) -> Report {
        let line = self.next_line();
        assert!(!line.is_empty(), "memprof ended without another report");
        Report::parse(&line)
    }

    /// Waits for the next line on standard output, which may be a launched command's. Nothing if there is none.
    pub fn next_line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line
    }

    /// Waits for its end. What it reported before [`Self::next_report`] was last called is not told again.
    pub fn wait(mut self) -> Run {
        let mut stdout = Vec::new();
        self.stdout.read_to_end(&mut stdout).unwrap();
        let output = self.child.wait_with_output().unwrap();
        Run::of(Output { stdout, ..output })
    }

    /// Waits for its end, however it comes.
    pub fn wait_for_end(mut self) {
        self.child.wait().unwrap();
    }

    /// Ctrl-C, and what it said.
    pub fn interrupt(self) -> Run {
        self.signal("INT");
        self.wait()
    }
}

/// A child of any of the process's threads.
pub fn child_of(pid: u32) -> Option<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten();
    let mut children = threads.filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok());
    children.find_map(|children| children.split_whitespace().next()?.parse().ok())
}

/// Runs a memprof that is to refuse: the one line on standard error, after `memprof: `; nothing else was said.
pub fn refusal_of(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().unwrap();
    let message = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{message}");
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "", "{message}");
    let line = message.strip_prefix("memprof: ").and_then(|rest| rest.strip_suffix('\n')).unwrap();
    assert!(!line.contains('\n'), "{message}");
    line.to_owned()
}

/// `kill -NAME PID`
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(status.success(), "kill -{name} {pid}");
}

/// A process of ours that ends with the test, by its pid.
pub struct Target(pub Child);

impl Target {
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().unwrap())
    }

    /// One that can be talked to.
    pub fn piped(program: &Path) -> Self {
        Self::start(Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()))
    }

    /// Writes a line to its standard input.
    pub fn tell(&mut self, line: &str) {
        tell(&mut self.0, line);
    }

    /// The next line that it prints, without its end; what there is of it if the output ends.
    #[allow(clippy::unbuffered_bytes, reason = "what follows the line is for the next call")]
    pub fn hear(&mut self) -> String {
        let stdout = self.0.stdout.as_mut().unwrap();
        let bytes = stdout.bytes().map(Result::unwrap).take_while(|byte| *byte != b'\n').collect();
        String::from_utf8(bytes).unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

fn tell(child: &mut Child, line: &str) {
    writeln!(child.stdin.as_mut().unwrap(), "{line}").unwrap();
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Bytes, by the name of the line in `/proc/PID/status`.
pub fn memory_of(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    numbers(line.trim_start_matches(':'))[0] * 1024
}

/// Waits until `condition` holds.
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < PATIENCE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One JSON report.
#[derive(Clone, Debug)]
pub struct Report(pub Value);

impl Report {
    pub fn parse(line: &str) -> Self {
        Self(serde_json::from_str(line).unwrap())
    }

    /// The only process in it.
    pub fn process(&self) -> ProcessReport<'_> {
        let processes = self.0["processes"].as_array().unwrap();
        assert_eq!(processes.len(), 1);
        ProcessReport(&processes[0])
    }

    /// The process with that pid.
    pub fn process_of(&self, pid: u32) -> ProcessReport<'_> {
        let processes = self.0["processes"].as_array().unwrap();
        ProcessReport(processes.iter().find(|process| process["pid"] == pid).unwrap())
    }

    /// Allocations, frees and stacks lost.
    pub fn lost(&self) -> (u64, u64, u64) {
        let of = |name: &str| self.0["lost"][name].as_u64().unwrap();
        (of("allocations"), of("frees"), of("stacks"))
    }

    pub fn warnings(&self) -> Vec<String> {
        self.0["warnings"].as_array().unwrap().iter().map(|warning| warning.as_str().unwrap().to_owned()).collect()
    }
}

/// One process of a report.
#[derive(Clone, Copy, Debug)]
pub struct ProcessReport<'a>(pub &'a Value);

impl<'a> ProcessReport<'a> {
    /// Bytes and allocations outstanding.
    pub fn outstanding(&self) -> (u64, u64) {
        let of = |name: &str| self.0["outstanding"][name].as_u64().unwrap();
        (of("bytes"), of("allocations"))
    }

    /// Allocations, their bytes, frees, their bytes.
    pub fn totals(&self) -> [u64; 4] {
        ["allocations", "allocated_bytes", "frees", "freed_bytes"].map(|name| self.0["totals"][name].as_u64().unwrap())
    }

    pub fn exited(&self) -> bool {
        self.0["exited"].as_bool().unwrap()
    }

    pub fn command(&self) -> &'a str {
        self.0["command"].as_str().unwrap()
    }

    pub fn stacks(&self) -> Vec<StackReport<'a>> {
        self.0["stacks"].as_array().unwrap().iter().map(StackReport).collect()
    }

    /// The stacks on which a frame has this source (`program.c:12`), as bytes and allocations outstanding, summed.
    pub fn outstanding_at(&self, source: &str) -> (u64, u64) {
        let stacks = self.stacks();
        let there = stacks.iter().filter(|stack| stack.sources().iter().any(|frame| frame.as_deref() == Some(source)));
        there.map(StackReport::outstanding).fold((0, 0), |sum, stack| (sum.0 + stack.0, sum.1 + stack.1))
    }
}

/// One stack of a process.
#[derive(Clone, Copy, Debug)]
pub struct StackReport<'a>(pub &'a Value);

impl StackReport<'_> {
    /// Bytes and allocations outstanding.
    pub fn outstanding(&self) -> (u64, u64) {
        let of = |name: &str| self.0[name].as_u64().unwrap();
        (of("outstanding_bytes"), of("outstanding_allocations"))
    }

    pub fn total_allocations(&self) -> u64 {
        self.0["total_allocations"].as_u64().unwrap()
    }

    /// Function names, from the allocator's caller outwards.
    pub fn functions(&self) -> Vec<Option<String>> {
        self.frames("function")
    }

    /// `file:line`, from the allocator's caller outwards.
    pub fn sources(&self) -> Vec<Option<String>> {
        self.frames("source")
    }

    fn frames(&self, field: &str) -> Vec<Option<String>> {
        let frames = self.0["frames"].as_array().unwrap();
        frames.iter().map(|frame| frame[field].as_str().map(str::to_owned)).collect()
    }
}
