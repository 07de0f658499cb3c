//! gdb as the judge of stacks: what it records of a process, and how that is compared with what memprof reports.
#![allow(unreachable_pub, missing_docs, reason = "this is no interface")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

use std::{
    collections::HashMap,
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::fs::FileExt as _,
    process::{Child, ChildStdout, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{ProcessReport, StackReport, Target, attach, wait_until};

/// memprof keeps no more frames.
const MAX_FRAMES: usize = 127;

/// Path of a mapped object and offset in its file, or an address: of each frame, from the allocator's caller outwards.
pub type Stack = Vec<(Option<String>, u64)>;

/// A program that waits for its standard input before it does what is to be observed. It runs without address space
/// randomization, since some programs hash addresses, and with few variables: every run is the same.
pub struct Case {
    pub command: Vec<String>,
    pub environment: Vec<(&'static str, &'static str)>,
    pub input: &'static str,
}

impl Case {
    pub fn new(command: &[&str]) -> Self {
        let environment = vec![("PATH", "/usr/bin:/bin"), ("LC_ALL", "C")];
        Self { command: command.iter().map(|word| (*word).into()).collect(), environment, input: "\n" }
    }

    pub fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.environment.push((name, value));
        self
    }

    pub fn input(self, input: &'static str) -> Self {
        Self { input, ..self }
    }

    /// Starts it, up to where it waits.
    pub fn start(&self) -> Target {
        let mut command = Command::new("setarch");
        command.arg("--addr-no-randomize").args(&self.command).env_clear().envs(self.environment.iter().copied());
        let target = Target::start(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()));
        let call = format!("/proc/{}/syscall", target.pid());
        wait_until("the program reads", || fs::read_to_string(&call).is_ok_and(|call| call.starts_with("0 0x0 ")));
        target
    }

    /// Lets it go on.
    pub fn release(&self, target: &mut Target) {
        let mut input = target.0.stdin.take().unwrap();
        input.write_all(self.input.as_bytes()).unwrap();
    }

    /// Compares all its stacks, in two runs, since memprof's return probes hide return addresses from gdb while the
    /// allocator runs. At least `least` allocations must be compared.
    ///
    /// `free` does nothing in either run, so that every block is in memprof's last report, except those that `realloc`
    /// takes.
    pub fn check(&self, name: &str, least: u64) {
        let mut target = self.start();
        let gdb = Gdb::attach(target.pid(), What::Allocations);
        self.release(&mut target);
        let recorded = gdb.wait();
        let expected = recorded.stacks();
        let mut target = self.start();
        let mut memprof = attach(target.pid(), &["--interval", "1h"]);
        memprof.ready();
        recorded.make_free_do_nothing(target.pid());
        self.release(&mut target);
        let run = memprof.wait();
        compare(name, &expected, &run.exact(), least);
    }
}

/// Every stack that memprof reports is one of gdb's, and as often.
fn compare(name: &str, expected: &HashMap<Stack, u64>, process: &ProcessReport<'_>, least: u64) {
    let [allocations, _, reallocated, _] = process.totals();
    assert_eq!(allocations, expected.values().sum::<u64>(), "{name}: gdb and memprof saw different runs");
    let mut compared = 0;
    for stack in process.stacks() {
        let frames = frames(&stack);
        assert_eq!(expected.get(&frames), Some(&stack.total_allocations()), "{name}: {frames:?}");
        assert_eq!(truncated(&stack), (frames.len() > MAX_FRAMES).then_some("more than 127 frames"), "{name}");
        compared += stack.total_allocations();
    }
    let depth = expected.keys().map(Vec::len).max().unwrap_or(0);
    eprintln!(
        "{name}: {compared} of {allocations} allocations compared and equal, on {} of {} stacks of up to {depth} frames",
        process.stacks().len(),
        expected.len()
    );
    assert!(allocations - compared <= reallocated, "{name}: {} are missing", allocations - compared);
    assert!(compared >= least, "{name}: only {compared} were compared");
}

