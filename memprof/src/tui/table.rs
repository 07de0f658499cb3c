//! A table as it is drawn: which columns there is room for, and a page of rows.

use ratatui::{
    buffer::Buffer,
    layout::{Alignment, Rect},
    style::Style,
    text::Line,
};

use super::paint;

/// Columns that take what is left get at least this, or others go.
const LEAST_REST: u16 = 16;

/// Between columns.
const GAP: u16 = 1;

/// A column as it is drawn.
#[derive(Clone, Debug)]
pub(super) struct Drawn {
    pub(super) title: String,
    /// Nothing for the one that takes what is left, which there must be one of.
    pub(super) width: Option<u16>,
    /// Those with the highest number go first where there is no room.
    pub(super) rank: u8,
    pub(super) alignment: Alignment,
}

/// What stands in one place.
#[derive(Clone, Debug, Default)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) style: Style,
}

impl Cell {
    pub(super) fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), style: paint::PLAIN }
    }
}

/// A table, of which only the rows that are seen are asked for.
pub(super) struct Table<'a> {
    pub(super) columns: Vec<Drawn>,
    /// By which column it is sorted, and whether downwards.
    pub(super) sorted: (usize, bool),
    pub(super) rows: usize,
    pub(super) selected: usize,
    /// What stands in a row and a column.
    pub(super) cell: &'a dyn Fn(usize, usize) -> Cell,
    /// What is said if there are no rows.
    pub(super) if_empty: &'a str,
}

/// Rows that fit into a table of this height.
pub(super) fn page(height: u16) -> usize {
    usize::from(height.saturating_sub(1))
}

impl Table<'_> {
    pub(super) fn draw(&self, area: Rect, buffer: &mut Buffer) {
        if area.is_empty() {
            return;
        }
        let columns = self.columns_that_fit(area.width);
        self.draw_titles(&columns, Rect { height: 1, ..area }, buffer);
        let page = page(area.height);
        if page == 0 {
            return;
        }
        if self.rows == 0 {
            buffer.set_stringn(area.x, area.y + 1, self.if_empty, area.width.into(), paint::FAINT);
        }
        let first = self.selected - self.selected % page;
        for (line, row) in (first..self.rows.min(first + page)).enumerate() {
            let place = Rect { y: area.y + 1 + line as u16, height: 1, ..area };
            self.draw_row(row, &columns, place, buffer);
        }
    }

    /// With the width of each. The column by which the table is sorted stays.
    fn columns_that_fit(&self, width: u16) -> Vec<(usize, u16)> {
        let mut places: Vec<_> = (0..self.columns.len()).collect();
        let needed = |places: &[usize]| {
            let widths = places.iter().map(|place| self.columns[*place].width.unwrap_or(LEAST_REST) + GAP);
            widths.sum::<u16>() - GAP
        };
        while needed(&places) > width {
            let goes = |place: &&usize| self.columns[**place].width.is_some() && **place != self.sorted.0;
            let Some(worst) = places.iter().filter(goes).max_by_key(|place| self.columns[**place].rank).copied() else {
                break;
            };
            places.retain(|place| *place != worst);
        }
        let rest = LEAST_REST + width.saturating_sub(needed(&places));
        places.into_iter().map(|place| (place, self.columns[place].width.unwrap_or(rest))).collect()
    }

    fn draw_titles(&self, columns: &[(usize, u16)], area: Rect, buffer: &mut Buffer) {
        let title = |place: usize| {
            let Drawn { title, .. } = &self.columns[place];
            let (sorted, is_downwards) = self.sorted;
            let text = match (place == sorted, is_downwards) {
                (true, true) => format!("{title}▼"),
                (true, false) => format!("{title}▲"),
                (false, _) => title.clone(),
            };
            Cell { text, style: if place == sorted { paint::TITLE } else { paint::FAINT } }
        };
        self.draw_cells(columns, title, area, buffer);
    }

    fn draw_row(&self, row: usize, columns: &[(usize, u16)], area: Rect, buffer: &mut Buffer) {
        self.draw_cells(columns, |place| (self.cell)(row, place), area, buffer);
        if row == self.selected {
            buffer.set_style(area, paint::SELECTED);
        }
    }

    fn draw_cells(&self, columns: &[(usize, u16)], cell: impl Fn(usize) -> Cell, area: Rect, buffer: &mut Buffer) {
        let mut x = area.x;
        for (place, width) in columns {
            let width = (*width).min(area.right().saturating_sub(x));
            let Cell { text, style } = cell(*place);
            let line = Line::styled(text, style);
            let free = width.saturating_sub(line.width() as u16);
            let indent = if self.columns[*place].alignment == Alignment::Right { free } else { 0 };
            buffer.set_line(x + indent, area.y, &line, width - indent);
            x = (x + width + GAP).min(area.right());
        }
    }
}
