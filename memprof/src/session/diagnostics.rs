//! Where diagnostics go: to standard error; and while the screen shows something else, they are kept until it does not.

use std::{
    collections::VecDeque,
    io::{self, IsTerminal as _, Write},
    sync::{Mutex, PoisonError},
};

use crate::wording::escape::visible;

/// So many are kept of those that were not shown.
const MOST: usize = 1000;

static KEPT: Mutex<Option<Lines>> = Mutex::new(None);

#[derive(Default)]
struct Lines {
    /// Not shown by anybody.
    unseen: VecDeque<String>,
    /// Not yet on standard error.
    unwritten: VecDeque<String>,
}

/// A message as a terminal may have it: names in it come from processes. A name with a line end begins no message of its own, since further
/// lines are indented, if they are not by themselves.
pub fn printable(message: &str) -> String {
    let mut lines = message.lines().map(visible);
    let first = lines.next().unwrap_or_default().into_owned();
    lines.fold(first, |text, line| text + if line.starts_with(' ') { "\n" } else { "\n  " } + &line)
}

/// What a log writes to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Diagnostics;

impl Write for Diagnostics {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lines) = kept.as_mut() else { return io::stderr().write(bytes) };
        let text = String::from_utf8_lossy(bytes).trim_end().to_owned();
        push(&mut lines.unseen, text.clone());
        // A file may have it at once.
        if io::stderr().is_terminal() {
            push(&mut lines.unwritten, text);
        } else {
            io::stderr().write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

fn push(lines: &mut VecDeque<String>, line: String) {
    if lines.len() == MOST {
        lines.pop_front();
    }
    lines.push_back(line);
}

/// While this lives, diagnostics are kept. What was not written by then is written after.
pub(super) struct Keeping(());

impl Keeping {
    pub(super) fn begin() -> Self {
        *KEPT.lock().unwrap_or_else(PoisonError::into_inner) = Some(Lines::default());
        Self(())
    }

    /// Those that came since this was last called.
    pub(super) fn take(&self) -> Vec<String> {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        kept.as_mut().map(|lines| lines.unseen.drain(..).collect()).unwrap_or_default()
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        let lines = KEPT.lock().unwrap_or_else(PoisonError::into_inner).take();
        for line in lines.unwrap_or_default().unwritten {
            let _ = writeln!(io::stderr(), "{line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_one_line_that_is_not_indented() {
        assert_eq!(
            printable("failed\n  #1  a\nmemprof: all is well\x1b[2J"),
            "failed\n  #1  a\n  memprof: all is well\\u{1b}[2J"
        );
        assert_eq!(printable(""), "");
    }
}
