//! A table's own state: how it is sorted, what is selected, and what it is filtered by.

use std::cmp::Ordering;

use super::{
    filter::Filter,
    keys::Key,
    table::{Cell, Drawn},
};

/// A column of a table.
pub(super) trait Column: Copy + PartialEq + 'static {
    /// From left to right.
    const ALL: &'static [Self];

    /// Whether the least comes first, as with names.
    fn is_ascending(self) -> bool;

    /// How it is drawn; figures can be differences.
    fn drawn(self, is_difference: bool) -> Drawn;
}

/// A row: what it is of, and its place in the order by a column.
pub(super) trait Row {
    type Id: Copy + PartialEq;
    type Column: Column;

    fn id(&self) -> Self::Id;

    /// By this column, least first.
    fn compare(&self, other: &Self, column: Self::Column) -> Ordering;

    /// What stands in this column.
    fn cell(&self, column: Self::Column) -> Cell;
}

#[derive(Clone, Debug)]
pub(super) struct Listing<I, C> {
    pub(super) column: C,
    pub(super) is_reversed: bool,
    pub(super) filter: Filter,
    /// Nothing is always the first row, whichever that is.
    selected: Option<I>,
    /// Where the selected row was last; what takes its place is selected when it is gone.
    position: usize,
}

impl<I: Copy + PartialEq, C: Column> Listing<I, C> {
    pub(super) fn sorted_by(column: C) -> Self {
        Self { column, is_reversed: false, filter: Filter::default(), selected: None, position: 0 }
    }

    /// Sorts rows. Those that are equal stay in their order.
    pub(super) fn sort<R: Row<Id = I, Column = C>>(&self, rows: &mut [R]) {
        let ascends = self.column.is_ascending() != self.is_reversed;
        rows.sort_by(|one, other| {
            let order = one.compare(other, self.column);
            if ascends { order } else { order.reverse() }
        });
    }

    /// The column's place, and whether the greatest comes first.
    pub(super) fn sorted(&self) -> (usize, bool) {
        let place = C::ALL.iter().position(|column| *column == self.column).unwrap_or(0);
        (place, self.column.is_ascending() == self.is_reversed)
    }

    /// The place of the selected row.
    pub(super) fn place_in<R: Row<Id = I>>(&self, rows: &[R]) -> Option<usize> {
        self.place(&rows.iter().map(Row::id).collect::<Vec<_>>())
    }

    /// The place of the selected row among these.
    fn place(&self, ids: &[I]) -> Option<usize> {
        let last = ids.len().checked_sub(1)?;
        let Some(selected) = self.selected else { return Some(0) };
        let found = ids.iter().position(|id| *id == selected);
        Some(found.unwrap_or(self.position.min(last)))
    }

    /// Remembers where the selected row is, after rows have changed.
    pub(super) fn settle(&mut self, ids: &[I]) {
        let Some(place) = self.place(ids) else { return };
        self.position = place;
        self.selected = self.selected.and_then(|_| ids.get(place).copied());
    }

    /// Selects the first row, whichever comes to be that.
    pub(super) fn forget(&mut self) {
        (self.selected, self.position) = (None, 0);
    }

    /// Moves the selection. Says whether the key was one that does.
    pub(super) fn step(&mut self, key: Key, ids: &[I], page: usize) -> bool {
        let page = page.max(1);
        let place = self.place(ids).unwrap_or(0);
        let target = match key {
            Key::Up | Key::Char('k') => place.saturating_sub(1),
            Key::Down | Key::Char('j') => place.saturating_add(1),
            Key::PageUp => place.saturating_sub(page),
            Key::PageDown => place.saturating_add(page),
            Key::Home | Key::Char('g') => {
                self.forget();
                return true;
            }
            Key::End | Key::Char('G') => usize::MAX,
            _ => return false,
        };
        self.position = target.min(ids.len().saturating_sub(1));
        self.selected = ids.get(self.position).copied();
        true
    }

    /// Sorts by the next column that way.
    pub(super) fn sort_beside(&mut self, towards_right: bool) {
        let columns = C::ALL;
        let (place, _) = self.sorted();
        let step = if towards_right { 1 } else { columns.len() - 1 };
        self.column = columns[(place + step) % columns.len()];
        self.is_reversed = false;
        self.forget();
    }
}
