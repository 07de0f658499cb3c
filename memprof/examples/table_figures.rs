//! Prints how large the unwinding tables of objects are and how long they take to make, one JSON object a line:
//! `cargo run --release --example table_figures -- OBJECT...`. `cargo xtask bench` runs it.

use std::{
    env,
    fs::File,
    io::{self, Write as _},
    path::Path,
    time::Instant,
};

use anyhow::{Context as _, Result};
use memprof::{
    elf,
    unwind::{Code, Table, call_sites_only},
};
use serde_json::{Value, json};

const REPETITIONS: usize = 5;

fn main() -> Result<()> {
    for path in env::args_os().skip(1) {
        let figures = figures(Path::new(&path)).with_context(|| path.display().to_string())?;
        writeln!(io::stdout(), "{figures}")?;
    }
    Ok(())
}

fn figures(path: &Path) -> Result<Value> {
    let file = File::open(path)?;
    let (table, build_milliseconds) = timed(|| table(&file))?;
    let segments = elf::segments(&file)?;
    let text = elf::code(&file, &segments)?;
    let code: Vec<Code> =
        text.iter().map(|(segment, bytes)| Code { offset_in_file: segment.offsets.start as u32, bytes }).collect();
    let (call_sites, filter_milliseconds) = timed(|| Ok(call_sites_only(&table.rows, &code)))?;
    Ok(json!({
        "object": path.file_name().map(|name| name.to_string_lossy()),
        "text_megabytes": text.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() as f64 / 1e6,
        "rows": table.rows.len(),
        "megabytes": size_of_val(&table.rows[..]) as f64 / 1e6,
        "build_milliseconds": build_milliseconds,
        "unsupported": table.counts.unsupported,
        "call_site_rows": call_sites.len(),
        "filter_milliseconds": filter_milliseconds,
    }))
}

/// As memprof makes it of an open file.
fn table(file: &File) -> Result<Table> {
    let segments = elf::segments(file)?;
    let eh_frame = elf::eh_frame(file)?.context("it has no .eh_frame")?;
    Ok(Table::new(&eh_frame, &segments)?)
}

/// What `make` makes, and the median of the milliseconds that it takes.
fn timed<T>(make: impl Fn() -> Result<T>) -> Result<(T, f64)> {
    let mut milliseconds = Vec::new();
    let made = loop {
        let start = Instant::now();
        let made = make()?;
        milliseconds.push(start.elapsed().as_secs_f64() * 1e3);
        if milliseconds.len() == REPETITIONS {
            break made;
        }
    };
    milliseconds.sort_by(f64::total_cmp);
    Ok((made, milliseconds[REPETITIONS / 2]))
}
