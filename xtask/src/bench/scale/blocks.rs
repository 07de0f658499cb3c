//! Many live blocks, and many pairs of calls a second.

use std::{process::Command, time::Duration};

use anyhow::Result;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{
    target::{Done, Target},
    watching::Watching,
};
use crate::bench::{
    Arguments,
    builds::Builds,
    table::{figure, markdown, time},
};

/// Live blocks, if no other number is asked for.
const BLOCKS: u64 = 10_000_000;
/// As `xtask/bench/scale.c` has it.
const BLOCK_SIZE: u64 = 48;
/// As good as none.
const FEW_BLOCKS: u64 = 1_000;
const THREADS: u64 = 2;
/// How long each kind of load lasts.
const SECONDS: u64 = 60;
/// Pairs a second for which the load on memprof is worked out.
const GOAL: f64 = 500_000.0;

#[derive(Serialize)]
pub(in crate::bench) struct Figures {
    live_blocks: u64,
    /// Resident memory at its peak, less that of a run with hardly any live block, for each.
    bytes_for_each_block: f64,
    loads: Vec<Load>,
    /// Of all formats, while old blocks are replaced.
    reports: Vec<Reporting>,
    /// Events lost, by cause, in all.
    lost: Map<String, Value>,
    /// Whether every figure of the last report was that of the program itself.
    is_right: bool,
}

/// One kind of work.
#[derive(Serialize)]
struct Load {
    name: &'static str,
    unit: &'static str,
    each_second: f64,
    /// memprof's own.
    cpu_nanoseconds_each: f64,
    /// Of one processor.
    cpu_share: f64,
    /// If there were 500,000 a second.
    cpu_share_at_goal: f64,
    /// From asking for it until it was there, while the load went on.
    report_seconds: f64,
}

/// One format.
#[derive(Serialize)]
struct Reporting {
    format: &'static str,
    /// From asking for a report until it was there.
    seconds: f64,
}

pub(super) fn measure(arguments: &Arguments, builds: &Builds) -> Result<Figures> {
    let blocks = arguments.blocks.unwrap_or_else(|| arguments.scaled(BLOCKS)) / THREADS * THREADS;
    let seconds = arguments.scaled(SECONDS);
    eprintln!("scale: {FEW_BLOCKS} live blocks");
    let (_, few_bytes) = run(builds, FEW_BLOCKS, seconds.min(5))?;
    eprintln!("scale: {blocks} live blocks, some minutes");
    let (mut figures, bytes) = run(builds, blocks, seconds)?;
    figures.bytes_for_each_block = bytes.saturating_sub(few_bytes) as f64 / blocks as f64;
    let folder = builds.scratch_folder()?;
    let profile = folder.path().join("report.pb.gz").display().to_string();
    let of_json = figures.loads.last().map(|replace| Reporting { format: "JSON", seconds: replace.report_seconds });
    let others = [("text", vec!["--format", "text"]), ("profile", vec!["--output", &profile, "--output", "-"])];
    let others = others.into_iter().map(|(format, output)| reporting(builds, blocks, format, &output));
    figures.reports = of_json.map(Ok).into_iter().chain(others).collect::<Result<_>>()?;
    print(&figures);
    Ok(figures)
}

/// Also tells memprof's peak memory.
fn run(builds: &Builds, blocks: u64, seconds: u64) -> Result<(Figures, u64)> {
    let mut target = start(builds, blocks)?;
    let mut memprof = Watching::start(builds.product(), target.pid())?;
    let fill = load(&mut memprof, &mut target, ["fill", "live block", "fill"], 0)?;
    let pairs = load(&mut memprof, &mut target, ["pairs", "malloc and free at once", "pairs"], seconds)?;
    let replace = load(&mut memprof, &mut target, ["replace", "free of an old block, and malloc", "replace"], seconds)?;
    let (report, _) = memprof.report()?;
    let done = [fill.1, pairs.1, replace.1].map(|done| done.count);
    let figures = Figures {
        live_blocks: blocks,
        bytes_for_each_block: f64::NAN,
        is_right: is_right(&report, done),
        lost: report["lost"]["causes"].as_object().cloned().unwrap_or_default(),
        loads: vec![fill.0, pairs.0, replace.0],
        reports: Vec::new(),
    };
    Ok((figures, memprof.peak_bytes()?))
}

/// Has blocks made, and then replaced for some seconds, in the middle of which memprof is to report.
fn reporting(builds: &Builds, blocks: u64, format: &'static str, output: &[&str]) -> Result<Reporting> {
    const SECONDS: u64 = 10;
    eprintln!("scale: {blocks} live blocks, reported as {format}");
    let mut target = start(builds, blocks)?;
    let mut memprof = Watching::start_with(builds.product(), target.pid(), output)?;
    target.tell("fill 0")?;
    target.done()?;
    target.tell(&format!("replace {SECONDS}"))?;
    std::thread::sleep(Duration::from_secs(SECONDS / 2));
    let (_, took) = memprof.first_line_of_report()?;
    target.done()?;
    Ok(Reporting { format, seconds: took.as_secs_f64() })
}

