//! The lines above the table: how the observation goes, and the selected process.

use ratatui::{
    buffer::Buffer,
    layout::Rect,
    style::Style,
    text::{Line, Span},
};

use super::{mark::of_process, paint, state::State, wrap::wrapped};
use crate::{
    model::{Frame, ProcessSnapshot, Report},
    wording::{
        escape::visible,
        figures::{bytes, count, duration, percent},
        losses, verdict,
    },
};

/// On narrower terminals less is said.
const NARROW: u16 = 60;

/// Where a sentence goes on that there is no room for. All of it stands among the warnings.
const MORE: &str = " …";

/// Between the parts of a line.
const GAP: &str = "  ";

/// As many parts as there is room for, but the first in any case.
fn draw(parts: impl IntoIterator<Item = (String, Style)>, area: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    let mut line = Line::default();
    for (text, style) in parts.into_iter().filter(|(text, _)| !text.is_empty()) {
        let part = Span::styled(text, style);
        let is_first = line.spans.is_empty();
        if !is_first && line.width() + GAP.len() + part.width() > area.width.into() {
            break;
        }
        if !is_first {
            line.push_span(GAP);
        }
        line.push_span(part);
    }
    buffer.set_line(area.x, area.y, &line, area.width);
}

/// When, for how long, what was lost and what is in doubt, and whether the view is of now.
pub(super) fn draw_observation(state: &State, area: Rect, buffer: &mut Buffer) {
    let Some(report) = state.report() else {
        return draw([("memprof".to_owned(), paint::NAME), ("no report yet".to_owned(), paint::FAINT)], area, buffer);
    };
    let name = if area.width < NARROW { "" } else { "memprof" };
    let time = report.time.to_zoned(state.time_zone().clone()).strftime("%H:%M:%S").to_string();
    let mut parts =
        vec![(name.to_owned(), paint::NAME), (time, paint::PLAIN), (duration(report.elapsed), paint::FAINT)];
    parts.extend(modes(state, report));
    parts.push(losses(report));
    parts.extend(warnings(report));
    parts.extend(estimates(report));
    draw(parts, area, buffer);
}

/// What makes the view another one than that of all that is outstanding now.
fn modes(state: &State, report: &Report) -> Vec<(String, Style)> {
    let mut modes = Vec::new();
    if state.is_over() {
        modes.push(("EXITED".to_owned(), paint::BAD));
    }
    if state.is_paused() {
        modes.push(("PAUSED".to_owned(), paint::BAD));
    }
    if let Some(mark) = state.mark() {
        modes.push((format!("since mark {} ago", duration(mark.ago(report))), paint::FIGURE));
    }
    modes
}

fn losses(report: &Report) -> (String, Style) {
    if report.losses.is_none() {
        return ("nothing lost".to_owned(), paint::GOOD);
    }
    (format!("LOST {}", losses::by_kind(&report.losses)), paint::BAD)
}

fn warnings(report: &Report) -> Option<(String, Style)> {
    let number = report.warnings.len() as u64;
    (number > 0).then(|| (format!("{} (!)", count(number, "warning")), paint::BAD))
}

fn estimates(report: &Report) -> Option<(String, Style)> {
    let rate = report.sample_bytes?;
    Some((format!("~ sample of {}", bytes(rate)), paint::FAINT))
}

/// Whose process is selected, what it holds, and what observing it costs.
pub(super) fn draw_process(process: &ProcessSnapshot<Frame>, report: &Report, area: Rect, buffer: &mut Buffer) {
    let held = of_process(process);
    let about = if report.sample_bytes.is_some() || process.scaled.is_some() { "~" } else { "" };
    let share = process.overhead.and_then(|overhead| overhead.share());
    let figures = match (format!("{about}{}", bytes(held.bytes)), area.width) {
        (bytes, ..NARROW) => bytes,
        (bytes, _) => format!("{bytes} in {about}{}", count(held.allocations, "allocation")),
    };
    let parts = [
        (format!("{} ({})", visible(&process.command), process.pid), paint::NAME),
        (figures, paint::FIGURE),
        (format!("peak {about}{}", bytes(process.peak.outstanding.bytes)), paint::PLAIN),
        (share.map(|share| format!("cost ~{}", percent(share))).unwrap_or_default(), paint::PLAIN),
        (process.identity.user.as_deref().map(|user| visible(user).into_owned()).unwrap_or_default(), paint::PLAIN),
    ];
    draw(parts, area, buffer);
}

/// Whether it grows, and whether that is why its memory does.
pub(super) fn draw_verdict(process: &ProcessSnapshot<Frame>, area: Rect, buffer: &mut Buffer) {
    let style = paint::of_course(process.verdict.trend.course);
    let room = usize::from(area.width).saturating_sub(MORE.chars().count());
    let lines = wrapped(&verdict::of_process(&process.verdict), room);
    let is_cut = lines.len() > area.height.into();
    for (place, line) in area.rows().zip(lines) {
        let more = if is_cut && place.bottom() == area.bottom() { MORE } else { "" };
        buffer.set_stringn(place.x, place.y, line + more, place.width.into(), style);
    }
}
