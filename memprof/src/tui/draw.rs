//! The whole screen, as a function of the state.

use ratatui::{
    buffer::Buffer,
    layout::{Position, Rect},
    text::{Line, Span},
};

use super::{
    frames, header,
    layout::{self, LEAST, Parts},
    listing::{Column as _, Listing, Row},
    overlay::Overlay,
    paint, processes,
    prompt::Prompt,
    sparkline, stacks,
    state::{Shown, State, View},
    table::Table,
    wrap::wrapped,
};
use crate::{
    model::{Frame, ProcessSnapshot},
    wording::{escape::visible, figures::separated},
};

/// Keys, the most important first: as many as there is room for.
const HINTS: [(&str, &str); 10] = [
    ("?", "help"),
    ("q", "quit"),
    ("Tab", "switch"),
    ("←→", "sort"),
    ("/", "filter"),
    ("Enter", "open"),
    ("m", "mark"),
    ("Space", "pause"),
    ("w", "save"),
    ("r", "reverse"),
];

/// Draws it. Gives the place of the cursor, if there is one.
pub(super) fn draw(state: &State, screen: Rect, buffer: &mut Buffer) -> Option<Position> {
    let cursor = if screen.width < LEAST.0 || screen.height < LEAST.1 {
        draw_excuse(screen, buffer);
        None
    } else {
        draw_all(state, screen, buffer)
    };
    if !state.looks().unicode {
        paint::in_ascii(buffer);
    }
    if !state.looks().colour {
        paint::without_colours(buffer);
    }
    cursor
}

fn draw_excuse(screen: Rect, buffer: &mut Buffer) {
    let (width, height) = LEAST;
    let text = format!("memprof top needs {width} columns and {height} lines. q quits.");
    draw_lines(wrapped(&text, screen.width.into()).into_iter().map(Line::raw), screen, buffer);
}

fn draw_lines(lines: impl IntoIterator<Item = Line<'static>>, area: Rect, buffer: &mut Buffer) {
    for (y, line) in (area.y..area.bottom()).zip(lines) {
        buffer.set_line(area.x, y, &line, area.width);
    }
}

fn draw_all(state: &State, screen: Rect, buffer: &mut Buffer) -> Option<Position> {
    match state.overlay() {
        Some(overlay) => draw_overlay(overlay, state, screen, buffer),
        None => draw_tables(state, &Parts::of(screen), buffer),
    }
    let bottom = Parts::of(screen).bottom;
    match (state.prompt(), state.message()) {
        (Some(prompt), _) => Some(draw_prompt(prompt, bottom, buffer)),
        (None, Some(message)) => {
            buffer.set_stringn(bottom.x, bottom.y, visible(message), bottom.width.into(), paint::NAME);
            None
        }
        (None, None) => {
            draw_hints(state, bottom, buffer);
            None
        }
    }
}

fn draw_overlay(overlay: Overlay, state: &State, screen: Rect, buffer: &mut Buffer) {
    let page = layout::page(screen);
    let lines = overlay.content.lines(state, page.width.into());
    let (total, height) = (lines.len(), usize::from(page.height));
    let first = overlay.scroll.min(total.saturating_sub(height));
    let title = overlay.content.title(state);
    let rest =
        if total > height { format!("  ({} to {} of {total})", first + 1, first + height) } else { String::new() };
    let title = Line::from(vec![Span::styled(title, paint::NAME), Span::styled(rest, paint::FAINT)]);
    buffer.set_line(screen.x, screen.y, &title, screen.width);
    draw_lines(lines.into_iter().skip(first), page, buffer);
}

fn draw_tables(state: &State, parts: &Parts, buffer: &mut Buffer) {
    header::draw_observation(state, parts.observation, buffer);
    let Some(shown) = state.shown() else { return };
    let process = state.process();
    if let Some(process) = process {
        header::draw_process(process, shown.report, parts.process, buffer);
        header::draw_verdict(process, parts.verdict, buffer);
        if let Some(history) = state.history(process.pid) {
            sparkline::draw(history, parts.sparkline, buffer);
        }
    }
    let divider = match (state.view(), process) {
        (View::Stacks, Some(process)) => draw_stacks(state, &shown, process, parts.table, buffer),
        _ => draw_processes(state, &shown, parts.table, buffer),
    };
    draw_divider(&divider, parts.divider, buffer);
    draw_frames(state, parts.frames, buffer);
}

