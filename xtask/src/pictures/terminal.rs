//! `memprof top` in a real terminal (tmux), and its screen as a page.

use std::{
    ffi::OsStr,
    fs,
    path::Path,
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::ansi::{INK, PAPER, to_html};
use crate::process::{output, run_quietly};

const COLUMNS: u32 = 110;
const LINES: u32 = 32;

/// What that takes in the font of the page.
pub(super) const PIXELS: (u32, u32) = (COLUMNS * 9 + 32, LINES * 18 + 32);

/// By then a sparkline has something to show.
const SHOWN_AFTER: Duration = Duration::from_secs(40);

const PATIENCE: Duration = Duration::from_secs(120);

/// Writes a page of what `memprof top` shows of a process.
pub(super) fn draw(memprof: &Path, pid: u32, page: &Path) -> Result<()> {
    let terminal = Terminal::start(memprof, pid)?;
    let start = Instant::now();
    while start.elapsed() < SHOWN_AFTER || !terminal.screen()?.contains("open_session") {
        if start.elapsed() > PATIENCE {
            bail!("memprof top does not show what it should:\n{}", terminal.screen()?);
        }
        sleep(Duration::from_millis(200));
    }
    let style = format!(
        "body {{ margin: 16px; background: {PAPER}; color: {INK}; }} \
         pre {{ margin: 0; font: 15px/18px 'DejaVu Sans Mono', monospace; }}"
    );
    let html = to_html(&terminal.screen()?);
    fs::write(page, format!("<!DOCTYPE html><meta charset=utf-8><style>{style}</style><pre>{html}</pre>"))
        .context("cannot write the page")
}

/// A terminal without a window, until this is dropped.
struct Terminal(String);

impl Terminal {
    fn start(memprof: &Path, pid: u32) -> Result<Self> {
        let name = format!("memprof-pictures-{}", std::process::id());
        let terminal = Self(name);
        let size = [COLUMNS, LINES].map(|number| number.to_string());
        let mut command = terminal.tmux(["new-session", "-d", "-x", &size[0], "-y", &size[1]]);
        command.arg(memprof).args(["top", "--pid", &pid.to_string()]);
        run_quietly(&mut command)?;
        Ok(terminal)
    }

    /// With the colours.
    fn screen(&self) -> Result<String> {
        output(&mut self.tmux(["capture-pane", "-e", "-p"]))
    }

    /// A tmux of its own.
    fn tmux(&self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
        let mut command = Command::new("tmux");
        command.env("TERM", "xterm-256color").args(["-L", &self.0]).args(arguments);
        command
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = run_quietly(&mut self.tmux(["kill-server"]));
    }
}
