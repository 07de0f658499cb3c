//! Nanoseconds for each captured stack that is as it was before, that memprof walks, and that the kernel walks by frame pointers: the run
//! time of the return program, less that of the same program without stacks.

use std::process::Stdio;

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

use crate::bench::{
    Arguments,
    bpf::{self, Measuring},
    builds::{Builds, Variant},
    launched::Launched,
    statistics::median,
    table::{figure, markdown},
};

const DEPTHS: [u32; 3] = [6, 16, 64];
const PROGRAMS: [(&str, bool); 2] = [("pair", false), ("pair-with-frame-pointers", true)];
const VARIANTS: [Variant; 4] = [Variant::NoStack, Variant::Full, Variant::NoMemos, Variant::KernelWalk];
const STACKS: u64 = 100_000;

/// Of one program at one depth; nanoseconds for each stack, medians.
#[derive(Serialize)]
pub(in crate::bench) struct Figures {
    depth: u32,
    frame_pointers: bool,
    memprof: f64,
    /// If every stack is walked.
    walked: f64,
    /// Frames in the report.
    memprof_frames: usize,
    kernel_walk: f64,
    kernel_walk_frames: usize,
    /// Of the whole return program.
    program: f64,
}

/// Of one run.
struct Run {
    nanoseconds: f64,
    frames: usize,
}

pub(super) fn measure(arguments: &Arguments, builds: &Builds) -> Result<Vec<Figures>> {
    let _measuring = Measuring::start()?;
    let mut figures = Vec::new();
    for depth in DEPTHS {
        for (program, frame_pointers) in PROGRAMS {
            let runs = runs(arguments, builds, program, depth)?;
            figures.push(Figures::of(depth, frame_pointers, &runs));
        }
    }
    print(&figures);
    Ok(figures)
}

/// Of each variant as many as were asked for, one variant after the other.
fn runs(arguments: &Arguments, builds: &Builds, program: &str, depth: u32) -> Result<[Vec<Run>; VARIANTS.len()]> {
    let mut runs = [const { Vec::new() }; VARIANTS.len()];
    for number in 0..arguments.runs {
        eprint!("\rstacks: {program}, depth {depth}, run {}   ", number + 1);
        for (variant, runs) in VARIANTS.into_iter().zip(&mut runs) {
            runs.push(run(builds, variant, program, depth, arguments.scaled(STACKS))?);
        }
    }
    eprintln!();
    Ok(runs)
}

fn run(builds: &Builds, variant: Variant, program: &str, depth: u32, stacks: u64) -> Result<Run> {
    let report = builds.scratch("stacks.json");
    let mut command = builds.memprof(variant);
    command.args(["--quiet", "--format", "json", "--top", "0", "--output"]).arg(&report).arg("--");
    command.arg(builds.program(program)).args([&depth.to_string(), &stacks.to_string(), "0", "1"]);
    let mut launched = Launched::start(&mut command, Stdio::piped())?;
    launched.work()?;
    let programs = bpf::programs_of(launched.pid())?;
    launched.finish()?;
    let returns = programs.get("return_pointer").context("memprof has no program `return_pointer`")?;
    let report = std::fs::read_to_string(&report).context("cannot read memprof's report")?;
    Ok(Run { nanoseconds: returns.mean(), frames: frames_of_leak(&serde_json::from_str(&report)?) })
}

/// How deep the stack is that the program has left blocks at.
fn frames_of_leak(report: &Value) -> usize {
    let stacks = report["processes"][0]["stacks"].as_array();
    let largest = stacks.and_then(|stacks| stacks.iter().max_by_key(|stack| stack["outstanding_bytes"].as_u64()));
    largest.and_then(|stack| stack["frames"].as_array()).map_or(0, Vec::len)
}

impl Figures {
    fn of(
        depth: u32,
        frame_pointers: bool,
        [no_stack, full, no_memos, kernel_walk]: &[Vec<Run>; VARIANTS.len()],
    ) -> Self {
        let nanoseconds = |runs: &[Run]| median(runs.iter().map(|run| run.nanoseconds));
        let frames = |runs: &[Run]| runs.last().map_or(0, |run| run.frames);
        Self {
            depth,
            frame_pointers,
            memprof: nanoseconds(full) - nanoseconds(no_stack),
            walked: nanoseconds(no_memos) - nanoseconds(no_stack),
            memprof_frames: frames(full),
            kernel_walk: nanoseconds(kernel_walk) - nanoseconds(no_stack),
            kernel_walk_frames: frames(kernel_walk),
            program: nanoseconds(full),
        }
    }
}

fn print(figures: &[Figures]) {
    let head = [
        "depth",
        "frame pointers",
        "memprof, ns",
        "if walked, ns",
        "frames",
        "kernel's walk, ns",
        "frames",
        "ratio",
        "return program, ns",
    ];
    let rows = figures.iter().map(|figures| {
        [
            figures.depth.to_string(),
            if figures.frame_pointers { "yes" } else { "no" }.to_owned(),
            figure(figures.memprof),
            figure(figures.walked),
            figures.memprof_frames.to_string(),
            figure(figures.kernel_walk),
            figures.kernel_walk_frames.to_string(),
            figure(figures.memprof / figures.kernel_walk),
            figure(figures.program),
        ]
    });
    eprintln!("\nFor each captured stack:\n{}\n", markdown(&head, rows));
}
