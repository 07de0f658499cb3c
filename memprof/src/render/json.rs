//! One JSON object a report, on one line. The names of the fields are a contract, `memprof.report/1`: they may be added
//! to, never changed. What is not known is null.

use std::{io, path::Path};

use serde::Serialize;

use super::{json_line, ranking_json::RankingView, verdict};
use crate::model::{
    Ages, Cause, Course, EndedProcesses, Frame, LiveAllocation, Losses, Memory, MemoryGrowth, Moment, Outstanding,
    Overhead, Peak, ProcessSnapshot, Report, ScaledFigures, ScaledProcess, Source, StackId, StackSnapshot,
    StandardError, Suppressed, SuppressedBy, Totals, Trend,
};

const SCHEMA: &str = "memprof.report/1";

/// Writes the report and a newline.
pub(super) fn write(report: &Report, output: &mut dyn io::Write) -> io::Result<()> {
    json_line::write(&ReportView::from(report), output)
}

#[derive(Serialize)]
struct ReportView<'a> {
    schema: &'static str,
    /// RFC 3339, UTC.
    time: String,
    elapsed_seconds: f64,
    since_previous_seconds: f64,
    /// Only where the figures are estimates, like all standard errors.
    #[serde(skip_serializing_if = "Option::is_none")]
    sample_bytes: Option<u64>,
    /// Only where there is a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_overhead_percent: Option<f64>,
    /// Only where stacks are shown as they stood when their process held most.
    #[serde(skip_serializing_if = "Option::is_none")]
    moment: Option<&'static str>,
    lost: LossesView,
    warnings: Vec<String>,
    /// Only where a sweep has watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    watched: Option<RankingView<'a>>,
    processes: Vec<ProcessView<'a>>,
    /// Only where processes were followed and are not told one by one.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_processes: Option<EndedView>,
}

#[derive(Serialize)]
struct EndedView {
    processes: u64,
    outstanding: OutstandingView,
    totals: TotalsView,
}

#[derive(Serialize)]
struct LossesView {
    allocations: u64,
    frees: u64,
    stacks: u64,
    causes: CausesView,
}

#[derive(Serialize)]
struct CausesView {
    nursery_full: u64,
    /// Only of a trace.
    #[serde(skip_serializing_if = "Option::is_none")]
    allocations_ring_full: Option<u64>,
    frees_ring_full: u64,
    stacks_ring_full: u64,
    stacks_table_full: u64,
    stacks_unreadable: u64,
    missed_returns: u64,
    in_flight_full: u64,
}

#[derive(Serialize)]
struct ProcessView<'a> {
    pid: u32,
    command: &'a str,
    user: Option<&'a str>,
    container: Option<&'a str>,
    unit: Option<&'a str>,
    exited: bool,
    outstanding: OutstandingView,
    #[serde(skip_serializing_if = "Option::is_none")]
    standard_error: Option<StandardErrorView>,
    overhead: Option<OverheadView>,
    /// Only where windows of the time were observed: then all other figures are of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    scaled: Option<ScaledProcessView>,
    verdict: VerdictView,
    memory: Option<MemoryView>,
    growth_bytes: i64,
    peak_bytes: u64,
    peak: PeakView,
    totals: TotalsView,
    selected_stacks: usize,
    /// Only where suppressions were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    suppressed: Option<SuppressedView<'a>>,
    truncated_stacks: usize,
    stacks: Vec<StackView<'a>>,
}

#[derive(Serialize)]
struct SuppressedView<'a> {
    stacks: usize,
    bytes: u64,
    allocations: u64,
    patterns: Vec<SuppressedByView<'a>>,
}

#[derive(Serialize)]
struct SuppressedByView<'a> {
    pattern: &'a str,
    stacks: usize,
    bytes: u64,
    allocations: u64,
}

#[derive(Serialize)]
struct OutstandingView {
    bytes: u64,
    allocations: u64,
}

#[derive(Serialize)]
struct PeakView {
    bytes: u64,
    allocations: u64,
    /// Since observation began.
    elapsed_seconds: f64,
}

#[derive(Serialize)]
struct StandardErrorView {
    bytes: f64,
    allocations: f64,
}

