//! The table of one process's stacks.

use std::{borrow::Cow, cmp::Ordering};

use ratatui::layout::Alignment;

use super::{
    cells::{number, rate, size},
    courses,
    listing::{Column, Row},
    mark::{Figures, figures_of_stack},
    paint,
    state::Shown,
    table::{Cell, Drawn},
};
use crate::{
    model::{Frame, ProcessSnapshot, StackId, StackSnapshot},
    wording::{escape::visible, figures::duration},
};

/// So many functions are named in a row.
const FUNCTIONS: usize = 6;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StackColumn {
    Bytes,
    Allocations,
    Growth,
    Age,
    Total,
    Course,
    Functions,
}

impl Column for StackColumn {
    const ALL: &'static [Self] =
        &[Self::Bytes, Self::Allocations, Self::Growth, Self::Age, Self::Total, Self::Course, Self::Functions];

    fn is_ascending(self) -> bool {
        matches!(self, Self::Course | Self::Functions)
    }

    fn drawn(self, is_difference: bool) -> Drawn {
        let since = if is_difference { "+" } else { "" };
        let (title, width, rank, alignment) = match self {
            Self::Bytes => (format!("{since}bytes"), Some(11), 0, Alignment::Right),
            Self::Allocations => (format!("{since}allocs"), Some(8), 3, Alignment::Right),
            Self::Growth => ("growth/s".to_owned(), Some(11), 1, Alignment::Right),
            Self::Age => ("oldest".to_owned(), Some(7), 4, Alignment::Right),
            Self::Total => (format!("{since}total"), Some(7), 5, Alignment::Right),
            Self::Course => ("course".to_owned(), Some(9), 2, Alignment::Left),
            Self::Functions => ("function".to_owned(), None, 0, Alignment::Left),
        };
        Drawn { title, width, rank, alignment }
    }
}

/// A stack in the table.
#[derive(Clone, Debug)]
pub(super) struct StackRow<'a> {
    pub(super) stack: &'a StackSnapshot<Frame>,
    pub(super) figures: Figures,
    is_difference: bool,
}

impl Row for StackRow<'_> {
    type Id = StackId;
    type Column = StackColumn;

    fn id(&self) -> StackId {
        self.stack.id
    }

    fn compare(&self, other: &Self, column: StackColumn) -> Ordering {
        let (one, two) = (self.figures, other.figures);
        match column {
            StackColumn::Bytes => one.bytes.cmp(&two.bytes),
            StackColumn::Allocations => one.allocations.cmp(&two.allocations),
            StackColumn::Growth => one.bytes_per_second.total_cmp(&two.bytes_per_second),
            StackColumn::Age => self.stack.ages.oldest.cmp(&other.stack.ages.oldest),
            StackColumn::Total => one.total.cmp(&two.total),
            StackColumn::Course => courses::rank(self.stack.trend.course).cmp(&courses::rank(other.stack.trend.course)),
            StackColumn::Functions => names(self.stack).cmp(names(other.stack)),
        }
    }

    fn cell(&self, column: StackColumn) -> Cell {
        let Figures { bytes, allocations, bytes_per_second, total } = self.figures;
        match column {
            StackColumn::Bytes => Cell { text: size(bytes, self.is_difference), style: paint::FIGURE },
            StackColumn::Allocations => Cell::plain(number(allocations, self.is_difference)),
            StackColumn::Growth => Cell::plain(rate(bytes_per_second)),
            StackColumn::Age => Cell::plain(duration(self.stack.ages.oldest)),
            StackColumn::Total => {
                Cell::plain(total.map_or("?".to_owned(), |total| {
                    number(i64::try_from(total).unwrap_or(i64::MAX), self.is_difference)
                }))
            }
            StackColumn::Course => courses::cell(self.stack.trend.course),
            StackColumn::Functions => Cell { text: functions(self.stack), style: paint::NAME },
        }
    }
}

fn names(stack: &StackSnapshot<Frame>) -> impl Iterator<Item = Option<&str>> {
    stack.frames.iter().map(|frame| frame.function.as_deref())
}

/// The first functions, each followed by its caller.
pub(super) fn functions(stack: &StackSnapshot<Frame>) -> String {
    if stack.frames.is_empty() {
        return "[stack lost]".to_owned();
    }
    let functions = names(stack).map(|name| name.map_or(Cow::Borrowed("[unknown]"), visible));
    functions.take(FUNCTIONS).collect::<Vec<_>>().join(" ← ")
}

/// The stacks of a process that are shown, in order.
pub(super) fn rows<'a>(shown: &Shown<'a>, process: &'a ProcessSnapshot<Frame>) -> Vec<StackRow<'a>> {
    let listing = shown.stacks;
    let admitted = process.stacks.iter().filter(|stack| listing.filter.admits_stack(stack));
    let row = |stack: &'a StackSnapshot<Frame>| StackRow {
        stack,
        figures: figures_of_stack(shown.mark, shown.report, process.pid, stack),
        is_difference: shown.mark.is_some(),
    };
    let mut rows: Vec<_> = admitted.map(row).collect();
    listing.sort(&mut rows);
    rows
}
