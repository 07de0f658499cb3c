//! What stands above the stacks: whose memory it is, how much, what it comes to, and what is doubtful about it.

use maud::{Markup, html};

use super::{
    super::{
        Style,
        escape::visible,
        figures::{
            bytes, change_of_bytes, count, duration, estimated_bytes, estimated_count, exact_bytes, percent, separated,
        },
        losses, ranking_text, verdict,
        whose::whose as identity,
    },
    name_of,
    timeline::timeline,
    whose,
};
use crate::model::{Course, EndedProcesses, Frame, Moment, Outstanding, ProcessSnapshot, Report, StandardError};

/// The top of the page.
pub(super) fn head(report: &Report, style: &Style) -> Markup {
    let time = report.time.to_zoned(style.time_zone.clone()).strftime("%Y-%m-%d %H:%M:%S %:z").to_string();
    html! {
        header {
            p.brand { "memprof" }
            h1 { (whose(report)) }
            p {
                "Memory that was allocated and not freed, by call stack. "
                time datetime=(report.time) { (time) } ", after " (duration(report.elapsed)) "."
                @if report.moment == Moment::Peak { " Stacks are those of the moment when the process held most." }
            }
            p { span class=(if report.losses.is_none() { "badge good" } else { "badge bad" }) { (losses::said(report)) } }
            (doubts(report))
        }
    }
}

/// What the reader should know before reading figures.
fn doubts(report: &Report) -> Markup {
    html! {
        @if let Some(rate) = report.sample_bytes {
            p.note {
                "Sampled: one point in " (bytes(rate)) " on average, and all blocks of at least " (bytes(rate))
                "; ~ is an estimate, ± its standard error."
            }
        }
        @if !report.warnings.is_empty() {
            ul.warnings aria-label="Warnings" {
                @for warning in &report.warnings { li { (visible(&warning.to_string())) } }
            }
        }
        @if let Some(ranking) = &report.ranking {
            details.note { summary { "What watching the machine has shown" } pre { (ranking_text::shown(ranking)) } }
        }
        @if report.ended.processes > 0 { (ended(&report.ended)) }
    }
}

fn ended(ended: &EndedProcesses) -> Markup {
    html! {
        p.note {
            "Followed, and ended: " (separated(ended.processes)) " more, outstanding " (bytes(ended.outstanding.bytes)) " in "
            (count(ended.outstanding.allocations, "allocation")) "."
        }
    }
}

/// One process: its figures, its verdict, and its course.
pub(super) fn process(report: &Report, process: &ProcessSnapshot<Frame>) -> Markup {
    html! {
        section.process {
            @if report.processes.len() > 1 { h2 { (name_of(process)) } }
            p.note { (identity(&process.identity).trim_start_matches(", ")) @if process.exited { " · exited" } }
            p class={ "verdict " (tone(process.verdict.trend.course)) } {
                strong { "Verdict: " } (verdict::of_process(&process.verdict)) "."
            }
            (figures(report, process))
            (timeline(process, report.elapsed))
        }
    }
}

/// The class of what goes well, badly, or is open.
pub(super) fn tone(course: Course) -> &'static str {
    match course {
        Course::Grows => "bad",
        Course::Plateaued | Course::OneOff | Course::Level | Course::Shrinks => "good",
        Course::Churn | Course::TooShort => "open",
    }
}

fn figures(report: &Report, process: &ProcessSnapshot<Frame>) -> Markup {
    let Outstanding { bytes: held, allocations } = process.outstanding;
    let error = process.standard_error;
    let totals = process.totals;
    let about = if report.sample_bytes.is_some() { "~" } else { "" };
    html! {
        dl.figures {
            (figure("Outstanding", held_bytes(report, held, error), &exact_bytes(held), held_count(report, allocations, error)))
            (figure("Growth", change_of_bytes(process.growth_bytes), "", format!("in {}", duration(report.since_previous))))
            (figure(
                "Peak",
                format!("{about}{}", bytes(process.peak.outstanding.bytes)),
                &exact_bytes(process.peak.outstanding.bytes),
                format!("after {}", duration(process.peak.elapsed)),
            ))
            (figure(
                "Allocated",
                bytes(totals.allocated_bytes),
                &exact_bytes(totals.allocated_bytes),
                count(totals.allocations, "allocation"),
            ))
            (figure(
                "Freed",
                format!("{about}{}", bytes(totals.freed_bytes)),
                &exact_bytes(totals.freed_bytes),
                format!("{about}{}", count(totals.frees, "free")),
            ))
            @if let Some(share) = process.overhead.and_then(|overhead| overhead.share()) {
                (figure("Cost", format!("~{}", percent(share)), "", "of its CPU time".to_owned()))
            }
        }
        (scaled(process))
        @if let Some(suppressed) = process.suppressed.as_ref().filter(|suppressed| suppressed.stacks > 0) {
            p.note {
                "Suppressed: " (count(suppressed.stacks as u64, "stack")) ", " (bytes(suppressed.outstanding.bytes)) " in "
                (count(suppressed.outstanding.allocations, "allocation")) "."
            }
        }
    }
}

/// A figure to be seen from afar, to the unit for whoever points at it, and what it goes with.
fn figure(name: &str, value: String, exact: &str, with: String) -> Markup {
    html! { div { dt { (name) } dd { strong title=[(!exact.is_empty()).then_some(exact)] { (value) } " " span { (with) } } } }
}

/// What was observed in windows only, scaled to the whole time.
fn scaled(process: &ProcessSnapshot<Frame>) -> Markup {
    let Some(scaled) = &process.scaled else { return html! {} };
    let Outstanding { bytes: held, allocations } = scaled.figures.outstanding;
    html! {
        p.note {
            "Observed: allocations within " (count(scaled.windows as u64, "window")) " at random, " (duration(scaled.observed))
            " of " (duration(scaled.elapsed)) ", and every free of these. Scaled to all of the time, outstanding is ~"
            (bytes(held)) " in ~" (count(allocations, "allocation")) "."
        }
    }
}

/// Bytes; with their standard error if they are an estimate.
pub(super) fn held_bytes(report: &Report, held: u64, error: StandardError) -> String {
    report.sample_bytes.map_or_else(|| bytes(held), |_| estimated_bytes(held, error.bytes))
}

fn held_count(report: &Report, allocations: u64, error: StandardError) -> String {
    match report.sample_bytes {
        None => count(allocations, "allocation"),
        Some(_) => estimated_count(allocations, error.allocations, "allocation"),
    }
}
