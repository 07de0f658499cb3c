//! `memprof top`: reports on the terminal, and what its user asks for.

use std::{collections::VecDeque, fs::File, path::Path};

use anyhow::Context as _;
use jiff::tz::TimeZone;
use tokio::signal::unix::{self, SignalKind};

use super::{Format, Session, diagnostics::Keeping, signals::Asked, sink::Sink};
use crate::{
    model::{Profile, Report, Selection, Sort},
    privileges::{WRITING, raise},
    render::Style,
    tui::{Key, Looks, Screen, State, Wish},
};

/// Reports that somebody looks at.
pub(super) struct Top {
    // Dropped first: diagnostics are written when the terminal is as it was.
    screen: Screen,
    diagnostics: Keeping,
    state: State,
    /// Whether the screen shows something else than the state.
    is_stale: bool,
    /// Keys that came with one that had to be dealt with first.
    keys: VecDeque<Key>,
    resized: unix::Signal,
    continued: unix::Signal,
}

/// What comes of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Granted {
    GoOn,
    End,
}

impl Top {
    /// Takes the terminal over.
    pub(super) fn open(selection: &Selection) -> anyhow::Result<Self> {
        let resized = unix::signal(SignalKind::window_change()).context("SIGWINCH")?;
        let continued = unix::signal(SignalKind::from_raw(libc::SIGCONT)).context("SIGCONT")?;
        let state = State::new(Looks::of_terminal(), selection.sort);
        let diagnostics = Keeping::begin();
        let screen = Screen::enter().context("the terminal")?;
        let mut top = Self { screen, diagnostics, state, is_stale: true, keys: VecDeque::new(), resized, continued };
        top.draw()?;
        Ok(top)
    }

    /// What the next report is to have in it.
    pub(super) fn selection(&self, asked: &Selection) -> Selection {
        self.state.selection(asked)
    }

    /// Shows a report.
    pub(super) fn show(&mut self, report: Report) -> anyhow::Result<()> {
        self.state.take(report);
        self.draw()
    }

    fn draw(&mut self) -> anyhow::Result<()> {
        for message in self.diagnostics.take() {
            self.state.say(message);
        }
        self.is_stale = false;
        self.screen.draw(&mut self.state).context("the terminal")
    }

    /// Waits until the user wants something that is not in what is shown.
    pub(super) async fn wish(&mut self) -> anyhow::Result<Wish> {
        loop {
            while let Some(key) = self.keys.pop_front() {
                self.is_stale = true;
                match self.state.press(key) {
                    Some(Wish::Suspend) => self.screen.suspend().context("the terminal")?,
                    Some(Wish::Redraw) => self.screen.forget().context("the terminal")?,
                    Some(wish) => return Ok(wish),
                    None => {}
                }
            }
            // This is called again and again, after whatever else has happened.
            if self.is_stale {
                self.draw()?;
            }
            tokio::select! {
                keys = self.screen.keys() => self.keys.extend(keys.context("the terminal")?),
                _ = self.resized.recv() => self.is_stale = true,
                _ = self.continued.recv() => {
                    self.screen.resume().context("the terminal")?;
                    self.is_stale = true;
                }
            }
        }
    }

    fn say(&mut self, message: String) {
        self.state.say(message);
        self.is_stale = true;
    }

    /// No report will come any more.
    fn end(&mut self) {
        self.state.end();
        self.is_stale = true;
    }
}

impl Session<'_> {
    /// Does what the user wants, as far as that is not done.
    pub(super) async fn grant(&mut self, wish: Wish) -> anyhow::Result<Granted> {
        match wish {
            Wish::End => return Ok(Granted::End),
            Wish::Mark => self.mark().await?,
            Wish::Save(path) => {
                let profile = self.everything(Selection { show_groups: true, ..self.options.selection })?;
                let report = self.name(profile).await?;
                let said = match save(&report, &path) {
                    Ok(processes) => format!("saved {processes} to {}", path.display()),
                    Err(error) => format!("not saved: {error:#}"),
                };
                self.say(said);
            }
            Wish::Suspend | Wish::Redraw => {}
        }
        Ok(Granted::GoOn)
    }

    fn say(&mut self, message: String) {
        if let Sink::Top(top) = &mut self.sink {
            top.say(message);
        }
    }

    /// All stacks, whatever is shown of them.
    fn everything(&mut self, asked: Selection) -> anyhow::Result<Profile> {
        self.recorder.profile(&Selection { top: None, ..asked })
    }

    async fn mark(&mut self) -> anyhow::Result<()> {
        // Those that hold nothing may have allocated.
        let profile = self.everything(Selection { sort: Sort::Churn, ..self.options.selection })?;
        if let Sink::Top(top) = &mut self.sink {
            top.state.set_mark(&profile);
        }
        self.report().await.map(drop)
    }

    /// All processes have ended. If somebody looks at the last report, it stays until they have seen enough of it.
    pub(super) async fn linger(&mut self) -> anyhow::Result<()> {
        let Sink::Top(top) = &mut self.sink else { return Ok(()) };
        top.end();
        loop {
            let wish = tokio::select! {
                wish = self.sink.wish() => wish?,
                asked = self.signals.next() => match asked {
                    Asked::End(_) => return Ok(()),
                    Asked::Report => continue,
                },
            };
            if self.grant(wish).await? == Granted::End {
                return Ok(());
            }
        }
    }
}

/// Writes a report to a new file. Says of what it is.
fn save(report: &Report, path: &Path) -> anyhow::Result<String> {
    // Nobody's file is overwritten, and no link followed.
    let mut file = {
        let _raised = raise(WRITING);
        File::create_new(path).with_context(|| path.display().to_string())?
    };
    let style = Style { colour: false, time_zone: TimeZone::UTC };
    Format::of_file_name(path).write(report, &style, &mut file).with_context(|| path.display().to_string())?;
    let processes = report.processes.len();
    Ok(if processes == 1 { "1 process".to_owned() } else { format!("{processes} processes") })
}
