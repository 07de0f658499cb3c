//! Attaching to a process that has many libraries.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{target::Target, watching::Watching};
use crate::{
    bench::{
        Arguments,
        builds::Builds,
        statistics::median,
        table::{markdown, time},
    },
    process::{self, root},
};

const LIBRARIES: usize = 500;

/// Of one number of libraries; medians.
#[derive(Serialize)]
pub(in crate::bench) struct Figures {
    libraries: usize,
    /// From memprof's start until its probes are in: that holds the loading of its programs.
    attached_after_seconds: f64,
    first_report_seconds: f64,
}

pub(super) fn measure(arguments: &Arguments, builds: &Builds) -> Result<Vec<Figures>> {
    let folder = builds.scratch_folder()?;
    compile(folder.path())?;
    let of = |libraries| of(arguments, builds, folder.path(), libraries);
    let figures = [0, LIBRARIES].into_iter().map(of).collect::<Result<Vec<_>>>()?;
    print(&figures);
    Ok(figures)
}

/// One file compiled so often, by as many compilers at once as there are processors.
fn compile(folder: &Path) -> Result<()> {
    eprintln!("scale: {LIBRARIES} libraries are compiled");
    let source = root().join("xtask/bench/library.c");
    let compilers = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        let compile = |first: usize| {
            (first..LIBRARIES).step_by(compilers).try_for_each(|number| {
                let mut compiler = Command::new("gcc");
                compiler.args(["-shared", "-fPIC", "-g", "-O2"]).arg(format!("-DNUMBER={number}"));
                process::output(compiler.arg(&source).arg("-o").arg(library(folder, number))).map(drop)
            })
        };
        let threads: Vec<_> = (0..compilers).map(|first| scope.spawn(move || compile(first))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().ok().context("a compiler's thread died")?)
    })
}

fn library(folder: &Path, number: usize) -> PathBuf {
    folder.join(format!("lib{number}.so"))
}

fn of(arguments: &Arguments, builds: &Builds, folder: &Path, libraries: usize) -> Result<Figures> {
    let mut program = Command::new(builds.program("libraries"));
    let target = Target::start(program.args((0..libraries).map(|number| library(folder, number))))?;
    let (mut attached, mut reported) = (Vec::new(), Vec::new());
    for _ in 0..arguments.runs {
        let mut memprof = Watching::start(builds.product(), target.pid())?;
        attached.push(memprof.attached_after.as_secs_f64());
        reported.push(memprof.report()?.1.as_secs_f64());
    }
    Ok(Figures { libraries, attached_after_seconds: median(attached), first_report_seconds: median(reported) })
}

fn print(figures: &[Figures]) {
    let row = |of: &Figures| {
        [of.libraries.to_string(), time(of.attached_after_seconds * 1e9), time(of.first_report_seconds * 1e9)]
    };
    let head = ["libraries", "start to probes", "first report"];
    eprintln!("\n{}\n", markdown(&head, figures.iter().map(row)));
}
