//! `memprof doctor`: can this kernel, these privileges and this target be profiled, and if not, why?

use std::io::{self, Write};

use super::rights;
use crate::{
    kernel::{self, Check, Outcome},
    model::{Object, ObjectKind, Timestamp},
    plan::{Functions, plan},
    symbols::{Detail, Symbolizer},
    target::{AddressSpace, ObjectTable, Process},
    wording::escape::{visible, visible_path},
};

/// Prints what was found, and returns whether profiling can work. That nobody reads it any more is no error.
///
/// # Errors
/// Those of the output.
pub fn examine(pids: &[u32], functions: &Functions, output: &mut dyn Write) -> io::Result<bool> {
    match print_all(pids, functions, output) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(true),
        other => other,
    }
}

fn print_all(pids: &[u32], functions: &Functions, output: &mut dyn Write) -> io::Result<bool> {
    let mut is_well = true;
    for check in kernel::checks() {
        is_well &= print(&check, output)?;
    }
    if is_well {
        is_well = print(&kernel::programs(), output)?;
        print(&kernel::page_faults(), output)?;
    }
    rights::reduce_to_reading();
    for &pid in pids {
        is_well &= examine_target(pid, functions, output)?;
    }
    Ok(is_well)
}

/// Returns whether it is not bad.
fn print(check: &Check, output: &mut dyn Write) -> io::Result<bool> {
    let (mark, remark) = match &check.outcome {
        Outcome::Good => ("ok", None),
        Outcome::Limited(consequence) => ("note", Some(consequence)),
        Outcome::Bad(remedy) => ("FAIL", Some(remedy)),
    };
    write!(output, "{mark:<5} {:<14} {}", check.subject, check.found)?;
    match remark {
        Some(remark) => writeln!(output, ": {remark}")?,
        None => writeln!(output)?,
    }
    Ok(!matches!(check.outcome, Outcome::Bad(_)))
}

fn examine_target(pid: u32, functions: &Functions, output: &mut dyn Write) -> io::Result<bool> {
    let process = match Process::find(pid) {
        Ok(process) => process,
        Err(error) => return fail(pid, error.into(), output),
    };
    writeln!(output, "ok    process {pid:<6} {}", visible(&process.command))?;
    let mut objects = ObjectTable::new();
    let space = match AddressSpace::read(process.thread, Timestamp(0), &mut objects) {
        Ok(space) => space,
        Err(error) => return fail(pid, error.into(), output),
    };
    let mapped: Vec<_> = space.objects().into_iter().filter_map(|id| objects.get(id)).collect();
    let plan = plan(mapped.iter().copied(), functions);
    for searched in &plan.searched {
        writeln!(output, "      {searched}")?;
    }
    let symbolizer = Symbolizer::default();
    for object in mapped.iter().filter(|object| object.kind == ObjectKind::File) {
        print_names(object, &symbolizer, output)?;
    }
    if plan.sites.is_empty() {
        writeln!(
            output,
            "FAIL  allocator      none found: its functions must be exported, or in .symtab, by names that are known"
        )?;
        return Ok(false);
    }
    writeln!(output, "ok    allocator      {} functions to probe", plan.sites.len())?;
    write!(output, "{plan}")?;
    Ok(true)
}

fn fail(pid: u32, error: anyhow::Error, output: &mut dyn Write) -> io::Result<bool> {
    writeln!(output, "FAIL  process {pid:<6} {}", visible(&format!("{error:#}")))?;
    Ok(false)
}

/// What a report will be able to say about code in an object.
fn print_names(object: &Object, symbolizer: &Symbolizer, output: &mut dyn Write) -> io::Result<()> {
    let path = visible_path(&object.path);
    let names = match symbolizer.detail(object) {
        Detail::Lines => "functions and source lines",
        Detail::Functions => "functions; no source lines without debug information (install its -dbgsym package)",
        Detail::ExportedFunctions => "exported functions only: it is stripped (install its -dbgsym package)",
        Detail::Offsets => "cannot be opened: frames in it have no names",
    };
    writeln!(output, "      {path}: {names}")
}
