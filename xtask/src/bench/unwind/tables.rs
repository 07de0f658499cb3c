//! How large the tables of objects are, and how long it takes to make them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::{
    bench::{
        builds::Builds,
        table::{figure, markdown},
    },
    process,
};

/// What memprof's example `table_figures` prints of one object.
#[derive(Serialize, Deserialize)]
pub(in crate::bench) struct Figures {
    object: String,
    text_megabytes: f64,
    rows: u64,
    megabytes: f64,
    build_milliseconds: f64,
    call_site_rows: u64,
    filter_milliseconds: f64,
}

pub(super) fn measure(builds: &Builds) -> Result<Vec<Figures>> {
    let lines = process::output(builds.example("table_figures").args(objects()?))?;
    let parse = |line| serde_json::from_str(line).context("`table_figures` printed no figures");
    let figures = lines.lines().map(parse).collect::<Result<Vec<Figures>>>()?;
    print(&figures);
    Ok(figures)
}

/// Of the libraries that figures are asked for, those that are here.
fn objects() -> Result<Vec<PathBuf>> {
    const FOLDER: &str = "/usr/lib/x86_64-linux-gnu";
    let mut objects = Vec::new();
    for entry in fs::read_dir(FOLDER).with_context(|| format!("cannot read {FOLDER}"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let prefixes = ["libc.so.6", "libstdc++.so.6", "libpython3", "libLLVM"];
        if prefixes.iter().any(|prefix| name.starts_with(prefix)) && name.contains(".so.") {
            objects.extend(fs::canonicalize(Path::new(FOLDER).join(name)));
        }
    }
    objects.sort();
    objects.dedup();
    Ok(objects)
}

fn print(figures: &[Figures]) {
    let head = ["object", "code, MB", "rows", "MB", "to make, ms", "call sites only", "more ms"];
    let rows = figures.iter().map(|figures| {
        [
            figures.object.clone(),
            figure(figures.text_megabytes),
            figures.rows.to_string(),
            figure(figures.megabytes),
            figure(figures.build_milliseconds),
            figures.call_site_rows.to_string(),
            figure(figures.filter_milliseconds),
        ]
    });
    eprintln!("\n{}\n", markdown(&head, rows));
}
