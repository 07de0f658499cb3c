//! What is shown, as a function of the reports that came and the keys that were pressed.

mod press;
mod shown;

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    rc::Rc,
};

use jiff::tz::TimeZone;
use ratatui::layout::Rect;

use super::{
    listing::{Listing, Row as _},
    mark::{Mark, of_process},
    overlay::Overlay,
    processes::{self, ProcessColumn},
    prompt::Prompt,
    sparkline::History,
    stacks::{self, StackColumn},
};
use crate::model::{Report, Selection, Snapshot, Sort, StackId};

/// Stacks of each process in a report, usually; and where those are wanted that grow or have a name, however little they hold.
const STACKS: usize = 500;
const STACKS_TO_SEARCH: usize = 5000;

/// So many messages are kept.
const MESSAGES: usize = 200;

/// What the terminal can show, and where its user is.
#[derive(Clone, Debug)]
pub struct Looks {
    /// Whether it is to have colours.
    pub colour: bool,
    /// Whether it knows more than ASCII.
    pub unicode: bool,
    /// Times of day are local to it.
    pub time_zone: TimeZone,
}

/// What the user wants that this module cannot do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The end.
    End,
    /// To be back at the shell for a while.
    Suspend,
    /// That everything is drawn again.
    Redraw,
    /// That [`State::set_mark`] is called with what is outstanding now, and with a new report.
    Mark,
    /// A profile of now in this file.
    Save(PathBuf),
}

/// Which table is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum View {
    Processes,
    Stacks,
}

/// A report, and what was outstanding before it.
#[derive(Clone, Debug, Default)]
struct Moment {
    report: Option<Rc<Report>>,
    histories: BTreeMap<u32, History>,
}

/// All that the tables are made of.
pub(super) struct Shown<'a> {
    pub(super) report: &'a Report,
    pub(super) mark: Option<&'a Mark>,
    pub(super) processes: &'a Listing<u32, ProcessColumn>,
    pub(super) stacks: &'a Listing<StackId, StackColumn>,
}

/// What is shown, and all that depends on.
#[derive(Clone, Debug)]
pub struct State {
    looks: Looks,
    screen: Rect,
    view: View,
    processes: Listing<u32, ProcessColumn>,
    stacks: Listing<StackId, StackColumn>,
    /// Whose stacks are shown.
    pid: Option<u32>,
    frames_scroll: usize,
    overlay: Option<Overlay>,
    prompt: Option<Prompt>,
    latest: Moment,
    /// What is shown instead, while the view stands still.
    paused: Option<Moment>,
    is_over: bool,
    mark: Option<Mark>,
    message: Option<String>,
    messages: VecDeque<String>,
}

impl State {
    /// Nothing to show yet, sorted by this.
    pub fn new(looks: Looks, sort: Sort) -> Self {
        let (of_processes, of_stacks) = match sort {
            Sort::Allocations => (ProcessColumn::Allocations, StackColumn::Allocations),
            Sort::Growth => (ProcessColumn::Growth, StackColumn::Growth),
            Sort::Age => (ProcessColumn::Bytes, StackColumn::Age),
            Sort::Churn => (ProcessColumn::Bytes, StackColumn::Total),
            Sort::Bytes | Sort::Temporary | Sort::Peak => (ProcessColumn::Bytes, StackColumn::Bytes),
        };
        Self {
            looks,
            screen: Rect::new(0, 0, 80, 24),
            view: View::Processes,
            processes: Listing::sorted_by(of_processes),
            stacks: Listing::sorted_by(of_stacks),
            pid: None,
            frames_scroll: 0,
            overlay: None,
            prompt: None,
            latest: Moment::default(),
            paused: None,
            is_over: false,
            mark: None,
            message: None,
            messages: VecDeque::new(),
        }
    }

    /// The terminal has so many columns and lines now.
    pub fn resize(&mut self, columns: u16, lines: u16) {
        self.screen = Rect::new(0, 0, columns, lines);
    }

    /// Takes a report.
    pub fn take(&mut self, report: Report) {
        let Moment { report: previous, histories } = &mut self.latest;
        for process in &report.processes {
            histories.entry(process.pid).or_default().push(report.elapsed, of_process(process).bytes);
        }
        histories.retain(|pid, _| report.processes.iter().any(|process| process.pid == *pid));
        if previous.is_none() && report.processes.len() == 1 {
            (self.view, self.pid) = (View::Stacks, report.processes.first().map(|process| process.pid));
        }
        *previous = Some(Rc::new(report));
        self.settle();
    }

    /// From now on figures are differences to this moment's, whose snapshot must have all stacks.
    pub fn set_mark<F>(&mut self, now: &Snapshot<F>) {
        self.mark = Some(Mark::of(now));
    }

    /// Nothing more will happen: all processes have ended.
    pub fn end(&mut self) {
        self.is_over = true;
    }

    /// Says something in the last line, until a key is pressed; and keeps it.
    pub fn say(&mut self, message: String) {
        if self.messages.len() == MESSAGES {
            self.messages.pop_front();
        }
        self.messages.push_back(message.clone());
        self.message = Some(message);
    }

    /// What the next report is to have in it, within what was asked for in the beginning.
    pub fn selection(&self, asked: &Selection) -> Selection {
        let sort = match self.stacks.column {
            StackColumn::Bytes | StackColumn::Course | StackColumn::Functions => Sort::Bytes,
            StackColumn::Allocations => Sort::Allocations,
            StackColumn::Growth => Sort::Growth,
            StackColumn::Age => Sort::Age,
            StackColumn::Total => Sort::Churn,
        };
        let searches = self.mark.is_some() || !self.stacks.filter.is_empty() || !self.processes.filter.is_empty();
        Selection { top: Some(if searches { STACKS_TO_SEARCH } else { STACKS }), sort, ..*asked }
    }

    /// Remembers where what is selected is now.
    fn settle(&mut self) {
        let (processes, stacks) = (self.process_ids(), self.stack_ids());
        self.processes.settle(&processes);
        self.stacks.settle(&stacks);
    }

    fn process_ids(&self) -> Vec<u32> {
        self.shown().map(|shown| processes::rows(&shown).iter().map(|row| row.id()).collect()).unwrap_or_default()
    }

    fn stack_ids(&self) -> Vec<StackId> {
        let shown = self.shown().zip(self.process());
        let ids = shown.map(|(shown, process)| stacks::rows(&shown, process).iter().map(|row| row.id()).collect());
        ids.unwrap_or_default()
    }
}
