//! What each key does to the state.

use ratatui::layout::Rect;

use super::{State, View, Wish};
use crate::tui::{
    filter::Filter,
    frames,
    keys::Key,
    layout::{self, Parts},
    overlay::{Content, Overlay},
    prompt::{Edited, Prompt, Purpose},
    table,
};

impl State {
    /// Takes a key.
    pub fn press(&mut self, key: Key) -> Option<Wish> {
        self.message = None;
        let wish = match key {
            Key::Ctrl('c') => Some(Wish::End),
            Key::Ctrl('z') => Some(Wish::Suspend),
            Key::Ctrl('l') => Some(Wish::Redraw),
            key if self.prompt.is_some() => self.edit(key),
            key if self.overlay.is_some() => {
                self.read(key);
                None
            }
            key => self.command(key),
        };
        self.settle();
        wish
    }

    /// A key, while the user types a line.
    fn edit(&mut self, key: Key) -> Option<Wish> {
        let mut prompt = self.prompt.take()?;
        if prompt.purpose == Purpose::Filter && matches!(key, Key::Up | Key::Down | Key::PageUp | Key::PageDown) {
            self.prompt = Some(prompt);
            self.step(key);
            return None;
        }
        let edited = prompt.press(key);
        match (prompt.purpose, edited) {
            (Purpose::Filter, Edited::GivenUp) => self.set_filter(""),
            (Purpose::Filter, _) => self.set_filter(&prompt.text),
            (Purpose::Save, Edited::Done) if !prompt.text.is_empty() => return Some(Wish::Save(prompt.text.into())),
            (Purpose::Save, _) => {}
        }
        if edited == Edited::Goes {
            self.prompt = Some(prompt);
        }
        None
    }

    /// A key, while a text takes the whole screen.
    fn read(&mut self, key: Key) {
        let Some(mut overlay) = self.overlay else { return };
        let page = layout::page(self.screen);
        let lines = overlay.content.lines(self, page.width.into()).len();
        let goes_back = matches!(key, Key::Esc | Key::Enter | Key::Char('q' | '?' | '!'));
        overlay.scroll(key, lines, page.height.into());
        self.overlay = (!goes_back).then_some(overlay);
    }

    fn command(&mut self, key: Key) -> Option<Wish> {
        match key {
            Key::Char('q') => return Some(Wish::End),
            Key::Char('m') => {
                // What stands still is of a moment before the mark.
                self.paused = None;
                return Some(Wish::Mark);
            }
            Key::Char('M') => self.mark = None,
            Key::Char('w') => self.prompt = Some(Prompt::new(Purpose::Save, self.file_name())),
            Key::Char('/') => self.prompt = Some(Prompt::new(Purpose::Filter, self.filter().text())),
            Key::Char('?') => self.overlay = Some(Overlay::new(Content::Help)),
            Key::Char('!') => self.overlay = Some(Overlay::new(Content::Warnings)),
            Key::Char(' ') => self.paused = if self.paused.is_some() { None } else { Some(self.latest.clone()) },
            Key::Char('p') => self.view = View::Processes,
            Key::Char('s') => self.show_stacks(),
            Key::Tab if self.view == View::Processes => self.show_stacks(),
            Key::Tab => self.view = View::Processes,
            Key::Enter => self.enter(),
            Key::Esc => self.go_back(),
            Key::Char('J') => self.frames_scroll = (self.frames_scroll + 1).min(self.hidden_frames()),
            Key::Char('K') => self.frames_scroll = self.frames_scroll.min(self.hidden_frames()).saturating_sub(1),
            Key::Left | Key::Right => self.sort_beside(key == Key::Right),
            Key::Char('r') => self.reverse(),
            key => self.step(key),
        }
        None
    }

    fn show_stacks(&mut self) {
        self.pid = self.process().map(|process| process.pid);
        self.view = View::Stacks;
    }

    fn enter(&mut self) {
        match self.view {
            View::Processes => self.show_stacks(),
            View::Stacks => {
                let selected = self.process().map(|process| process.pid).zip(self.stack().map(|stack| stack.id));
                self.overlay = selected.map(|(pid, id)| Overlay::new(Content::Stack(pid, id)));
            }
        }
    }

    fn go_back(&mut self) {
        if !self.filter().is_empty() {
            self.set_filter("");
        } else {
            self.view = View::Processes;
        }
    }

    /// Lines of the selected stack for which there is no room.
    fn hidden_frames(&self) -> usize {
        let Rect { width, height, .. } = Parts::of(self.screen).frames;
        self.stack().map_or(0, |stack| frames::lines(stack, width.into()).len().saturating_sub(height.into()))
    }

    pub(super) fn filter(&self) -> &Filter {
        match self.view {
            View::Processes => &self.processes.filter,
            View::Stacks => &self.stacks.filter,
        }
    }

    fn set_filter(&mut self, text: &str) {
        match self.view {
            View::Processes => self.processes.filter = Filter::new(text),
            View::Stacks => self.stacks.filter = Filter::new(text),
        }
    }

    fn sort_beside(&mut self, towards_right: bool) {
        match self.view {
            View::Processes => self.processes.sort_beside(towards_right),
            View::Stacks => self.stacks.sort_beside(towards_right),
        }
        self.frames_scroll = 0;
    }

    fn reverse(&mut self) {
        match self.view {
            View::Processes => self.processes.is_reversed = !self.processes.is_reversed,
            View::Stacks => self.stacks.is_reversed = !self.stacks.is_reversed,
        }
    }

    /// Moves the selection, if the key does that.
    fn step(&mut self, key: Key) {
        let page = table::page(Parts::of(self.screen).table.height);
        let has_moved = match self.view {
            View::Processes => {
                let ids = self.process_ids();
                self.processes.step(key, &ids, page)
            }
            View::Stacks => {
                let ids = self.stack_ids();
                self.stacks.step(key, &ids, page)
            }
        };
        if has_moved {
            self.frames_scroll = 0;
        }
        if has_moved && self.view == View::Processes {
            self.stacks.forget();
        }
    }

    /// A name for a file with a profile of this moment.
    fn file_name(&self) -> String {
        let Some(report) = self.latest.report.as_deref() else { return String::new() };
        let time = report.time.to_zoned(self.looks.time_zone.clone()).strftime("%Y%m%d-%H%M%S").to_string();
        let whose = match report.processes.as_slice() {
            [process] => format!("{}-{}", in_file_name(&process.command), process.pid),
            all => format!("{}-processes", all.len()),
        };
        format!("memprof-{whose}-{time}.pb.gz")
    }
}

/// Only characters that need no quotes anywhere.
fn in_file_name(command: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || matches!(character, '.' | '_' | '-');
    command.chars().map(|character| if plain(character) { character } else { '_' }).collect()
}
