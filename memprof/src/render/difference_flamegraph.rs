//! A difference as a flame graph: frames are as wide as what they hold after, red where that is more and blue where it is less.

use std::{fmt::Write as _, io};

use super::{
    Style,
    difference_folded::folded,
    escape::visible,
    figures::{bytes, change_of_bytes},
    flamegraph::draw,
};
use crate::model::{Difference, Side};

/// Writes the flame graph of all stacks in the difference.
pub(super) fn write(difference: &Difference, style: &Style, output: &mut dyn io::Write) -> io::Result<()> {
    let stacks = folded(difference);
    let sum = |side: usize| stacks.values().fold(0, |sum: u64, both| sum.saturating_add(both[side]));
    let gone = stacks.values().filter(|both| both[1] == 0).fold(0, |sum: u64, both| sum.saturating_add(both[0]));
    let lines: Vec<_> = stacks.iter().map(|(stack, [before, after])| format!("{stack} {before} {after}")).collect();
    draw(&title(difference, sum(0), sum(1)), &subtitle(difference, gone, style), &lines, sum(1), output)
}

fn title(difference: &Difference, before: u64, after: u64) -> String {
    let [first, second] = [&difference.before, &difference.after].map(|side| visible(&side.name));
    let change = (i128::from(after) - i128::from(before)).clamp(i64::MIN.into(), i64::MAX.into()) as i64;
    format!("{first} → {second}: {} outstanding, from {} to {}", change_of_bytes(change), bytes(before), bytes(after))
}

/// What the colours mean, what cannot be seen, when it was, and what is doubtful.
fn subtitle(difference: &Difference, gone: u64, style: &Style) -> String {
    let time = |side: &Side| side.time.to_zoned(style.time_zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string();
    let mut text = "red grew, blue shrank".to_owned();
    // Writing to a string does not fail.
    if gone > 0 {
        let _ = write!(text, "; not shown: {} at stacks that hold nothing any more", bytes(gone));
    }
    let _ = write!(text, "; {} → {}", time(&difference.before), time(&difference.after));
    for warning in &difference.warnings {
        let _ = write!(text, "; {}", visible(&warning.to_string()));
    }
    text
}
