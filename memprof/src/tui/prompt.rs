//! A line that the user types.

use super::keys::Key;

/// Longer lines are not taken.
const LONGEST: usize = 255;

/// What it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    Filter,
    Save,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Prompt {
    pub(super) purpose: Purpose,
    pub(super) text: String,
}

/// What has become of a line after a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Edited {
    Goes,
    Done,
    GivenUp,
}

impl Prompt {
    pub(super) fn new(purpose: Purpose, text: impl Into<String>) -> Self {
        Self { purpose, text: text.into() }
    }

    pub(super) fn press(&mut self, key: Key) -> Edited {
        match key {
            Key::Char(character) if self.text.len() + character.len_utf8() <= LONGEST => self.text.push(character),
            Key::Backspace => drop(self.text.pop()),
            Key::Ctrl('u') => self.text.clear(),
            Key::Ctrl('w') => {
                let kept = self.text.trim_end().rfind([' ', '/', '-']).unwrap_or(0);
                self.text.truncate(kept);
            }
            Key::Enter => return Edited::Done,
            Key::Esc => return Edited::GivenUp,
            _ => {}
        }
        Edited::Goes
    }

    /// What stands before it.
    pub(super) fn label(&self) -> &'static str {
        match self.purpose {
            Purpose::Filter => "filter: ",
            Purpose::Save => "save to: ",
        }
    }
}
