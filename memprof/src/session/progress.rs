//! A progress bar on standard error, where somebody looks at it.

use std::{io::IsTerminal as _, time::Duration};

use indicatif::{ProgressBar, ProgressStyle};

/// How far a time of known length is.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Shows nothing if standard error is no terminal, or if nothing is to be said there.
    pub(super) fn of(length: Duration) -> Self {
        let is_wanted = log::log_enabled!(log::Level::Info) && std::io::stderr().is_terminal();
        if !is_wanted {
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::new(length.as_millis() as u64);
        Self(match ProgressStyle::with_template("watching {bar:30} {msg}") {
            Ok(style) => bar.with_style(style),
            Err(_) => bar,
        })
    }

    /// Shows that so much is over, and says something of it.
    pub(super) fn show(&self, elapsed: Duration, message: String) {
        self.0.set_message(message);
        self.0.set_position(elapsed.as_millis() as u64);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
