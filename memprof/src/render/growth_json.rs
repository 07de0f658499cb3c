//! Growth as one JSON object a report, on one line. The names of the fields are a contract, `memprof.growth/1`: they may be
//! added to, never changed. What is not known is null.

use std::io;

use serde::Serialize;

use super::{json::FrameView, json_line};
use crate::model::{AnonymousMemory, Frame, Growth, GrowthOfProcess, GrowthOfStack, Touched};

const SCHEMA: &str = "memprof.growth/1";

/// Writes the report and a newline.
pub(super) fn write(report: &Growth<Frame>, output: &mut dyn io::Write) -> io::Result<()> {
    json_line::write(&GrowthView::from(report), output)
}

#[derive(Serialize)]
pub(super) struct GrowthView<'a> {
    schema: &'static str,
    /// RFC 3339, UTC.
    time: String,
    elapsed_seconds: f64,
    /// One in so many page faults is counted.
    period: u64,
    lost: LostView,
    warnings: Vec<String>,
    watched: usize,
    processes: Vec<ProcessView<'a>>,
}

/// Page faults that were to be counted.
#[derive(Serialize)]
struct LostView {
    stacks: u64,
    unresolved: u64,
    missed: u64,
}

#[derive(Serialize)]
struct ProcessView<'a> {
    pid: u32,
    command: &'a str,
    exited: bool,
    touched: TouchedView,
    only_read: TouchedView,
    without_stack: TouchedView,
    anonymous: Option<AnonymousView>,
    all_stacks: usize,
    truncated_stacks: usize,
    stacks: Vec<StackView<'a>>,
}

#[derive(Serialize)]
struct TouchedView {
    pages: u64,
    bytes: u64,
    /// Of the bytes.
    standard_error: f64,
    huge_pages: u64,
}

#[derive(Serialize)]
struct AnonymousView {
    before_bytes: u64,
    now_bytes: u64,
    change_bytes: i64,
}

#[derive(Serialize)]
struct StackView<'a> {
    id: String,
    touched: TouchedView,
    /// Why frames may be missing.
    truncated: Option<String>,
    frames: Vec<FrameView<'a>>,
}

impl<'a> From<&'a Growth<Frame>> for GrowthView<'a> {
    fn from(report: &'a Growth<Frame>) -> Self {
        Self {
            schema: SCHEMA,
            time: report.time.to_string(),
            elapsed_seconds: report.elapsed.as_secs_f64(),
            period: report.period,
            lost: LostView {
                stacks: report.losses.stacks(),
                unresolved: report.losses.faults_unresolved,
                missed: report.missed,
            },
            warnings: report.warnings.iter().map(ToString::to_string).collect(),
            watched: report.watched,
            processes: report.processes.iter().map(Into::into).collect(),
        }
    }
}

impl<'a> From<&'a GrowthOfProcess<Frame>> for ProcessView<'a> {
    fn from(process: &'a GrowthOfProcess<Frame>) -> Self {
        Self {
            pid: process.pid,
            command: &process.command,
            exited: process.exited,
            touched: process.touched.into(),
            only_read: process.only_read.into(),
            without_stack: process.without_stack.into(),
            anonymous: process.anonymous.map(Into::into),
            all_stacks: process.all_stacks,
            truncated_stacks: process.truncated_stacks,
            stacks: process.stacks.iter().map(Into::into).collect(),
        }
    }
}

impl From<Touched> for TouchedView {
    fn from(touched: Touched) -> Self {
        Self {
            pages: touched.pages(),
            bytes: touched.bytes(),
            standard_error: touched.standard_error(),
            huge_pages: touched.huge_pages,
        }
    }
}

impl From<AnonymousMemory> for AnonymousView {
    fn from(memory: AnonymousMemory) -> Self {
        Self { before_bytes: memory.before, now_bytes: memory.now, change_bytes: memory.change() }
    }
}

impl<'a> From<&'a GrowthOfStack<Frame>> for StackView<'a> {
    fn from(stack: &'a GrowthOfStack<Frame>) -> Self {
        Self {
            id: format!("{:#018x}", stack.id.0),
            touched: stack.touched.into(),
            truncated: stack.truncated.map(|reason| reason.to_string()),
            frames: stack.frames.iter().map(Into::into).collect(),
        }
    }
}
