//! Differences made by hand, against snapshots.

use std::{error::Error, time::Duration};

use insta::assert_snapshot;
use jiff::tz::TimeZone;

use super::{Format, Style};
use crate::model::{
    Difference, DifferenceWarning, Frame, Held, Losses, Outstanding, ProcessDifference, Side, Source, StackDifference,
};

fn render(format: Format, colour: bool) -> Result<String, Box<dyn Error>> {
    let style = Style { colour, time_zone: TimeZone::UTC };
    let mut output = Vec::new();
    format.write_difference(&difference(), &style, &mut output)?;
    Ok(String::from_utf8(output)?)
}

fn side(name: &str, seconds: i64) -> Side {
    Side {
        name: name.to_owned(),
        time: jiff::Timestamp::constant(1_767_261_787 + seconds, 0),
        elapsed: Duration::from_secs(seconds.unsigned_abs()),
        sample_bytes: None,
        losses: Losses { frees_ring_full: 3, ..Losses::default() },
    }
}

fn held(bytes: u64, allocations: u64) -> Held {
    let outstanding = Outstanding { bytes, allocations };
    Held { outstanding, allocated: Outstanding { bytes: bytes * 3, allocations: allocations * 2 } }
}

fn frame(function: &str, line: u32) -> Frame {
    let source = Source { directory: None, file: "store.c".into(), line: Some(line) };
    Frame { function: Some(function.to_owned()), source: Some(source), address: 0x1000, ..Frame::default() }
}

fn difference() -> Difference {
    let stack = |before, after, frames| StackDifference { before, after, frames };
    let stacks = vec![
        stack(held(0, 0), held(3 << 20, 3), vec![frame("store", 12), frame("main", 40)]),
        stack(held(4096, 2), held(4096, 1), vec![Frame { address: 0x55, ..Frame::default() }]),
        stack(held(8000, 9), held(500, 1), Vec::new()),
    ];
    let server = ProcessDifference {
        command: "ser\u{1b}ver".to_owned(),
        pids_before: vec![12],
        pids_after: vec![15],
        before: held(12_096, 11),
        after: held((3 << 20) + 4596, 5),
        stacks,
        changed_stacks: 5,
    };
    let nothing = ProcessDifference {
        command: "worker".to_owned(),
        pids_before: vec![1, 2],
        pids_after: Vec::new(),
        before: held(0, 0),
        after: held(0, 0),
        stacks: Vec::new(),
        changed_stacks: 0,
    };
    let lost = DifferenceWarning::Lost { name: "a.pb.gz".to_owned(), allocations: 0, frees: 3, stacks: 0 };
    Difference {
        before: side("a.pb.gz", 10),
        after: side("b.pb.gz", 500),
        warnings: vec![lost],
        processes: vec![server, nothing],
    }
}

#[test]
fn a_difference_for_people() -> Result<(), Box<dyn Error>> {
    assert_snapshot!(render(Format::Text, false)?);
    Ok(())
}

#[test]
fn a_difference_in_colours() -> Result<(), Box<dyn Error>> {
    let text = render(Format::Text, true)?;
    assert!(text.contains("\u{1b}[31m"), "{text}");
    assert_eq!(anstyle_stripped(&text), render(Format::Text, false)?);
    Ok(())
}

fn anstyle_stripped(text: &str) -> String {
    let mut pieces = text.split('\u{1b}');
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| text + piece.split_once('m').map_or(piece, |(_, rest)| rest))
}

#[test]
fn a_difference_as_json() -> Result<(), Box<dyn Error>> {
    let line = render(Format::Json, false)?;
    assert_eq!(line.find('\n'), Some(line.len() - 1), "one line");
    assert_snapshot!(line.replace("[{", "[\n{").replace("},{", "},\n{"));
    Ok(())
}
