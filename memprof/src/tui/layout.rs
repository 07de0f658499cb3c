//! Which part of the screen is whose.

use ratatui::layout::{Constraint, Layout, Rect};

/// Nothing is shown on a smaller terminal but that it is too small.
pub(super) const LEAST: (u16, u16) = (40, 8);

/// Verdicts are sentences. On narrower terminals they take two lines, if there are enough.
const WIDE_ENOUGH_FOR_A_VERDICT: u16 = 140;

/// The parts, from top to bottom. Some are empty where there is little room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parts {
    pub(super) observation: Rect,
    pub(super) process: Rect,
    pub(super) verdict: Rect,
    pub(super) sparkline: Rect,
    pub(super) table: Rect,
    pub(super) divider: Rect,
    pub(super) frames: Rect,
    pub(super) bottom: Rect,
}

impl Parts {
    pub(super) fn of(screen: Rect) -> Self {
        let verdict = match (screen.height, screen.width) {
            (..16, _) => 0,
            (24.., ..WIDE_ENOUGH_FOR_A_VERDICT) => 2,
            _ => 1,
        };
        let sparkline = match screen.height {
            ..12 => 0,
            12..20 => 1,
            20..36 => 2,
            36.. => 4,
        };
        let divider = u16::from(screen.height >= 14);
        let rest = screen.height.saturating_sub(3 + verdict + sparkline + divider);
        let frames = if divider == 0 { 0 } else { rest / 2 };
        let heights = [1, 1, verdict, sparkline, rest - frames, divider, frames, 1].map(Constraint::Length);
        let [observation, process, verdict, sparkline, table, divider, frames, bottom] =
            Layout::vertical(heights).areas(screen);
        Self { observation, process, verdict, sparkline, table, divider, frames, bottom }
    }
}

/// Where a text that takes the whole screen stands, below its title and above the last line.
pub(super) fn page(screen: Rect) -> Rect {
    Rect { y: screen.y + 1, height: screen.height.saturating_sub(2), ..screen }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_is_somebodys() {
        for (width, height) in (LEAST.1..200).flat_map(|height| [(80, height), (200, height)]) {
            let parts = Parts::of(Rect::new(0, 0, width, height));
            let Parts { observation, process, verdict, sparkline, table, divider, frames, bottom } = parts;
            let all = [observation, process, verdict, sparkline, table, divider, frames, bottom];
            assert_eq!(all.iter().map(|part| part.height).sum::<u16>(), height);
            assert_eq!(bottom, Rect::new(0, height - 1, width, 1));
            assert!(table.height >= 4, "{height}");
        }
    }
}
