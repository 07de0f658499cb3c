//! `cargo xtask bench`: what memprof costs, beside what other tools cost, and what its parts cost. One command, one run, a table on
//! the terminal and JSON.

mod bpf;
mod builds;
mod catalogue;
mod growth;
mod launched;
mod machine;
mod overhead;
mod scale;
mod statistics;
mod table;
mod unwind;

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use serde::Serialize;

use self::{builds::Builds, machine::Machine};
use crate::process::{self, is_root, privileged};

#[derive(Clone, clap::Args)]
pub(crate) struct Arguments {
    /// What to measure [default: all]
    parts: Vec<Part>,
    /// How often each figure is measured; the median counts
    #[arg(long, value_name = "N", default_value_t = 7)]
    runs: usize,
    /// Only the rows and columns of these names, with commas between them
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    only: Vec<String>,
    /// More or less work in each run
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    work: f64,
    /// Live blocks of the part `scale` [default: ten million]
    #[arg(long, value_name = "N")]
    blocks: Option<u64>,
    /// Also write what was measured to a file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Everything is built
    #[arg(long, hide = true)]
    built: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// What capturing a stack costs
    Unwind,
    /// What it costs a program to be watched, by memprof and by other tools
    Overhead,
    /// What it costs memprof where there is much of everything: live blocks, calls, libraries
    Scale,
    /// What it costs when `memprof growth` watches page faults
    Growth,
}

/// What was measured, as it is written to a file.
#[derive(Serialize)]
struct Results {
    machine: Machine,
    runs: usize,
    work: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    unwind: Option<unwind::Figures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    overhead: Option<overhead::Figures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scale: Option<scale::Figures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    growth: Option<Vec<growth::Figures>>,
}

/// Builds as whoever asks, then measures as root.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if !arguments.built {
        builds::build_all()?;
    }
    if is_root()? { measure(arguments) } else { run_again_as_root() }
}

fn run_again_as_root() -> Result<()> {
    let program = std::env::current_exe().context("cannot find the path of xtask")?;
    process::run(privileged(program)?.args(std::env::args_os().skip(1)).arg("--built"))
}

fn measure(arguments: &Arguments) -> Result<()> {
    let builds = Builds::find();
    let machine = Machine::this()?;
    eprintln!("\n{machine}");
    let wants = |part| arguments.parts.is_empty() || arguments.parts.contains(&part);
    let unwind = wants(Part::Unwind).then(|| unwind::measure(arguments, &builds)).transpose()?;
    let overhead = wants(Part::Overhead).then(|| overhead::measure(arguments, &builds)).transpose()?;
    let scale = wants(Part::Scale).then(|| scale::measure(arguments, &builds)).transpose()?;
    let growth = wants(Part::Growth).then(|| growth::measure(arguments, &builds)).transpose()?;
    let results = Results { machine, runs: arguments.runs, work: arguments.work, unwind, overhead, scale, growth };
    if let Some(path) = &arguments.json {
        let text = serde_json::to_string_pretty(&results).context("cannot write JSON")?;
        fs::write(path, text + "\n").with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

impl Arguments {
    /// Whether a row or column of this name is wanted, among `all` that there are of its kind.
    fn wants(&self, name: &str, all: &[&str]) -> bool {
        !self.only.iter().any(|only| all.contains(&only.as_str())) || self.only.iter().any(|only| only == name)
    }

    /// As many as `standard`, or more or fewer as is asked for.
    fn scaled(&self, standard: u64) -> u64 {
        (standard as f64 * self.work).max(1.0) as u64
    }
}