/// An estimate. Percentages are of the process's processor time.
#[derive(Serialize)]
struct OverheadView {
    percent: Option<f64>,
    cost_seconds: f64,
    cpu_seconds: f64,
    calls: u64,
}

#[derive(Serialize)]
struct ScaledProcessView {
    windows: usize,
    observed_seconds: f64,
    elapsed_seconds: f64,
    outstanding: OutstandingView,
    /// Null while there are too few windows to tell.
    standard_error: Option<StandardErrorView>,
    totals: TotalsView,
    /// Of the allocations in the totals.
    totals_standard_error: Option<StandardErrorView>,
}

#[derive(Serialize)]
struct ScaledView {
    outstanding_bytes: u64,
    outstanding_allocations: u64,
    standard_error: Option<StandardErrorView>,
}

#[derive(Serialize)]
struct TotalsView {
    allocations: u64,
    allocated_bytes: u64,
    frees: u64,
    freed_bytes: u64,
}

#[derive(Serialize)]
struct StackView<'a> {
    id: Option<String>,
    outstanding_bytes: u64,
    outstanding_allocations: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    standard_error: Option<StandardErrorView>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scaled: Option<ScaledView>,
    verdict: VerdictView,
    growth_bytes: i64,
    total_allocations: u64,
    total_bytes: u64,
    /// Null with `--sample`, with `--max-overhead` and in a trace.
    temporary_allocations: Option<u64>,
    at_peak: OutstandingView,
    oldest_seconds: f64,
    ages: AgesView,
    /// Why frames may be missing.
    truncated: Option<String>,
    frames: Vec<FrameView<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allocations: Vec<AllocationView>,
}

/// A course, and what it was read from.
#[derive(Serialize)]
struct VerdictView {
    course: &'static str,
    /// Null while it is too early to tell.
    bytes_per_second: Option<f64>,
    text: String,
    points: usize,
    span_seconds: f64,
    change_bytes: i64,
    lowest_bytes: u64,
    highest_bytes: u64,
    quiet_seconds: f64,
}

/// Resident memory now, and what has changed since `since_seconds`.
#[derive(Serialize)]
struct MemoryView {
    anonymous: u64,
    file: u64,
    shared: u64,
    swapped: u64,
    since_seconds: f64,
    /// Of anonymous memory, swapped out or not.
    anonymous_growth: i64,
    file_growth: i64,
    shared_growth: i64,
    /// Of outstanding bytes, at the same moments.
    tracked_growth: i64,
    /// What the growth comes from.
    cause: &'static str,
}

#[derive(Serialize)]
struct AgesView {
    youngest_seconds: f64,
    median_seconds: f64,
    oldest_seconds: f64,
}

#[derive(Serialize)]
pub(super) struct FrameView<'a> {
    function: Option<&'a str>,
    source: Option<String>,
    directory: Option<String>,
    module: Option<String>,
    build_id: Option<String>,
    offset: Option<String>,
    address: String,
    inlined: bool,
}

#[derive(Serialize)]
struct AllocationView {
    address: String,
    size: u64,
    age_seconds: f64,
}

impl<'a> From<&'a Report> for ReportView<'a> {
    fn from(report: &'a Report) -> Self {
        let is_sampled = report.sample_bytes.is_some();
        Self {
            schema: SCHEMA,
            time: report.time.to_string(),
            elapsed_seconds: report.elapsed.as_secs_f64(),
            since_previous_seconds: report.since_previous.as_secs_f64(),
            sample_bytes: report.sample_bytes,
            max_overhead_percent: report.max_overhead.map(|limit| limit.share() * 100.0),
            moment: (report.moment == Moment::Peak).then_some("peak"),
            lost: (&report.losses).into(),
            warnings: report.warnings.iter().map(ToString::to_string).collect(),
            watched: report.ranking.as_ref().map(Into::into),
            processes: report.processes.iter().map(|process| ProcessView::new(process, is_sampled)).collect(),
            ended_processes: (report.ended.processes > 0).then(|| report.ended.into()),
        }
    }
}

