//! Paint by meaning, and what is left of it on a terminal that has no colours or knows only ASCII.

use ratatui::{
    buffer::Buffer,
    style::{Color, Modifier, Style},
};

use crate::model::Course;

pub(super) const PLAIN: Style = Style::new();
pub(super) const NAME: Style = Style::new().add_modifier(Modifier::BOLD);
pub(super) const FIGURE: Style = Style::new().fg(Color::Cyan);
pub(super) const GOOD: Style = Style::new().fg(Color::Green);
pub(super) const BAD: Style = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
pub(super) const FAINT: Style = Style::new().add_modifier(Modifier::DIM);
pub(super) const SELECTED: Style = Style::new().add_modifier(Modifier::REVERSED);
pub(super) const TITLE: Style = Style::new().add_modifier(Modifier::BOLD).add_modifier(Modifier::UNDERLINED);

/// Of a course: whether it is a good one.
pub(super) fn of_course(course: Course) -> Style {
    match course {
        Course::Grows => BAD,
        Course::Plateaued | Course::OneOff | Course::Level | Course::Shrinks => GOOD,
        Course::Churn | Course::TooShort => PLAIN,
    }
}

/// Takes all colours out. What is bold or reversed stays so.
pub(super) fn without_colours(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        (cell.fg, cell.bg) = (Color::Reset, Color::Reset);
    }
}

/// Replaces what is not ASCII by what comes closest.
pub(super) fn in_ascii(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        if !cell.symbol().is_ascii() {
            let symbol = closest(cell.symbol());
            cell.set_symbol(symbol);
        }
    }
}

fn closest(symbol: &str) -> &'static str {
    match symbol {
        "▁" => "_",
        "▂" => ".",
        "▃" => ":",
        "▄" => "-",
        "▅" => "=",
        "▆" => "+",
        "▇" => "*",
        "█" => "#",
        "─" => "-",
        "←" => "<",
        "→" => ">",
        "▲" => "^",
        "▼" => "v",
        "…" => "~",
        "±" => "+",
        _ => "?",
    }
}

#[cfg(test)]
mod tests {
    use ratatui::layout::Rect;

    use super::*;

    #[test]
    fn what_is_not_ascii_is_replaced_in_place() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 14, 1));
        buffer.set_string(0, 0, "a▁█ ← größe日x", BAD);
        in_ascii(&mut buffer);
        without_colours(&mut buffer);
        let text: String = buffer.content.iter().map(ratatui::buffer::Cell::symbol).collect();
        assert_eq!(text, "a_# < gr??e? x");
        assert!(buffer.content.iter().all(|cell| cell.fg == Color::Reset));
    }
}