fn start(builds: &Builds, blocks: u64) -> Result<Target> {
    let mut program = Command::new(builds.program("scale"));
    Target::start(program.args([blocks.to_string(), THREADS.to_string()]))
}

fn load(
    memprof: &mut Watching,
    target: &mut Target,
    [name, unit, command]: [&'static str; 3],
    seconds: u64,
) -> Result<(Load, Done)> {
    let before = memprof.cpu()?;
    target.tell(&format!("{command} {seconds}"))?;
    std::thread::sleep(Duration::from_secs(seconds / 2));
    let (_, report) = memprof.report()?;
    let done = target.done()?;
    // What it still has to take in is part of what it has to do.
    memprof.report()?;
    let cpu = (memprof.cpu()? - before).as_secs_f64();
    let each = cpu / done.count as f64;
    let load = Load {
        name,
        unit,
        each_second: done.rate(),
        cpu_nanoseconds_each: each * 1e9,
        cpu_share: cpu / done.elapsed.as_secs_f64(),
        cpu_share_at_goal: each * GOAL,
        report_seconds: report.as_secs_f64(),
    };
    Ok((load, done))
}

/// What libc allocates for each thread comes on top.
const OTHER_ALLOCATIONS: u64 = 100;

/// Whether a report says what the program did.
fn is_right(report: &Value, [filled, pairs, replaced]: [u64; 3]) -> bool {
    let process = &report["processes"][0];
    let number = |object: &str, name: &str| process[object][name].as_u64().unwrap_or_default();
    let (allocations, frees) = (number("totals", "allocations"), number("totals", "frees"));
    let done = filled + pairs + replaced;
    (done..done + OTHER_ALLOCATIONS).contains(&allocations)
        && allocations - frees == number("outstanding", "allocations")
        && held(&process["stacks"]) == (filled, filled * BLOCK_SIZE)
}

/// Blocks and bytes that the program's own functions hold.
fn held(stacks: &Value) -> (u64, u64) {
    let is_own = |frame: &Value| ["fill", "replace"].iter().any(|function| frame["function"] == *function);
    let stacks = stacks.as_array().into_iter().flatten();
    let own = stacks.filter(|stack| stack["frames"].as_array().is_some_and(|frames| frames.iter().any(is_own)));
    let number = |stack: &Value, name: &str| stack[name].as_u64().unwrap_or_default();
    own.fold((0, 0), |(blocks, bytes), stack| {
        (blocks + number(stack, "outstanding_allocations"), bytes + number(stack, "outstanding_bytes"))
    })
}

fn print(figures: &Figures) {
    let row = |load: &Load| {
        [
            load.name.to_owned(),
            figure(load.each_second),
            time(load.cpu_nanoseconds_each),
            figure(load.cpu_share * 100.0),
            figure(load.cpu_share_at_goal * 100.0),
            time(load.report_seconds * 1e9),
        ]
    };
    let head = ["load", "each second", "own CPU each", "own CPU, %", "at 500,000 a second, %", "time to report"];
    eprintln!("\n{}\n", markdown(&head, figures.loads.iter().map(row)));
    let reports = figures.reports.iter().map(|report| [report.format.to_owned(), time(report.seconds * 1e9)]);
    eprintln!("{}\n", markdown(&["report", "time"], reports));
    let Figures { live_blocks, bytes_for_each_block, lost, is_right, .. } = figures;
    let lost: u64 = lost.values().filter_map(Value::as_u64).sum();
    let verdict = if *is_right { "right" } else { "WRONG" };
    let bytes = figure(*bytes_for_each_block);
    eprintln!("{live_blocks} live blocks: {bytes} bytes each, {lost} events lost, figures {verdict}\n");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_is_right_if_it_has_all_that_the_program_did() {
        let stack = |function, blocks| json!({"frames": [{"function": function}, {}], "outstanding_allocations": blocks, "outstanding_bytes": 48 * blocks});
        let report = |held: u64| {
            json!({"processes": [{
                "totals": {"allocations": 62, "frees": 50},
                "outstanding": {"allocations": 12},
                "stacks": [stack("fill", 4), stack("replace", held), stack("pthread_create", 2)],
            }]})
        };
        assert!(is_right(&report(6), [10, 30, 20]));
        assert!(!is_right(&report(5), [10, 30, 20]));
        assert!(!is_right(&report(6), [10, 33, 20]));
    }
}
