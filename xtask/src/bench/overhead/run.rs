//! One run of one workload under one tool.

use std::{
    ffi::OsString,
    fs::{self, File},
    path::Path,
    process::Command,
};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{
    following::{self, accounted},
    redis::Redis,
    tools::{Answer, Task, Tool},
    workloads::{Leak, REDIS, Workload},
};
use crate::bench::{
    builds::Builds,
    launched::{Launched, Usage, Work},
};

/// What was measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Run {
    /// For each unit of work.
    pub(super) nanoseconds: f64,
    /// Processor time of the workload's process, for each unit of work.
    pub(super) cpu_nanoseconds: f64,
    /// Processor time of all but the workload's own process.
    pub(super) own_cpu_seconds: f64,
    /// Resident memory of the largest process.
    pub(super) peak_bytes: u64,
    pub(super) kernel_bytes: Option<u64>,
    pub(super) lost: Option<u64>,
    /// See [`Answer::cost_percent`].
    pub(super) estimated_cost_percent: Option<f64>,
    pub(super) leak: Option<Verdict>,
}

/// What a tool said of the known leak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Verdict {
    pub(super) bytes_are_right: bool,
    /// If the tool counts blocks.
    pub(super) blocks_are_right: Option<bool>,
    /// Frames of the stack.
    pub(super) frames: usize,
    /// Frames down to `main`.
    pub(super) frames_there_are: usize,
}

impl Run {
    pub(super) fn of(tool: &dyn Tool, workload: &Workload, builds: &Builds, amount: u64) -> Result<Self> {
        // Of its own: nobody's answer is taken for another's.
        let folder = builds.scratch_folder()?;
        let output = folder.path().join("answer");
        let mut command = workload.command(builds, amount);
        let redis = (workload.name == REDIS).then(|| Redis::new(builds)).transpose()?;
        command.extend(redis.iter().map(|redis| OsString::from(&redis.configuration)));
        let task = Task { builds, workload, command: &command, output: &output };
        let (work, usage, messages) = measure(tool, &task, redis.as_ref(), amount)?;
        let answer = tool.answer(&task, &messages)?;
        let lost = answer.as_ref().and_then(|answer| answer.lost);
        let leak = workload.leak(amount).filter(|_| tool.is_exact());
        Ok(Self {
            nanoseconds: work.elapsed_nanoseconds as f64 / amount as f64,
            cpu_nanoseconds: work.cpu_nanoseconds as f64 / amount as f64,
            own_cpu_seconds: usage.cpu_nanoseconds.saturating_sub(work.cpu_nanoseconds) as f64 / 1e9,
            peak_bytes: usage.peak_bytes,
            kernel_bytes: tool.kernel_bytes(&messages),
            lost,
            estimated_cost_percent: answer.as_ref().and_then(|answer| answer.cost_percent),
            leak: answer.and_then(|answer| Some(Verdict::on(&answer, leak?))),
        })
    }
}

fn measure(tool: &dyn Tool, task: &Task<'_>, redis: Option<&Redis>, amount: u64) -> Result<(Work, Usage, String)> {
    let messages = task.builds.scratch("messages");
    let file = File::create(&messages).context("cannot write a tool's messages")?;
    let mut command = accounted(&tool.command(task)?, task.builds);
    preload(&mut command, tool, task);
    command.stderr(file.try_clone()?);
    let work = |launched: &mut Launched| work(launched, redis, amount);
    let (work, usage) = match tool.attachable() {
        None => following::launch(&mut command, work),
        Some(attachable) => following::attach(&mut command, attachable, task, file, work),
    }
    .with_context(|| first_lines(&messages))?;
    Ok((work, usage, fs::read_to_string(messages).unwrap_or_default()))
}

/// Until it is done.
fn work(launched: &mut Launched, redis: Option<&Redis>, amount: u64) -> Result<Work> {
    let load = redis.map(|redis| redis.load(launched, amount)).transpose()?;
    let mut work = launched.work()?;
    work.elapsed_nanoseconds = load.unwrap_or(work.elapsed_nanoseconds);
    Ok(work)
}

/// What the program itself is to load: our clock, and what the tool is made of.
fn preload(command: &mut Command, tool: &dyn Tool, task: &Task<'_>) {
    let clock = task.builds.program("clock.so");
    let libraries = tool.preloads().map_or_else(
        || clock.clone().into(),
        |library| {
            let mut libraries = OsString::from(library);
            libraries.push(":");
            libraries.push(&clock);
            libraries
        },
    );
    if tool.preloads().is_some() || task.workload.clocked.is_some() {
        command.env("LD_PRELOAD", libraries);
    }
    command.env("BENCH_CLOCK", task.workload.clocked.unwrap_or_default()).env("PYTHONMALLOC", "malloc");
}

fn first_lines(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().take(5).collect::<Vec<_>>().join("\n")
}

impl Verdict {
    /// The stack that comes nearest is taken for the leak's.
    fn on(answer: &Answer, leak: Leak) -> Self {
        let found = answer.stacks.iter().min_by_key(|found| found.bytes.abs_diff(leak.bytes));
        Self {
            bytes_are_right: found.is_some_and(|found| found.bytes == leak.bytes),
            blocks_are_right: found.and_then(|found| Some(found.blocks? == leak.blocks)),
            frames: found.map_or(0, |found| found.frames),
            frames_there_are: leak.frames,
        }
    }

    pub(super) fn has_whole_stack(self) -> bool {
        self.frames >= self.frames_there_are
    }
}

#[cfg(test)]
mod tests {
    use super::{super::tools::Found, *};

    #[test]
    fn the_leak_is_what_comes_nearest() {
        let leak = Leak { bytes: 700, blocks: 7, frames: 13 };
        let of = |bytes, blocks, frames| Found { bytes, blocks, frames };
        let answer = Answer { stacks: vec![of(1, Some(1), 20), of(700, Some(7), 13)], lost: None, cost_percent: None };
        let right = Verdict { bytes_are_right: true, blocks_are_right: Some(true), frames: 13, frames_there_are: 13 };
        assert_eq!(Verdict::on(&answer, leak), right);
        assert!(right.has_whole_stack());
        let answer = Answer { stacks: vec![of(600, None, 1)], lost: None, cost_percent: None };
        let wrong = Verdict { bytes_are_right: false, blocks_are_right: None, frames: 1, frames_there_are: 13 };
        assert_eq!(Verdict::on(&answer, leak), wrong);
        assert!(!wrong.has_whole_stack());
    }
}
