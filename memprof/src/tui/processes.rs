//! The table of processes.

use std::cmp::Ordering;

use ratatui::layout::Alignment;

use super::{
    cells::{number, rate, size},
    courses,
    listing::{Column, Row},
    mark::{Figures, figures_of_process},
    paint,
    state::Shown,
    table::{Cell, Drawn},
};
use crate::{
    model::{Course, Frame, ProcessSnapshot},
    wording::{escape::visible, figures::percent},
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProcessColumn {
    Pid,
    Bytes,
    Allocations,
    Growth,
    Course,
    Cost,
    Command,
}

impl Column for ProcessColumn {
    const ALL: &'static [Self] =
        &[Self::Pid, Self::Bytes, Self::Allocations, Self::Growth, Self::Course, Self::Cost, Self::Command];

    fn is_ascending(self) -> bool {
        matches!(self, Self::Pid | Self::Command | Self::Course)
    }

    fn drawn(self, is_difference: bool) -> Drawn {
        let since = if is_difference { "+" } else { "" };
        let (title, width, rank, alignment) = match self {
            Self::Pid => ("pid".to_owned(), Some(8), 1, Alignment::Right),
            Self::Bytes => (format!("{since}bytes"), Some(11), 0, Alignment::Right),
            Self::Allocations => (format!("{since}allocs"), Some(8), 4, Alignment::Right),
            Self::Growth => ("growth/s".to_owned(), Some(11), 2, Alignment::Right),
            Self::Course => ("verdict".to_owned(), Some(9), 3, Alignment::Left),
            Self::Cost => ("cost".to_owned(), Some(8), 5, Alignment::Right),
            Self::Command => ("command".to_owned(), None, 0, Alignment::Left),
        };
        Drawn { title, width, rank, alignment }
    }
}

/// A process in the table.
#[derive(Clone, Debug)]
pub(super) struct ProcessRow<'a> {
    pub(super) process: &'a ProcessSnapshot<Frame>,
    figures: Figures,
    is_difference: bool,
}

impl Row for ProcessRow<'_> {
    type Id = u32;
    type Column = ProcessColumn;

    fn id(&self) -> u32 {
        self.process.pid
    }

    fn compare(&self, other: &Self, column: ProcessColumn) -> Ordering {
        let (one, two) = (self.figures, other.figures);
        match column {
            ProcessColumn::Pid => self.process.pid.cmp(&other.process.pid),
            ProcessColumn::Bytes => one.bytes.cmp(&two.bytes),
            ProcessColumn::Allocations => one.allocations.cmp(&two.allocations),
            ProcessColumn::Growth => one.bytes_per_second.total_cmp(&two.bytes_per_second),
            ProcessColumn::Course => courses::rank(self.course()).cmp(&courses::rank(other.course())),
            ProcessColumn::Cost => self.cost().total_cmp(&other.cost()),
            ProcessColumn::Command => self.process.command.cmp(&other.process.command),
        }
    }

    fn cell(&self, column: ProcessColumn) -> Cell {
        let Figures { bytes, allocations, bytes_per_second, .. } = self.figures;
        match column {
            ProcessColumn::Pid => Cell::plain(self.process.pid.to_string()),
            ProcessColumn::Bytes => Cell { text: size(bytes, self.is_difference), style: paint::FIGURE },
            ProcessColumn::Allocations => Cell::plain(number(allocations, self.is_difference)),
            ProcessColumn::Growth => Cell::plain(rate(bytes_per_second)),
            ProcessColumn::Course if self.process.exited => Cell { text: "exited".to_owned(), style: paint::FAINT },
            ProcessColumn::Course => courses::cell(self.course()),
            ProcessColumn::Cost => Cell::plain(match self.cost() {
                ..0.0 => "?".to_owned(),
                share => format!("~{}", percent(share)),
            }),
            ProcessColumn::Command => Cell { text: visible(&self.process.command).into_owned(), style: paint::NAME },
        }
    }
}

impl ProcessRow<'_> {
    fn course(&self) -> Course {
        self.process.verdict.trend.course
    }

    fn cost(&self) -> f64 {
        self.process.overhead.and_then(|overhead| overhead.share()).unwrap_or(-1.0)
    }
}

/// The processes that are shown, in order.
pub(super) fn rows<'a>(shown: &Shown<'a>) -> Vec<ProcessRow<'a>> {
    let listing = shown.processes;
    let admitted = shown.report.processes.iter().filter(|process| listing.filter.admits_process(process));
    let row = |process: &'a ProcessSnapshot<Frame>| ProcessRow {
        process,
        figures: figures_of_process(shown.mark, shown.report, process),
        is_difference: shown.mark.is_some(),
    };
    let mut rows: Vec<_> = admitted.map(row).collect();
    listing.sort(&mut rows);
    rows
}
