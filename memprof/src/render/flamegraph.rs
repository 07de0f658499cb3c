//! A flame graph as one SVG file: [`super::folded`] stacks drawn by inferno, with its script to search and zoom.

use std::{fmt::Write as _, io};

use inferno::flamegraph::{self, Options, Palette, TextTruncateDirection, color::BasicPalette};

use super::{
    Style,
    escape::visible,
    figures::{bytes, count, duration, separated},
    folded::folded,
    losses,
};
use crate::model::{Frame, Moment, Outstanding, ProcessSnapshot, Report};

/// Beyond this inferno would round, as it calculates in floating point: eight pebibytes.
const MOST_BYTES: u64 = 1 << 53;

/// Characters of the second line that a usual window shows.
const WIDEST_SUBTITLE: usize = 160;

/// Writes the flame graph of all stacks in the report.
pub(super) fn write(report: &Report, style: &Style, output: &mut dyn io::Write) -> io::Result<()> {
    let stacks = folded(report);
    let total = stacks.values().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
    let lines: Vec<_> = stacks.iter().map(|(stack, bytes)| format!("{stack} {bytes}")).collect();
    draw(&title(report), &subtitle(report, style), &lines, total, output)
}

/// Draws folded lines, which must be sorted by their stacks. `total` is the sum of what makes frames wide.
pub(super) fn draw(
    title: &str,
    subtitle: &str,
    lines: &[String],
    total: u64,
    output: &mut dyn io::Write,
) -> io::Result<()> {
    match total {
        0 => nothing(title, subtitle, output),
        1..=MOST_BYTES => {
            flamegraph::from_lines(&mut options(title, subtitle), lines.iter().map(String::as_str), output)
        }
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "these are more bytes than a flame graph can show")),
    }
}

fn options(title: &str, subtitle: &str) -> Options<'static> {
    let mut options = Options::default();
    options.colors = Palette::Basic(BasicPalette::Mem);
    // A function has the same colour in every run.
    options.deterministic = true;
    title.clone_into(&mut options.title);
    options.subtitle = Some(shortened(subtitle));
    "bytes".clone_into(&mut options.count_name);
    options.text_truncate_direction = TextTruncateDirection::Right;
    // inferno would sort lines, and then complain where stacks are in another order than lines.
    options.no_sort = true;
    options
}

/// inferno takes a graph of nothing for an error.
fn nothing(title: &str, subtitle: &str, output: &mut dyn io::Write) -> io::Result<()> {
    let svg = maud::html! {
        svg version="1.1" width="1200" height="100" xmlns="http://www.w3.org/2000/svg" {
            rect width="100%" height="100%" fill="#eef2ee" {}
            text x="50%" y="24" text-anchor="middle" font-family="monospace" font-size="17" { (title) }
            text x="50%" y="48" text-anchor="middle" font-family="monospace" font-size="12" { (shortened(subtitle)) }
            text x="50%" y="80" text-anchor="middle" font-family="monospace" font-size="12" { "Nothing is outstanding." }
        }
    };
    writeln!(output, "{}", svg.into_string())
}

/// Whose memory it is, and how much.
fn title(report: &Report) -> String {
    let held = report.processes.iter().map(|process| held(report, process)).fold(Outstanding::default(), sum);
    let about = if report.sample_bytes.is_some() { "~" } else { "" };
    let whose = match report.processes.as_slice() {
        [process] => format!("{} ({})", visible(&process.command), process.pid),
        processes => format!("{} processes", separated(processes.len() as u64)),
    };
    format!("{whose}: {about}{} in {about}{} outstanding", bytes(held.bytes), count(held.allocations, "allocation"))
}

/// At the moment that the stacks are of.
fn held(report: &Report, process: &ProcessSnapshot<Frame>) -> Outstanding {
    match report.moment {
        Moment::Now => process.outstanding,
        Moment::Peak => process.peak.outstanding,
    }
}

fn sum(one: Outstanding, other: Outstanding) -> Outstanding {
    Outstanding {
        bytes: one.bytes.saturating_add(other.bytes),
        allocations: one.allocations.saturating_add(other.allocations),
    }
}

/// When it was, and what is doubtful about it.
fn subtitle(report: &Report, style: &Style) -> String {
    let time = report.time.to_zoned(style.time_zone.clone()).strftime("%Y-%m-%d %H:%M:%S").to_string();
    let mut text = format!("{time}, after {}; {}", duration(report.elapsed), losses::said(report));
    if report.moment == Moment::Peak {
        text += "; at the peak";
    }
    for warning in &report.warnings {
        // Writing to a string does not fail.
        let _ = write!(text, "; {}", visible(&warning.to_string()));
    }
    text
}

fn shortened(text: &str) -> String {
    if text.chars().count() <= WIDEST_SUBTITLE {
        return text.to_owned();
    }
    text.chars().take(WIDEST_SUBTITLE - 1).chain(['…']).collect()
}