/// The physical frames of a stack of memprof's. One that is deeper than what is kept has one more, which stands for all.
pub fn frames(stack: &StackReport<'_>) -> Stack {
    let frames = stack.0["frames"].as_array().unwrap().iter().filter(|frame| frame["inlined"] == false);
    let mut frames: Stack = frames.map(frame).collect();
    if truncated(stack).is_some() && frames.len() == MAX_FRAMES {
        frames.push(DEEPER);
    }
    frames
}

const DEEPER: (Option<String>, u64) = (None, 0);

fn frame(frame: &Value) -> (Option<String>, u64) {
    let module = frame["module"].as_str().map(str::to_owned);
    (module, number(&frame["offset"]).or_else(|| number(&frame["address"])).unwrap())
}

/// As memprof writes addresses.
pub fn number(value: &Value) -> Option<u64> {
    Some(u64::from_str_radix(value.as_str()?.strip_prefix("0x")?, 16).unwrap())
}

fn truncated<'a>(stack: &StackReport<'a>) -> Option<&'a str> {
    stack.0["truncated"].as_str()
}

/// What gdb records.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Calls of allocator functions.
    Allocations,
    /// Calls of a function `mark(pointer)`.
    Marks,
}

/// A gdb that records the stacks of a process.
pub struct Gdb {
    child: Child,
    stdout: BufReader<ChildStdout>,
    folder: TempDir,
}

impl Gdb {
    /// Returns when the process is to go on.
    pub fn attach(pid: u32, what: What) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("stacks.py");
        fs::write(&script, include_str!("stacks.py")).unwrap();
        let mark = if what == What::Marks { "True" } else { "False" };
        let parameters = format!("python OUTPUT, MARK = {:?}, {mark}", folder.path().join("stacks.json"));
        let mut gdb = Command::new("gdb");
        gdb.args(["-nx", "-batch", "-iex", "set debuginfod enabled off", "-ex", &parameters, "-x"]).arg(script);
        gdb.args(["-p", &pid.to_string()]);
        let mut child = gdb.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let ready = stdout.by_ref().lines().map(Result::unwrap).any(|line| line == "ready");
        assert!(ready, "gdb ended");
        Self { child, stdout, folder }
    }

    /// Waits for the end of the process.
    pub fn wait(mut self) -> Recorded {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success(), "{rest}");
        let json = fs::read(self.folder.path().join("stacks.json")).unwrap_or_else(|_| panic!("{rest}"));
        let recorded = Recorded(serde_json::from_slice(&json).unwrap());
        assert_eq!(recorded.0["ends"], serde_json::json!([]), "gdb could not follow stacks");
        recorded
    }
}

/// What gdb recorded.
pub struct Recorded(Value);

impl Recorded {
    /// How often each stack allocated.
    fn stacks(&self) -> HashMap<Stack, u64> {
        let mut counts = HashMap::new();
        for entry in self.0["stacks"].as_array().unwrap() {
            let mut stack = places(&entry[1]);
            if stack.len() > MAX_FRAMES {
                stack.truncate(MAX_FRAMES);
                stack.push(DEEPER);
            }
            *counts.entry(stack).or_default() += entry[0].as_u64().unwrap();
        }
        counts
    }

    /// The pointers that were marked, each with the stack of the caller.
    pub fn marked(&self) -> Vec<(u64, Stack)> {
        let marked = self.0["marked"].as_array().unwrap().iter();
        marked.map(|entry| (entry[0].as_u64().unwrap(), places(&entry[1]))).collect()
    }

    /// Writes `ret` where it begins, as gdb did. The addresses are the same in every run.
    fn make_free_do_nothing(&self, pid: u32) {
        let memory = fs::OpenOptions::new().write(true).open(format!("/proc/{pid}/mem")).unwrap();
        memory.write_all_at(&[0xc3], self.0["free"].as_u64().unwrap()).unwrap();
    }
}

fn places(stack: &Value) -> Stack {
    let place = |place: &Value| (place[0].as_str().map(str::to_owned), place[1].as_u64().unwrap());
    stack.as_array().unwrap().iter().map(place).collect()
}
