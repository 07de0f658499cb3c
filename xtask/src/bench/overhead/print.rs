//! The tables.

use super::{Figures, OfTool, OfWorkload, Verdict, tools};
use crate::bench::table::{figure, markdown, time};

const MEBIBYTE: f64 = (1 << 20) as f64;
const NONE: &str = "–";

/// All of one workload.
pub(super) fn details(workload: &OfWorkload) {
    let head = [
        "tool",
        "time",
        "of unprofiled",
        "of floor",
        "cost, % of CPU time",
        "by its own estimate",
        "own CPU, s",
        "peak RSS, MiB",
        "kernel, MiB",
        "lost",
        "known leak",
        "stack",
    ];
    let rows = workload.tools.iter().map(|tool| {
        [
            tool.name.to_owned(),
            time(tool.nanoseconds),
            figure(tool.of_unprofiled),
            figure(tool.of_floor),
            percent(tool.cost_percent),
            tool.estimated_cost_percent.map_or(NONE.to_owned(), percent),
            figure(tool.own_cpu_seconds),
            figure(tool.peak_bytes / MEBIBYTE),
            tool.kernel_bytes.map_or(NONE.to_owned(), |bytes| figure(bytes as f64 / MEBIBYTE)),
            tool.lost.map_or(NONE.to_owned(), |lost| lost.to_string()),
            tool.leak.map_or(NONE.to_owned(), |leak| amounts(leak).to_owned()),
            tool.leak.map_or(NONE.to_owned(), stack),
        ]
    });
    eprintln!("\n{}: for each {}\n{}\n", workload.name, workload.unit, markdown(&head, rows));
}

/// With one digit behind the point: of shares near the whole, the first two say little.
fn percent(value: f64) -> String {
    if value.is_finite() { format!("{value:.1}") } else { NONE.to_owned() }
}

fn amounts(leak: Verdict) -> &'static str {
    match (leak.bytes_are_right, leak.blocks_are_right) {
        (true, Some(true)) => "right",
        (true, None) => "bytes right, blocks unknown",
        (true, Some(false)) => "bytes right, blocks wrong",
        (false, _) => "wrong",
    }
}

fn stack(leak: Verdict) -> String {
    if leak.has_whole_stack() {
        "whole".to_owned()
    } else {
        format!("{} of {} frames", leak.frames, leak.frames_there_are)
    }
}

/// All workloads and tools: times, and what they are of the floor.
pub(super) fn summary(figures: &Figures) {
    let names: Vec<&str> = tools::ALL.map(|tool| tool.name()).into_iter().filter(|name| has(figures, name)).collect();
    let table = |title: &str, value: fn(&OfTool) -> f64, show: fn(f64) -> String| {
        let head: Vec<&str> = [title].into_iter().chain(names.iter().copied()).collect();
        let rows = figures.workloads.iter().map(|workload| {
            let values = names.iter().map(|name| workload.tool(name).map_or(f64::NAN, value));
            [workload.name.to_owned()].into_iter().chain(values.map(show)).collect::<Vec<_>>()
        });
        eprintln!("\n{}\n", markdown(&head, rows));
    };
    table("time", |tool| tool.nanoseconds, time);
    table("of unprofiled", |tool| tool.of_unprofiled, figure);
    table("of floor", |tool| tool.of_floor, figure);
}

fn has(figures: &Figures, name: &str) -> bool {
    figures.workloads.iter().any(|workload| workload.tool(name).is_some())
}
