//! A difference as one JSON object on one line. The names of the fields are a contract, `memprof.diff/1`: they may be added to, never
//! changed. What is not known is null. Changes have a sign: after less before.

use std::io;

use serde::Serialize;

use super::{json::FrameView, json_line};
use crate::model::{Change, Difference, Frame, Held, ProcessDifference, Side, StackDifference};

const SCHEMA: &str = "memprof.diff/1";

/// Writes the difference and a newline.
pub(super) fn write(difference: &Difference, output: &mut dyn io::Write) -> io::Result<()> {
    json_line::write(&DifferenceView::from(difference), output)
}

#[derive(Serialize)]
struct DifferenceView<'a> {
    schema: &'static str,
    before: SideView<'a>,
    after: SideView<'a>,
    warnings: Vec<String>,
    processes: Vec<ProcessView<'a>>,
}

#[derive(Serialize)]
struct SideView<'a> {
    name: &'a str,
    /// RFC 3339, UTC.
    time: String,
    elapsed_seconds: f64,
    /// Null where all figures are exact.
    sample_bytes: Option<u64>,
    lost_allocations: u64,
    lost_frees: u64,
    lost_stacks: u64,
}

#[derive(Serialize)]
struct ProcessView<'a> {
    command: &'a str,
    pids_before: &'a [u32],
    pids_after: &'a [u32],
    change: ChangeView,
    before: HeldView,
    after: HeldView,
    changed_stacks: usize,
    stacks: Vec<StackView<'a>>,
}

#[derive(Serialize)]
struct StackView<'a> {
    change: ChangeView,
    before: HeldView,
    after: HeldView,
    frames: Vec<FrameView<'a>>,
}

#[derive(Serialize)]
struct ChangeView {
    outstanding_bytes: i64,
    outstanding_allocations: i64,
    allocated_bytes: i64,
    total_allocations: i64,
}

#[derive(Serialize)]
struct HeldView {
    outstanding_bytes: u64,
    outstanding_allocations: u64,
    allocated_bytes: u64,
    total_allocations: u64,
}

impl<'a> From<&'a Difference> for DifferenceView<'a> {
    fn from(difference: &'a Difference) -> Self {
        Self {
            schema: SCHEMA,
            before: (&difference.before).into(),
            after: (&difference.after).into(),
            warnings: difference.warnings.iter().map(ToString::to_string).collect(),
            processes: difference.processes.iter().map(Into::into).collect(),
        }
    }
}

impl<'a> From<&'a Side> for SideView<'a> {
    fn from(side: &'a Side) -> Self {
        Self {
            name: &side.name,
            time: side.time.to_string(),
            elapsed_seconds: side.elapsed.as_secs_f64(),
            sample_bytes: side.sample_bytes,
            lost_allocations: side.losses.allocations(),
            lost_frees: side.losses.frees(),
            lost_stacks: side.losses.stacks(),
        }
    }
}

impl<'a> From<&'a ProcessDifference> for ProcessView<'a> {
    fn from(process: &'a ProcessDifference) -> Self {
        Self {
            command: &process.command,
            pids_before: &process.pids_before,
            pids_after: &process.pids_after,
            change: process.change().into(),
            before: process.before.into(),
            after: process.after.into(),
            changed_stacks: process.changed_stacks,
            stacks: process.stacks.iter().map(Into::into).collect(),
        }
    }
}

impl<'a> From<&'a StackDifference> for StackView<'a> {
    fn from(stack: &'a StackDifference) -> Self {
        Self {
            change: stack.change().into(),
            before: stack.before.into(),
            after: stack.after.into(),
            frames: stack.frames.iter().map(|frame: &Frame| frame.into()).collect(),
        }
    }
}

impl From<Change> for ChangeView {
    fn from(change: Change) -> Self {
        Self {
            outstanding_bytes: change.bytes,
            outstanding_allocations: change.allocations,
            allocated_bytes: change.allocated_bytes,
            total_allocations: change.allocations_made,
        }
    }
}

impl From<Held> for HeldView {
    fn from(held: Held) -> Self {
        Self {
            outstanding_bytes: held.outstanding.bytes,
            outstanding_allocations: held.outstanding.allocations,
            allocated_bytes: held.allocated.bytes,
            total_allocations: held.allocated.allocations,
        }
    }
}
