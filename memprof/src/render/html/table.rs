//! All stacks in a table, each with its frames below it. The script sorts and filters it, and hides the frames until they are asked
//! for; without the script they are there.

use maud::{Markup, html};

use super::{
    super::{
        escape::{visible, visible_path},
        figures::{bytes, change_of_bytes, count, duration, exact_bytes, separated},
        folded::name_of as function_or_object,
        text::ages,
        verdict,
    },
    head::{held_bytes, tone},
    name_of,
};
use crate::{
    model::{Course, Frame, LiveAllocation, ProcessSnapshot, Report, StackId, StackSnapshot},
    wording::frames::{function, source_location},
};

/// More stacks than these are in the flame graph only: a browser has to lay the table out.
const MOST_ROWS: usize = 1000;

/// Callers that are named in a stack's row, beside the function that allocates.
const SHOWN_CALLERS: usize = 4;

const COLUMNS: [&str; 9] =
    ["Stack", "Outstanding", "Allocations", "Growth", "Oldest", "Allocated", "Calls", "Temporary", "Verdict"];

/// The table, and what is not in it.
pub(super) fn table(report: &Report) -> Markup {
    let rows = report.processes.iter().flat_map(|process| process.stacks.iter().map(move |stack| (process, stack)));
    html! {
        section.stacks {
            h2 { "Stacks" }
            table #table {
                thead { tr { @for (place, column) in COLUMNS.iter().enumerate() {
                    th scope="col" class=[(place > 0 && place < 8).then_some("figure")] { button type="button" { (column) } }
                } } }
                @for (process, stack) in rows.clone().take(MOST_ROWS) { (row(report, process, stack)) }
            }
            (not_shown(report, rows.count()))
        }
    }
}

/// Stacks that are in the graph only, or that were not asked for.
fn not_shown(report: &Report, stacks: usize) -> Markup {
    let beyond = stacks.saturating_sub(MOST_ROWS);
    let selected: usize = report.processes.iter().map(|process| process.selected_stacks).sum();
    let hidden = selected.saturating_sub(stacks);
    html! {
        @if beyond > 0 { p.note { (count(beyond as u64, "more stack")) " in the flame graph only." } }
        @if hidden > 0 { p.note { (count(hidden as u64, "more stack")) " not shown (--top)." } }
    }
}

/// A stack: a row with its figures, and one with its frames.
fn row(report: &Report, process: &ProcessSnapshot<Frame>, stack: &StackSnapshot<Frame>) -> Markup {
    let held = stack.outstanding;
    html! {
        tbody {
            tr.stack {
                th scope="row" { (summary(report, process, stack)) }
                td data-value=(held.bytes) title=(exact_bytes(held.bytes)) {
                    (held_bytes(report, held.bytes, stack.standard_error)) (bar(held.bytes, process.outstanding.bytes))
                }
                td data-value=(held.allocations) { (separated(held.allocations)) }
                td data-value=(stack.growth_bytes) { (change(stack.growth_bytes)) }
                td data-value=(stack.ages.oldest.as_millis()) title=(ages(stack)) { (duration(stack.ages.oldest)) }
                td data-value=(stack.totals.allocated_bytes) { (bytes(stack.totals.allocated_bytes)) }
                td data-value=(stack.totals.allocations) { (separated(stack.totals.allocations)) }
                td data-value=(stack.totals.temporary.unwrap_or(0)) { (stack.totals.temporary.map_or_else(|| "–".to_owned(), separated)) }
                td.verdict data-value=(rank(stack.trend.course)) { span class=(tone(stack.trend.course)) { (in_words(stack)) } }
            }
            tr.frames { td colspan=(COLUMNS.len()) { (frames(stack)) } }
        }
    }
}

fn change(bytes: i64) -> String {
    if bytes == 0 { "0 B".to_owned() } else { change_of_bytes(bytes) }
}

/// What its course comes to, if it holds anything.
fn in_words(stack: &StackSnapshot<Frame>) -> String {
    match stack.trend.course {
        Course::TooShort if stack.outstanding.allocations == 0 => "holds nothing".to_owned(),
        _ => verdict::of_stack(&stack.trend),
    }
}

/// What grows comes first, what is not known last.
fn rank(course: Course) -> u8 {
    match course {
        Course::Grows => 6,
        Course::Plateaued => 5,
        Course::OneOff => 4,
        Course::Churn => 3,
        Course::Level => 2,
        Course::Shrinks => 1,
        Course::TooShort => 0,
    }
}

/// How much that is of what its process holds.
fn bar(held: u64, of: u64) -> Markup {
    let percent = format!("{:.1}%", held as f64 / of.max(1) as f64 * 100.0);
    html! { svg.bar width="100%" height="3" aria-hidden="true" { rect width=(percent) height="3" {} } }
}

/// The function that allocates, and its first callers; the button opens the frames.
fn summary(report: &Report, process: &ProcessSnapshot<Frame>, stack: &StackSnapshot<Frame>) -> Markup {
    let names: Vec<_> = stack.frames.iter().take(SHOWN_CALLERS + 1).map(function_or_object).collect();
    let callers = names.iter().skip(1).map(|name| format!("← {} ", visible(name)));
    html! {
        button type="button" aria-expanded="true" {
            code { (names.first().map_or("[stack lost]".into(), |name| visible(name))) }
            small {
                @if report.processes.len() > 1 { (name_of(process)) " " }
                @for caller in callers { (caller) }
                @if stack.frames.len() > names.len() { "← …" }
            }
        }
    }
}

fn frames(stack: &StackSnapshot<Frame>) -> Markup {
    html! {
        @if stack.frames.is_empty() {
            p.note { "The stack was lost: it is not known where this was allocated." }
        } @else {
            ol { @for frame in &stack.frames { li { (frame_line(frame)) } } }
        }
        @if let Some(reason) = stack.truncated { p.note { "Callers may be missing: " (reason) "." } }
        @if stack.id != StackId::UNKNOWN { p.note { "Stack " (format!("{:#018x}", stack.id.0)) ", " (ages(stack)) "." } }
        (blocks(&stack.allocations))
    }
}

/// Function, source line, and where that is in which object.
fn frame_line(frame: &Frame) -> Markup {
    let module = frame.module.as_deref().map(visible_path).unwrap_or_default();
    let offset =
        frame.offset_in_file.map_or_else(|| format!(" {:#x}", frame.address), |offset| format!("+{offset:#x}"));
    let id = frame.build_id.as_ref().map(|id| format!("build id {id}"));
    html! {
        code { (function(frame)) }
        @if let Some(source) = &frame.source { span.source { (source_location(source)) } }
        span.module title=[id] { (module) (offset) }
    }
}

/// Single blocks, if they were asked for.
fn blocks(allocations: &[LiveAllocation]) -> Markup {
    html! {
        @if !allocations.is_empty() {
            ul.blocks {
                @for LiveAllocation { address, size, age } in allocations {
                    li { (format!("{address:#014x}")) ": " (exact_bytes(*size)) ", age " (duration(*age)) }
                }
            }
        }
    }
}
