//! The outstanding bytes of a process over time, as a chart that a browser draws at any width.
//!
//! Labels are placed by percentages, and the line is in an SVG of its own that is stretched: so the text is not.

use std::{fmt::Write as _, time::Duration};

use maud::{Markup, html};

use super::{
    super::figures::{bytes, duration},
    ticks,
};
use crate::model::{Frame, HistoryPoint, ProcessSnapshot};

/// Units of the stretched SVG, both ways.
const SIDE: f64 = 10_000.0;

/// Height of the plot in pixels, and above it that of a label.
const HEIGHT: f64 = 150.0;
const ABOVE: f64 = 18.0;

/// The chart, if more than one moment is known.
pub(super) fn timeline(process: &ProcessSnapshot<Frame>, elapsed: Duration) -> Markup {
    let Some(last) = process.history.last().filter(|_| process.history.len() > 1) else { return html! {} };
    let scale = Scale::new(process, elapsed.max(last.elapsed));
    html! {
        figure.timeline {
            figcaption { "Outstanding bytes over time" }
            svg width="100%" height="192" role="img" aria-label=(in_words(process)) {
                (vertical_axis(&scale))
                (horizontal_axis(&scale))
                svg y=(ABOVE) width="100%" height=(HEIGHT) viewBox={ "0 0 " (SIDE) " " (SIDE) } preserveAspectRatio="none" {
                    path.area d=(area(&process.history, &scale)) {}
                    path.line d=(line(&process.history, &scale)) vector-effect="non-scaling-stroke" {}
                }
                (peak(process, &scale))
            }
        }
    }
}

/// From time and bytes to shares of the plot, from 0 to 1.
struct Scale {
    elapsed: Duration,
    most: u64,
}

impl Scale {
    fn new(process: &ProcessSnapshot<Frame>, elapsed: Duration) -> Self {
        let most = process.history.iter().map(|point| point.bytes).max().unwrap_or(0);
        Self { elapsed, most: most.max(process.peak.outstanding.bytes).max(1) }
    }

    fn x(&self, elapsed: Duration) -> f64 {
        elapsed.as_secs_f64() / self.elapsed.as_secs_f64().max(f64::MIN_POSITIVE)
    }

    /// From the top.
    fn y(&self, bytes: u64) -> f64 {
        1.0 - bytes as f64 / self.most as f64
    }

    fn percent(&self, elapsed: Duration) -> String {
        format!("{:.2}%", self.x(elapsed) * 100.0)
    }

    fn pixel(&self, bytes: u64) -> f64 {
        (ABOVE + self.y(bytes) * HEIGHT).round()
    }
}

fn line(history: &[HistoryPoint], scale: &Scale) -> String {
    let mut path = String::new();
    for (place, HistoryPoint { elapsed, bytes }) in history.iter().enumerate() {
        let letter = if place == 0 { 'M' } else { 'L' };
        // Writing to a string does not fail.
        let _ = write!(path, "{letter}{:.0} {:.0}", scale.x(*elapsed) * SIDE, scale.y(*bytes) * SIDE);
    }
    path
}

fn area(history: &[HistoryPoint], scale: &Scale) -> String {
    let [first, last] =
        [history.first(), history.last()].map(|point| point.map_or(0.0, |point| scale.x(point.elapsed)));
    format!("{}L{:.0} {SIDE}L{:.0} {SIDE}Z", line(history, scale), last * SIDE, first * SIDE)
}

fn vertical_axis(scale: &Scale) -> Markup {
    html! {
        @for tick in ticks::of_bytes(scale.most) {
            @let y = scale.pixel(tick);
            line.grid x1="0" x2="100%" y1=(y) y2=(y) {}
            @if tick > 0 { text x="0" y=(y - 4.0) { (bytes(tick)) } }
        }
    }
}

fn horizontal_axis(scale: &Scale) -> Markup {
    let y = ABOVE + HEIGHT + 18.0;
    html! {
        @for tick in ticks::of_time(scale.elapsed) {
            @let share = scale.x(tick);
            text x=(scale.percent(tick)) y=(y) text-anchor=(anchor(share)) { (duration(tick)) }
        }
    }
}

/// Where the process held most, if that is not all that can be seen.
fn peak(process: &ProcessSnapshot<Frame>, scale: &Scale) -> Markup {
    let peak = process.peak;
    let (x, y) = (scale.percent(peak.elapsed), scale.pixel(peak.outstanding.bytes));
    let share = scale.x(peak.elapsed);
    html! {
        @if peak.outstanding.bytes > 0 && share <= 1.0 {
            circle.peak cx=(x) cy=(y) r="3.5" {}
            text.peak x=(x) y=(y - 8.0) text-anchor=(anchor(share)) { "peak " (bytes(peak.outstanding.bytes)) }
        }
    }
}

/// So that a label stays within the chart.
fn anchor(share: f64) -> &'static str {
    match share {
        ..0.1 => "start",
        0.9.. => "end",
        _ => "middle",
    }
}

fn in_words(process: &ProcessSnapshot<Frame>) -> String {
    let [first, last] =
        [process.history.first(), process.history.last()].map(|point| point.map_or(0, |point| point.bytes));
    format!("Outstanding bytes over time: from {} to {}", bytes(first), bytes(last))
}