impl From<&Losses> for LossesView {
    fn from(losses: &Losses) -> Self {
        Self {
            allocations: losses.allocations(),
            frees: losses.frees(),
            stacks: losses.stacks(),
            causes: CausesView {
                nursery_full: losses.nursery_full,
                allocations_ring_full: (losses.allocations_ring_full > 0).then_some(losses.allocations_ring_full),
                frees_ring_full: losses.frees_ring_full,
                stacks_ring_full: losses.stacks_ring_full,
                stacks_table_full: losses.stacks_table_full,
                stacks_unreadable: losses.stacks_unreadable,
                missed_returns: losses.missed_returns,
                in_flight_full: losses.in_flight_full,
            },
        }
    }
}

impl<'a> ProcessView<'a> {
    fn new(process: &'a ProcessSnapshot<Frame>, is_sampled: bool) -> Self {
        Self {
            pid: process.pid,
            command: &process.command,
            user: process.identity.user.as_deref(),
            container: process.identity.container.as_deref(),
            unit: process.identity.unit.as_deref(),
            exited: process.exited,
            outstanding: process.outstanding.into(),
            standard_error: is_sampled.then(|| process.standard_error.into()),
            overhead: process.overhead.as_ref().map(Into::into),
            verdict: VerdictView::new(&process.verdict.trend, verdict::of_process(&process.verdict)),
            memory: process.verdict.memory.as_ref().map(|growth| MemoryView::new(growth, process.verdict.cause)),
            scaled: process.scaled.as_ref().map(Into::into),
            growth_bytes: process.growth_bytes,
            peak_bytes: process.peak.outstanding.bytes,
            peak: process.peak.into(),
            totals: process.totals.into(),
            selected_stacks: process.selected_stacks,
            suppressed: process.suppressed.as_ref().map(Into::into),
            truncated_stacks: process.truncated_stacks,
            stacks: process.stacks.iter().map(|stack| StackView::new(stack, is_sampled)).collect(),
        }
    }
}

impl<'a> From<&'a Suppressed> for SuppressedView<'a> {
    fn from(suppressed: &'a Suppressed) -> Self {
        let Outstanding { bytes, allocations } = suppressed.outstanding;
        let patterns = suppressed.by_pattern.iter().map(Into::into).collect();
        Self { stacks: suppressed.stacks, bytes, allocations, patterns }
    }
}

impl<'a> From<&'a SuppressedBy> for SuppressedByView<'a> {
    fn from(by: &'a SuppressedBy) -> Self {
        let Outstanding { bytes, allocations } = by.outstanding;
        Self { pattern: &by.pattern, stacks: by.stacks, bytes, allocations }
    }
}

impl From<&Overhead> for OverheadView {
    fn from(overhead: &Overhead) -> Self {
        Self {
            percent: overhead.share().map(|share| share * 100.0),
            cost_seconds: overhead.cost.as_secs_f64(),
            cpu_seconds: overhead.processor_time.as_secs_f64(),
            calls: overhead.calls,
        }
    }
}

impl From<&ScaledProcess> for ScaledProcessView {
    fn from(scaled: &ScaledProcess) -> Self {
        Self {
            windows: scaled.windows,
            observed_seconds: scaled.observed.as_secs_f64(),
            elapsed_seconds: scaled.elapsed.as_secs_f64(),
            outstanding: scaled.figures.outstanding.into(),
            standard_error: scaled.figures.standard_error.map(Into::into),
            totals: scaled.totals.into(),
            totals_standard_error: scaled.totals_standard_error.map(Into::into),
        }
    }
}

impl From<&ScaledFigures> for ScaledView {
    fn from(scaled: &ScaledFigures) -> Self {
        Self {
            outstanding_bytes: scaled.outstanding.bytes,
            outstanding_allocations: scaled.outstanding.allocations,
            standard_error: scaled.standard_error.map(Into::into),
        }
    }
}

impl VerdictView {
    fn new(trend: &Trend, text: String) -> Self {
        Self {
            course: trend.course.name(),
            bytes_per_second: (trend.course != Course::TooShort).then_some(trend.bytes_per_second),
            text,
            points: trend.points,
            span_seconds: trend.span.as_secs_f64(),
            change_bytes: trend.change_bytes,
            lowest_bytes: trend.lowest,
            highest_bytes: trend.highest,
            quiet_seconds: trend.quiet.as_secs_f64(),
        }
    }
}

