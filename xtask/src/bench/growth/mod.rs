//! What it costs a program when `memprof growth` watches it, or somebody else.

mod workload;

use anyhow::{Context as _, Result};
use serde::Serialize;

use self::workload::{Watching, Workload};
use super::{Arguments, builds::Builds, statistics::median, table};

#[derive(Serialize)]
pub(super) struct Figures {
    workload: &'static str,
    manners: Vec<OfManner>,
}

#[derive(Serialize)]
struct OfManner {
    manner: &'static str,
    seconds: f64,
    of_unobserved: f64,
    /// Page faults that were counted, and pages that they stand for; none where nobody watches the workload.
    touched_pages: Option<f64>,
    lost: Option<f64>,
}

/// Whom memprof watches, and how closely.
#[derive(Clone, Copy, Debug)]
struct Manner {
    name: &'static str,
    options: Option<&'static [&'static str]>,
    /// Whether it is the workload that is watched, or another process beside it.
    is_watched: bool,
}

const MANNERS: [Manner; 5] = [
    Manner { name: "unobserved", options: None, is_watched: false },
    Manner { name: "every fault", options: Some(&["--period", "1"]), is_watched: true },
    Manner { name: "one in 17", options: Some(&["--period", "17"]), is_watched: true },
    Manner { name: "another process, every fault", options: Some(&["--period", "1"]), is_watched: false },
    Manner { name: "another process, one in 17", options: Some(&["--period", "17"]), is_watched: false },
];

/// Measures, and prints each table as it is ready.
pub(super) fn measure(arguments: &Arguments, builds: &Builds) -> Result<Vec<Figures>> {
    let all = Workload::all(arguments, builds)?;
    let names = all.iter().map(|workload| workload.name).collect::<Vec<_>>();
    let wanted = all.iter().filter(|workload| arguments.wants(workload.name, &names));
    wanted.map(|workload| measure_one(arguments, builds, workload)).collect()
}

#[derive(Default)]
struct Runs {
    seconds: Vec<f64>,
    touched_pages: Vec<f64>,
    lost: Vec<f64>,
}

/// The manners take turns, run by run.
fn measure_one(arguments: &Arguments, builds: &Builds, workload: &Workload) -> Result<Figures> {
    let mut runs: [Runs; MANNERS.len()] = Default::default();
    for _ in 0..arguments.runs {
        for (manner, runs) in MANNERS.iter().zip(&mut runs) {
            run(builds, workload, manner, runs).with_context(|| format!("{}, {}", workload.name, manner.name))?;
        }
    }
    let unobserved = median(runs[0].seconds.iter().copied());
    let of_manner = |(manner, runs): (&Manner, Runs)| {
        let seconds = median(runs.seconds);
        let known = |values: Vec<f64>| (!values.is_empty()).then(|| median(values));
        OfManner {
            manner: manner.name,
            seconds,
            of_unobserved: seconds / unobserved,
            touched_pages: known(runs.touched_pages),
            lost: known(runs.lost),
        }
    };
    let figures = Figures { workload: workload.name, manners: MANNERS.iter().zip(runs).map(of_manner).collect() };
    print(&figures, workload.what);
    Ok(figures)
}

fn run(builds: &Builds, workload: &Workload, manner: &Manner, runs: &mut Runs) -> Result<()> {
    let mut held = workload.hold()?;
    let Some(options) = manner.options else {
        runs.seconds.push(held.release_and_wait()?.as_secs_f64());
        return Ok(());
    };
    let pid = if manner.is_watched { held.pid() } else { std::process::id() };
    let watching = Watching::start(builds.product(), pid, options)?;
    runs.seconds.push(held.release_and_wait()?.as_secs_f64());
    let report = watching.finish()?;
    if manner.is_watched {
        let process = &report["processes"][0];
        runs.touched_pages.extend(process["touched"]["pages"].as_f64());
        let lost = ["stacks", "unresolved", "missed"].map(|name| report["lost"][name].as_f64().unwrap_or(f64::NAN));
        runs.lost.push(lost.iter().sum());
    }
    Ok(())
}

fn print(figures: &Figures, what: &str) {
    let known = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.0}"));
    let rows = figures.manners.iter().map(|manner| {
        [
            manner.manner.to_owned(),
            table::time(manner.seconds * 1e9),
            format!("{:.3}", manner.of_unobserved),
            known(manner.touched_pages),
            known(manner.lost),
        ]
    });
    eprintln!("\n**{}**: {what}\n", figures.workload);
    eprintln!("{}", table::markdown(&["", "time", "of unobserved", "pages touched", "lost"], rows));
}
