//! What each key does.

use ratatui::text::{Line, Span};

use super::{paint, wrap::wrapped};

const KEYS: [(&str, &str); 20] = [
    ("Tab", "processes, or the stacks of the selected one"),
    ("p, s", "processes; stacks"),
    ("Up, Down, j, k", "select"),
    ("PgUp, PgDn", "a page up, down"),
    ("Home, End, g, G", "the first, and whatever comes to be first; the last"),
    ("Left, Right", "sort by another column"),
    ("r", "reverse the order"),
    ("Enter", "the stacks of a process; a stack in full"),
    ("Esc", "back; and clear the filter"),
    ("J, K", "scroll the frames"),
    ("/", "filter: commands, functions, modules, source files"),
    ("Space", "pause: the view stands still, observation goes on"),
    ("m", "mark now, and show what has changed since (+)"),
    ("M", "forget the mark"),
    ("w", "write the profile of this moment to a file"),
    ("!", "the verdict, warnings and messages in full"),
    ("?", "this help"),
    ("Ctrl-L", "draw everything anew"),
    ("Ctrl-Z", "suspend"),
    ("q, Ctrl-C", "quit"),
];

/// What figures mean that does not go without saying.
const WORDS: [&str; 3] = [
    "Shown is what was allocated since memprof attached, and not freed. Growth is by the second, since the report before; after a \
     mark, since then.",
    "Figures with ~ are estimates: of a sample, or of what was observed within some windows of time only. A total of ? is not known: the \
     stack held nothing at the mark.",
    "Growing, plateaued, one-off and so on are what has become of the outstanding bytes since memprof attached.",
];

/// Wide enough for the longest of them.
const KEY_WIDTH: usize = 17;

pub(super) fn lines(width: usize) -> Vec<Line<'static>> {
    let text = width.saturating_sub(KEY_WIDTH).max(10);
    let mut lines = Vec::new();
    for (key, meaning) in KEYS {
        for (place, part) in wrapped(meaning, text).into_iter().enumerate() {
            let key = if place == 0 { key } else { "" };
            lines.push(Line::from(vec![Span::styled(format!("{key:KEY_WIDTH$}"), paint::NAME), part.into()]));
        }
    }
    for sentence in WORDS {
        lines.push(Line::default());
        lines.extend(wrapped(sentence, width).into_iter().map(Line::raw));
    }
    lines
}
