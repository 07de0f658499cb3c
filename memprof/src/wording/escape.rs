//! Names come from the target, and a terminal obeys what it is sent.

use std::{borrow::Cow, path::Path};

/// The text with all characters made visible that would move the cursor, change colours or reorder what is read.
pub(crate) fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        if is_unsafe(character) {
            escaped.extend(character.escape_default());
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

/// A path, made visible likewise. What is not UTF-8 is replaced.
pub(crate) fn visible_path(path: &Path) -> String {
    visible(&path.to_string_lossy()).into_owned()
}

/// Control characters, line and paragraph separators, and the marks that change the direction of writing.
pub(crate) fn is_unsafe(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        assert_eq!(visible("a\u{1b}[2Jb\r\n\t"), r"a\u{1b}[2Jb\r\n\t");
        assert_eq!(visible("csi \u{9b}2J del \u{7f}"), r"csi \u{9b}2J del \u{7f}");
        assert_eq!(visible("\u{202e}evil"), r"\u{202e}evil");
    }

    #[test]
    fn what_is_only_unusual_is_left() {
        assert_eq!(visible("größe<α>::operator\"\"_µ(日本)\\n"), "größe<α>::operator\"\"_µ(日本)\\n");
    }
}
