//! A text that takes the whole screen: help, warnings, a stack in full.

use ratatui::text::Line;

use super::{frames, help, keys::Key, paint, state::State, wrap::wrapped};
use crate::{
    model::{Frame, ProcessSnapshot, StackId},
    wording::{escape::visible, verdict},
};

/// What is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Help,
    Warnings,
    /// Of the process with this pid.
    Stack(u32, StackId),
}

/// And from which line on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Overlay {
    pub(super) content: Content,
    pub(super) scroll: usize,
}

impl Overlay {
    pub(super) fn new(content: Content) -> Self {
        Self { content, scroll: 0 }
    }

    /// Scrolls, with so many lines of which a page is shown. Says whether the key was one that does.
    pub(super) fn scroll(&mut self, key: Key, lines: usize, page: usize) -> bool {
        let last = lines.saturating_sub(page);
        let now = self.scroll.min(last);
        self.scroll = match key {
            Key::Up | Key::Char('k' | 'K') => now.saturating_sub(1),
            Key::Down | Key::Char('j' | 'J') => now + 1,
            Key::PageUp => now.saturating_sub(page.max(1)),
            Key::PageDown | Key::Char(' ') => now + page.max(1),
            Key::Home | Key::Char('g') => 0,
            Key::End | Key::Char('G') => last,
            _ => return false,
        }
        .min(last);
        true
    }
}

impl Content {
    pub(super) fn title(self, state: &State) -> String {
        match self {
            Self::Help => "memprof top: keys".to_owned(),
            Self::Warnings => "Verdict, warnings and messages".to_owned(),
            Self::Stack(pid, id) => {
                let process = state.process_of(pid);
                let command = process.map(|process| visible(&process.command).into_owned()).unwrap_or_default();
                format!("{command} ({pid}), stack {:016x}", id.0)
            }
        }
    }

    pub(super) fn lines(self, state: &State, width: usize) -> Vec<Line<'static>> {
        match self {
            Self::Help => help::lines(width),
            Self::Warnings => warnings(state, width),
            Self::Stack(pid, id) => {
                let of = |process: &ProcessSnapshot<Frame>| {
                    let stack = process.stacks.iter().find(|stack| stack.id == id)?;
                    Some(frames::in_full(stack, width))
                };
                let gone = || vec![Line::styled("this stack holds nothing, or is not among those shown", paint::FAINT)];
                state.process_of(pid).and_then(of).unwrap_or_else(gone)
            }
        }
    }
}

fn warnings(state: &State, width: usize) -> Vec<Line<'static>> {
    let warnings = state.report().map(|report| report.warnings.as_slice()).unwrap_or_default();
    let mut lines = Vec::new();
    if let Some(process) = state.process() {
        let verdict = verdict::of_process(&process.verdict);
        let text = format!("{} ({}): {verdict}", visible(&process.command), process.pid);
        let style = paint::of_course(process.verdict.trend.course);
        lines.extend(wrapped(&text, width).into_iter().map(|line| Line::styled(line, style)));
        lines.push(Line::default());
    }
    for warning in warnings {
        let text = format!("warning: {}", visible(&warning.to_string()));
        lines.extend(wrapped(&text, width).into_iter().map(|line| Line::styled(line, paint::BAD)));
        lines.push(Line::default());
    }
    if warnings.is_empty() {
        lines.extend([Line::styled("no warnings", paint::GOOD), Line::default()]);
    }
    for message in state.messages() {
        lines.extend(wrapped(&visible(message), width).into_iter().map(Line::raw));
    }
    lines
}
