//! What it costs a program to be watched, by memprof and by others, and whether they saw right.

mod following;
mod print;
mod redis;
mod run;
mod tools;
mod workloads;

use anyhow::Result;
use serde::Serialize;

use self::{
    run::{Run, Verdict},
    tools::{FLOOR, Tool, UNPROFILED},
    workloads::Workload,
};
use super::{Arguments, builds::Builds, statistics::median};

/// Runs longer than this are made less often: once for so many of the others.
const LONG_RUN_SECONDS: f64 = 10.0;
const RUNS_FOR_ONE_LONG: usize = 3;

/// All workloads that were run.
#[derive(Serialize)]
pub(super) struct Figures {
    workloads: Vec<OfWorkload>,
}

#[derive(Serialize)]
struct OfWorkload {
    name: &'static str,
    unit: &'static str,
    tools: Vec<OfTool>,
}

/// Of one tool on one workload.
#[derive(Serialize)]
struct OfTool {
    name: &'static str,
    /// Units of work in each run.
    amount: u64,
    /// For each unit of work; the median.
    nanoseconds: f64,
    of_unprofiled: f64,
    of_floor: f64,
    own_cpu_seconds: f64,
    peak_bytes: f64,
    kernel_bytes: Option<u64>,
    /// In all runs together.
    lost: Option<u64>,
    /// Processor time of the workload's process, for each unit of work; the median.
    cpu_nanoseconds: f64,
    /// How much of that the unprofiled program does not need.
    cost_percent: f64,
    /// What the tool itself takes that for; the median.
    estimated_cost_percent: Option<f64>,
    /// Of the last run.
    leak: Option<Verdict>,
    runs: Vec<Run>,
}

pub(super) fn measure(arguments: &Arguments, builds: &Builds) -> Result<Figures> {
    let names = tools::ALL.map(Tool::name);
    let is_wanted =
        |tool: &&dyn Tool| [UNPROFILED, FLOOR].contains(&tool.name()) || arguments.wants(tool.name(), &names);
    let tools: Vec<&dyn Tool> = tools::ALL.into_iter().filter(is_wanted).filter(|tool| tool.is_here(builds)).collect();
    let names = workloads::ALL.map(|workload| workload.name);
    let mut figures = Figures { workloads: Vec::new() };
    for workload in
        workloads::ALL.iter().filter(|workload| arguments.wants(workload.name, &names) && workload.is_here(builds))
    {
        let of_workload = measure_workload(workload, &tools, arguments, builds)?;
        print::details(&of_workload);
        figures.workloads.push(of_workload);
    }
    print::summary(&figures);
    Ok(figures)
}

fn measure_workload(
    workload: &Workload,
    tools: &[&'static dyn Tool],
    arguments: &Arguments,
    builds: &Builds,
) -> Result<OfWorkload> {
    let tools: Vec<_> = tools.iter().filter(|tool| tool.can(workload)).collect();
    let amounts: Vec<u64> = tools.iter().map(|tool| amount(**tool, workload, arguments)).collect();
    let mut runs: Vec<Vec<Run>> = tools.iter().map(|_| Vec::new()).collect();
    for number in 0..arguments.runs {
        for ((tool, runs), &amount) in tools.iter().zip(&mut runs).zip(&amounts) {
            if number % RUNS_FOR_ONE_LONG != 0 && was_long(runs, amount) {
                continue;
            }
            eprint!("\r{}: run {}, {:<12}", workload.name, number + 1, tool.name());
            match Run::of(**tool, workload, builds, amount) {
                Ok(run) => runs.push(run),
                Err(error) => eprintln!("\n{} on {}: {error:#}", tool.name(), workload.name),
            }
        }
    }
    eprintln!();
    let measured = tools.iter().zip(runs).zip(amounts).filter(|((_, runs), _)| !runs.is_empty());
    let tools = measured.map(|((tool, runs), amount)| OfTool::new(tool.name(), amount, runs)).collect();
    Ok(OfWorkload { name: workload.name, unit: workload.unit, tools }.with_ratios())
}

/// Slow tools get less to do where that changes nothing but the time.
fn amount(tool: &dyn Tool, workload: &Workload, arguments: &Arguments) -> u64 {
    let part = if workload.divisible { tool.slowness() } else { 1 };
    arguments.scaled(workload.amount / part)
}

fn was_long(runs: &[Run], amount: u64) -> bool {
    runs.last().is_some_and(|run| run.nanoseconds * amount as f64 / 1e9 > LONG_RUN_SECONDS)
}

impl OfTool {
    fn new(name: &'static str, amount: u64, runs: Vec<Run>) -> Self {
        let last = runs.last().copied();
        Self {
            name,
            amount,
            nanoseconds: median(runs.iter().map(|run| run.nanoseconds)),
            of_unprofiled: f64::NAN,
            of_floor: f64::NAN,
            own_cpu_seconds: median(runs.iter().map(|run| run.own_cpu_seconds)),
            peak_bytes: median(runs.iter().map(|run| run.peak_bytes as f64)),
            kernel_bytes: last.and_then(|run| run.kernel_bytes),
            lost: runs.iter().map(|run| run.lost).sum(),
            cpu_nanoseconds: median(runs.iter().map(|run| run.cpu_nanoseconds)),
            cost_percent: f64::NAN,
            estimated_cost_percent: last
                .and_then(|run| run.estimated_cost_percent)
                .map(|_| median(runs.iter().filter_map(|run| run.estimated_cost_percent))),
            leak: last.and_then(|run| run.leak),
            runs,
        }
    }
}

impl OfWorkload {
    fn with_ratios(mut self) -> Self {
        let nanoseconds = |name| self.tool(name).map_or(f64::NAN, |tool| tool.nanoseconds);
        let (unprofiled, floor) = (nanoseconds(UNPROFILED), nanoseconds(FLOOR));
        let cpu = self.tool(UNPROFILED).map_or(f64::NAN, |tool| tool.cpu_nanoseconds);
        for tool in &mut self.tools {
            tool.of_unprofiled = tool.nanoseconds / unprofiled;
            tool.of_floor = tool.nanoseconds / floor;
            tool.cost_percent = 100.0 * (1.0 - cpu / tool.cpu_nanoseconds);
        }
        self
    }

    fn tool(&self, name: &str) -> Option<&OfTool> {
        self.tools.iter().find(|tool| tool.name == name)
    }
}
