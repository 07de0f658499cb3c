//! What rows are filtered by: a text that a name contains, upper or lower case.

use crate::{
    model::{Frame, ProcessSnapshot, StackSnapshot},
    wording::frames::{function, location},
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    text: String,
    lower: String,
}

impl Filter {
    pub(super) fn new(text: &str) -> Self {
        Self { text: text.to_owned(), lower: text.to_lowercase() }
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// Nearly all names are ASCII; these are compared without a copy, as there can be millions.
    fn is_in(&self, name: &str) -> bool {
        if !name.is_ascii() {
            return name.to_lowercase().contains(&self.lower);
        }
        let wanted = self.lower.as_bytes();
        wanted.is_empty() || name.as_bytes().windows(wanted.len()).any(|part| part.eq_ignore_ascii_case(wanted))
    }

    fn admits_frame(&self, frame: &Frame) -> bool {
        let is_in_module = || frame.module.as_ref().is_some_and(|module| self.is_in(&module.to_string_lossy()));
        self.is_in(&function(frame)) || is_in_module() || self.is_in(&location(frame))
    }

    /// Whether one of its frames has it in the function's name, the module's or the source file's.
    pub(super) fn admits_stack(&self, stack: &StackSnapshot<Frame>) -> bool {
        self.is_empty() || stack.frames.iter().any(|frame| self.admits_frame(frame))
    }

    /// Whether its command has it, or its pid, or one of its stacks.
    pub(super) fn admits_process(&self, process: &ProcessSnapshot<Frame>) -> bool {
        self.is_empty()
            || self.is_in(&process.command)
            || self.is_in(&process.pid.to_string())
            || process.stacks.iter().any(|stack| self.admits_stack(stack))
    }
}

#[cfg(test)]
mod tests {
    use super::Filter;

    #[test]
    fn upper_and_lower_case_are_the_same_in_every_script() {
        let is_in = |text: &str, name: &str| Filter::new(text).is_in(name);
        assert!(is_in("ALLOC", "xmalloc_pool") && is_in("pool", "XMALLOC_POOL") && is_in("", ""));
        assert!(is_in("ÖFF", "öffnen") && is_in("öff", "ÖFFNEN"));
        assert!(!is_in("malloc", "mallo") && !is_in("ö", "o") && !is_in("x", ""));
    }
}
