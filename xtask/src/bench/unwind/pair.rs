//! Nanoseconds for a malloc and its free at depth 16, as the program itself sees it: without probes, with empty ones, with memprof.

use std::process::{Command, Stdio};

use anyhow::Result;
use serde::Serialize;

use crate::bench::{
    Arguments,
    builds::{Builds, Variant},
    launched::Launched,
    statistics::median,
    table::{figure, markdown},
};

const DEPTH: &str = "16";
const PAIRS: u64 = 100_000;

/// Nanoseconds a pair, medians.
#[derive(Serialize)]
pub(in crate::bench) struct Figures {
    unprofiled: f64,
    floor: f64,
    no_stack: f64,
    walked: f64,
    memprof: f64,
}

pub(super) fn measure(arguments: &Arguments, builds: &Builds) -> Result<Figures> {
    const VARIANTS: [Option<Variant>; 5] =
        [None, Some(Variant::Empty), Some(Variant::NoStack), Some(Variant::NoMemos), Some(Variant::Full)];
    let mut runs = [const { Vec::new() }; VARIANTS.len()];
    for number in 0..arguments.runs {
        eprint!("\rpair: run {}   ", number + 1);
        for (variant, runs) in VARIANTS.into_iter().zip(&mut runs) {
            runs.push(run(builds, variant, arguments.scaled(PAIRS))?);
        }
    }
    eprintln!();
    let [unprofiled, floor, no_stack, walked, memprof] = runs.map(median);
    let figures = Figures { unprofiled, floor, no_stack, walked, memprof };
    print(&figures);
    Ok(figures)
}

fn run(builds: &Builds, variant: Option<Variant>, pairs: u64) -> Result<f64> {
    let program = builds.program("pair");
    let mut command = match variant {
        None => Command::new(program),
        Some(variant) => {
            let mut command = builds.memprof(variant);
            command.args(["--quiet", "--output", "/dev/null", "--"]).arg(program);
            command
        }
    };
    let mut launched = Launched::start(command.args([DEPTH, &pairs.to_string(), "0", "1"]), Stdio::null())?;
    let work = launched.work()?;
    launched.finish()?;
    Ok(work.elapsed_nanoseconds as f64 / pairs as f64)
}

fn print(figures: &Figures) {
    let Figures { unprofiled, floor, no_stack, walked, memprof } = *figures;
    let named = [
        ("unprofiled", unprofiled),
        ("floor", floor),
        ("memprof without stacks", no_stack),
        ("memprof, every stack walked", walked),
        ("memprof", memprof),
    ];
    let rows = named.map(|(name, value)| [name.to_owned(), figure(value), figure(value / floor)]);
    let head = ["malloc/free pair, depth 16", "ns", "of floor"];
    eprintln!("\n{}\n", markdown(&head, rows));
}
