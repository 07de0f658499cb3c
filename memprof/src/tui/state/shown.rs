//! What drawing goes by.

use jiff::tz::TimeZone;

use super::{Looks, Moment, Shown, State, View};
use crate::{
    model::{Frame, ProcessSnapshot, Report, StackSnapshot},
    tui::{filter::Filter, mark::Mark, overlay::Overlay, processes, prompt::Prompt, sparkline::History, stacks},
};

impl State {
    fn moment(&self) -> &Moment {
        self.paused.as_ref().unwrap_or(&self.latest)
    }

    pub(in crate::tui) fn looks(&self) -> &Looks {
        &self.looks
    }

    pub(in crate::tui) fn time_zone(&self) -> &TimeZone {
        &self.looks.time_zone
    }

    pub(in crate::tui) fn report(&self) -> Option<&Report> {
        self.moment().report.as_deref()
    }

    pub(in crate::tui) fn shown(&self) -> Option<Shown<'_>> {
        let report = self.report()?;
        Some(Shown { report, mark: self.mark.as_ref(), processes: &self.processes, stacks: &self.stacks })
    }

    pub(in crate::tui) fn history(&self, pid: u32) -> Option<&History> {
        self.moment().histories.get(&pid)
    }

    pub(in crate::tui) fn process_of(&self, pid: u32) -> Option<&ProcessSnapshot<Frame>> {
        self.report()?.processes.iter().find(|process| process.pid == pid)
    }

    /// The process that is selected, or whose stacks are shown.
    pub(in crate::tui) fn process(&self) -> Option<&ProcessSnapshot<Frame>> {
        let whose_stacks = self.pid.filter(|_| self.view == View::Stacks);
        if let Some(process) = whose_stacks.and_then(|pid| self.process_of(pid)) {
            return Some(process);
        }
        let rows = processes::rows(&self.shown()?);
        let place = self.processes.place_in(&rows)?;
        rows.get(place).map(|row| row.process)
    }

    /// The stack that is selected.
    pub(in crate::tui) fn stack(&self) -> Option<&StackSnapshot<Frame>> {
        let rows = stacks::rows(&self.shown()?, self.process()?);
        let place = self.stacks.place_in(&rows)?;
        rows.get(place).map(|row| row.stack)
    }

    pub(in crate::tui) fn view(&self) -> View {
        self.view
    }

    pub(in crate::tui) fn active_filter(&self) -> &Filter {
        self.filter()
    }

    pub(in crate::tui) fn frames_scroll(&self) -> usize {
        self.frames_scroll
    }

    pub(in crate::tui) fn overlay(&self) -> Option<Overlay> {
        self.overlay
    }

    pub(in crate::tui) fn prompt(&self) -> Option<&Prompt> {
        self.prompt.as_ref()
    }

    pub(in crate::tui) fn mark(&self) -> Option<&Mark> {
        self.mark.as_ref()
    }

    pub(in crate::tui) fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    pub(in crate::tui) fn is_over(&self) -> bool {
        self.is_over
    }

    pub(in crate::tui) fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    pub(in crate::tui) fn messages(&self) -> impl Iterator<Item = &str> {
        self.messages.iter().map(String::as_str)
    }
}