impl MemoryView {
    fn new(growth: &MemoryGrowth, cause: Cause) -> Self {
        let Memory { anonymous, file, shared, swapped } = growth.now;
        Self {
            anonymous,
            file,
            shared,
            swapped,
            since_seconds: growth.since.as_secs_f64(),
            anonymous_growth: growth.anonymous,
            file_growth: growth.file,
            shared_growth: growth.shared,
            tracked_growth: growth.tracked,
            cause: cause.name(),
        }
    }
}

impl From<Ages> for AgesView {
    fn from(ages: Ages) -> Self {
        Self {
            youngest_seconds: ages.youngest.as_secs_f64(),
            median_seconds: ages.median.as_secs_f64(),
            oldest_seconds: ages.oldest.as_secs_f64(),
        }
    }
}

impl From<EndedProcesses> for EndedView {
    fn from(ended: EndedProcesses) -> Self {
        let EndedProcesses { processes, outstanding, totals } = ended;
        Self { processes, outstanding: outstanding.into(), totals: totals.into() }
    }
}

impl From<Outstanding> for OutstandingView {
    fn from(outstanding: Outstanding) -> Self {
        Self { bytes: outstanding.bytes, allocations: outstanding.allocations }
    }
}

impl From<Peak> for PeakView {
    fn from(peak: Peak) -> Self {
        let Outstanding { bytes, allocations } = peak.outstanding;
        Self { bytes, allocations, elapsed_seconds: peak.elapsed.as_secs_f64() }
    }
}

impl From<StandardError> for StandardErrorView {
    fn from(error: StandardError) -> Self {
        Self { bytes: error.bytes, allocations: error.allocations }
    }
}

impl From<Totals> for TotalsView {
    fn from(totals: Totals) -> Self {
        Self {
            allocations: totals.allocations,
            allocated_bytes: totals.allocated_bytes,
            frees: totals.frees,
            freed_bytes: totals.freed_bytes,
        }
    }
}

impl<'a> StackView<'a> {
    fn new(stack: &'a StackSnapshot<Frame>, is_sampled: bool) -> Self {
        Self {
            id: (stack.id != StackId::UNKNOWN).then(|| format!("{:#018x}", stack.id.0)),
            outstanding_bytes: stack.outstanding.bytes,
            outstanding_allocations: stack.outstanding.allocations,
            standard_error: is_sampled.then(|| stack.standard_error.into()),
            scaled: stack.scaled.as_ref().map(Into::into),
            verdict: VerdictView::new(&stack.trend, verdict::of_stack(&stack.trend)),
            growth_bytes: stack.growth_bytes,
            total_allocations: stack.totals.allocations,
            total_bytes: stack.totals.allocated_bytes,
            temporary_allocations: stack.totals.temporary,
            at_peak: stack.at_peak.into(),
            oldest_seconds: stack.ages.oldest.as_secs_f64(),
            ages: stack.ages.into(),
            truncated: stack.truncated.map(|reason| reason.to_string()),
            frames: stack.frames.iter().map(Into::into).collect(),
            allocations: stack.allocations.iter().map(Into::into).collect(),
        }
    }
}

impl<'a> From<&'a Frame> for FrameView<'a> {
    fn from(frame: &'a Frame) -> Self {
        let directory = frame.source.as_ref().and_then(|source| source.directory.as_deref());
        Self {
            function: frame.function.as_deref(),
            source: frame.source.as_ref().map(location),
            directory: directory.map(lossy),
            module: frame.module.as_deref().map(lossy),
            build_id: frame.build_id.as_ref().map(ToString::to_string),
            offset: frame.offset_in_file.map(hexadecimal),
            address: hexadecimal(frame.address),
            inlined: frame.inlined,
        }
    }
}

impl From<&LiveAllocation> for AllocationView {
    fn from(allocation: &LiveAllocation) -> Self {
        Self {
            address: hexadecimal(allocation.address),
            size: allocation.size,
            age_seconds: allocation.age.as_secs_f64(),
        }
    }
}

fn location(source: &Source) -> String {
    let file = lossy(&source.file);
    source.line.map_or_else(|| file.clone(), |line| format!("{file}:{line}"))
}

fn hexadecimal(number: u64) -> String {
    format!("{number:#x}")
}

/// JSON is Unicode: what is not UTF-8 in a path is replaced.
fn lossy(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