/// Says what stands below the table.
fn draw_processes(state: &State, shown: &Shown<'_>, area: Rect, buffer: &mut Buffer) -> String {
    let place = draw_table(&processes::rows(shown), shown.processes, shown.mark.is_some(), "process", area, buffer);
    format!("{place}{}; below is its first stack", filtered(state))
}

fn draw_stacks(
    state: &State,
    shown: &Shown<'_>,
    process: &ProcessSnapshot<Frame>,
    area: Rect,
    buffer: &mut Buffer,
) -> String {
    let rows = stacks::rows(shown, process);
    let place = draw_table(&rows, shown.stacks, shown.mark.is_some(), "stack", area, buffer);
    let left_out = process.selected_stacks.saturating_sub(process.stacks.len());
    let left_out =
        if left_out > 0 { format!(", {} more not listed", separated(left_out as u64)) } else { String::new() };
    format!("{place}{}{left_out}", filtered(state))
}

/// Says which row is selected, of how many.
fn draw_table<R: Row>(
    rows: &[R],
    listing: &Listing<R::Id, R::Column>,
    is_difference: bool,
    noun: &str,
    area: Rect,
    buffer: &mut Buffer,
) -> String {
    let selected = listing.place_in(rows);
    let table = Table {
        columns: R::Column::ALL.iter().map(|column| column.drawn(is_difference)).collect(),
        sorted: listing.sorted(),
        rows: rows.len(),
        selected: selected.unwrap_or(0),
        cell: &|row, column| rows[row].cell(R::Column::ALL[column]),
        if_empty: &format!("no {noun}"),
    };
    table.draw(area, buffer);
    format!("{noun} {} of {}", selected.map_or(0, |place| place + 1), rows.len())
}

fn filtered(state: &State) -> String {
    let filter = state.active_filter();
    if filter.is_empty() { String::new() } else { format!(" with \"{}\"", visible(filter.text())) }
}

fn draw_divider(text: &str, area: Rect, buffer: &mut Buffer) {
    if area.is_empty() {
        return;
    }
    buffer.set_stringn(area.x, area.y, "─".repeat(area.width.into()), area.width.into(), paint::FAINT);
    let text = format!("── {text} ");
    buffer.set_stringn(area.x, area.y, text, area.width.into(), paint::PLAIN);
}

fn draw_frames(state: &State, area: Rect, buffer: &mut Buffer) {
    let Some(stack) = state.stack().filter(|_| !area.is_empty()) else { return };
    let lines = frames::lines(stack, area.width.into());
    let (total, height) = (lines.len(), usize::from(area.height));
    let first = state.frames_scroll().min(total.saturating_sub(height));
    draw_lines(lines.into_iter().skip(first), area, buffer);
    let below = total.saturating_sub(first + height);
    if below > 0 {
        let more = format!(" {} more (J, Enter)", below + 1);
        let place = Rect { y: area.bottom() - 1, height: 1, ..area };
        buffer.set_stringn(place.x, place.y, " ".repeat(area.width.into()), area.width.into(), paint::PLAIN);
        buffer.set_stringn(place.x, place.y, more, area.width.into(), paint::FAINT);
    }
}

/// The end of a line that is too long for the screen is what is seen.
fn draw_prompt(prompt: &Prompt, area: Rect, buffer: &mut Buffer) -> Position {
    let (x, y) = buffer.set_stringn(area.x, area.y, prompt.label(), area.width.into(), paint::NAME);
    let room = usize::from(area.right().saturating_sub(x + 1));
    let text: Vec<_> = visible(&prompt.text).chars().collect();
    let seen: String = text[text.len().saturating_sub(room)..].iter().collect();
    let (x, y) = buffer.set_stringn(x, y, seen, room, paint::PLAIN);
    Position { x, y }
}

fn draw_hints(state: &State, area: Rect, buffer: &mut Buffer) {
    let hints = if state.overlay().is_some() { &[("Esc", "back"), ("j k", "scroll")][..] } else { &HINTS };
    let mut line = Line::default();
    for (key, meaning) in hints {
        let hint = [Span::styled(*key, paint::NAME), Span::styled(format!(" {meaning}  "), paint::FAINT)];
        if line.width() + Line::from_iter(hint.clone()).width() > area.width.into() {
            break;
        }
        hint.into_iter().for_each(|span| line.push_span(span));
    }
    buffer.set_line(area.x, area.y, &line, area.width);
}
