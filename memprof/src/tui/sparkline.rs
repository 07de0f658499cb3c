//! What was outstanding in a process at each report, in bounded memory, and its picture.

use std::time::Duration;

use ratatui::{buffer::Buffer, layout::Rect, text::Line, widgets::Sparkline, widgets::Widget as _};

use super::paint;
use crate::wording::figures::{bytes, duration};

/// So many values are kept at most.
const MOST: usize = 1024;

/// Room for the scale, on the left.
const SCALE: u16 = 11;

/// The most outstanding bytes within each of equal spans of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct History {
    values: Vec<u64>,
    /// How many reports each value but the last stands for.
    reports_per_value: u32,
    /// And the last one.
    reports_of_last: u32,
    first: Duration,
    last: Duration,
}

impl History {
    /// Adds what was outstanding at a report, so long after the beginning.
    pub(super) fn push(&mut self, elapsed: Duration, bytes: u64) {
        if self.values.is_empty() {
            self.reports_per_value = 1;
            self.first = elapsed;
        }
        self.last = elapsed;
        match self.values.last_mut() {
            Some(last) if self.reports_of_last < self.reports_per_value => {
                *last = bytes.max(*last);
                self.reports_of_last += 1;
            }
            _ => {
                self.make_room();
                self.values.push(bytes);
                self.reports_of_last = 1;
            }
        }
    }

    /// From now on each value stands for twice as many reports.
    fn make_room(&mut self) {
        if self.values.len() == MOST {
            self.values = compressed(&self.values, MOST / 2);
            self.reports_per_value *= 2;
        }
    }

    fn span(&self) -> Duration {
        self.last.saturating_sub(self.first)
    }
}

/// The same in so many values: of each that become one, the most. As many as there are if that is fewer.
fn compressed(values: &[u64], width: usize) -> Vec<u64> {
    if values.len() <= width {
        return values.to_vec();
    }
    let start = |place: usize| place * values.len() / width;
    (0..width).map(|place| values[start(place)..start(place + 1)].iter().copied().max().unwrap_or(0)).collect()
}

/// Draws it from its beginning to now, on a scale that begins at nothing.
pub(super) fn draw(history: &History, area: Rect, buffer: &mut Buffer) {
    if area.is_empty() || area.width <= SCALE + 1 {
        return;
    }
    let picture = Rect { x: area.x + SCALE, width: area.width - SCALE, ..area };
    let values = compressed(&history.values, picture.width.into());
    let most = values.iter().copied().max().unwrap_or(0);
    let scale = format!("{:>10}", bytes(most));
    buffer.set_stringn(area.x, area.y, scale, SCALE.into(), paint::FAINT);
    if area.height > 1 {
        let span = format!("{:>10}", format!("in {}", duration(history.span())));
        buffer.set_line(area.x, area.bottom() - 1, &Line::styled(span, paint::FAINT), SCALE);
    }
    Sparkline::default().data(values).max(most.max(1)).style(paint::FIGURE).render(picture, buffer);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(values: impl IntoIterator<Item = u64>) -> History {
        let mut history = History::default();
        for (second, value) in (0..).zip(values) {
            history.push(Duration::from_secs(second), value);
        }
        history
    }

    #[test]
    fn a_short_history_is_kept_as_it_is() {
        let history = history(0..MOST as u64);
        assert_eq!(history.values, (0..MOST as u64).collect::<Vec<_>>());
        assert_eq!(history.span(), Duration::from_secs(MOST as u64 - 1));
    }

    #[test]
    fn a_long_one_keeps_its_peaks_in_bounded_memory() {
        let reports = 100_000;
        let history = history((0..reports).map(|report| if report == 77_777 { 1000 } else { report / 1000 }));
        assert!(history.values.len() <= MOST);
        assert!(history.values.len() > MOST / 2);
        assert_eq!(history.values.iter().max(), Some(&1000));
        let place = history.values.iter().position(|value| *value == 1000).expect("the peak");
        assert_eq!(place as u32, 77_777 / history.reports_per_value);
    }

    #[test]
    fn what_is_narrower_shows_the_peaks() {
        assert_eq!(compressed(&[1, 9, 2, 3, 4, 5], 3), [9, 3, 5]);
        assert_eq!(compressed(&[1, 9, 2, 3, 4], 3), [1, 9, 4]);
        assert_eq!(compressed(&[1, 2], 3), [1, 2]);
        assert!(compressed(&[1], 0).is_empty());
    }
}
