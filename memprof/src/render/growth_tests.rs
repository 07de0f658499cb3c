//! Each format on reports of growth made by hand, against snapshots.

use std::{error::Error, path::PathBuf, time::Duration};

use insta::assert_snapshot;
use jiff::tz::{TimeZone, offset};

use super::{Format, Style};
use crate::model::{
    AnonymousMemory, Frame, Growth, GrowthOfProcess, GrowthOfStack, GrowthWarning, Losses, Source, StackId, Touched,
    Truncation,
};

type Outcome = Result<(), Box<dyn Error>>;

fn render(format: Format, report: &Growth<Frame>) -> Result<String, Box<dyn Error>> {
    let style = Style { colour: false, time_zone: TimeZone::fixed(offset(2)) };
    let mut output = Vec::new();
    format.write_growth(report, &style, &mut output)?;
    Ok(String::from_utf8(output)?)
}

pub(super) fn report(period: u64, processes: Vec<GrowthOfProcess<Frame>>) -> Growth<Frame> {
    Growth {
        time: jiff::Timestamp::constant(1_767_261_787, 250_000_000),
        elapsed: Duration::from_millis(5003),
        period,
        losses: Losses::default(),
        missed: 0,
        warnings: Vec::new(),
        processes,
        watched: 3,
    }
}

fn touched(samples: u64, period: u64, huge_pages: u64) -> Touched {
    Touched { samples, period, huge_pages }
}

fn named() -> Frame {
    let source = Source { directory: Some("/src".into()), file: "a.c".into(), line: Some(12) };
    Frame { function: Some("fill".into()), source: Some(source), address: 0x5555_1234, ..Frame::default() }
}

fn unnamed() -> Frame {
    Frame { module: Some(PathBuf::from("/usr/bin/a")), offset_in_file: Some(0x1189), ..Frame::default() }
}

pub(super) fn process(period: u64) -> GrowthOfProcess<Frame> {
    let stacks = vec![
        GrowthOfStack {
            id: StackId(7),
            touched: touched(1000, period, 1),
            frames: vec![named(), unnamed()],
            truncated: None,
        },
        GrowthOfStack {
            id: StackId(8),
            touched: touched(10, period, 0),
            frames: vec![unnamed()],
            truncated: Some(Truncation::NoTable),
        },
    ];
    GrowthOfProcess {
        pid: 1234,
        command: "server\u{1b}[2J".to_owned(),
        exited: false,
        touched: touched(1020, period, 1),
        only_read: touched(3, period, 0),
        without_stack: touched(10, period, 0),
        anonymous: Some(AnonymousMemory { before: 102_400, now: 6_664_192 }),
        stacks,
        all_stacks: 5,
        truncated_stacks: 1,
    }
}

fn with_losses() -> Growth<Frame> {
    let losses = Losses { stacks_ring_full: 10, faults_unresolved: 2, ..Losses::default() };
    let gone =
        GrowthOfProcess { pid: 99, exited: true, anonymous: None, stacks: Vec::new(), all_stacks: 0, ..process(1) };
    let mut warnings: Vec<_> = GrowthWarning::of_losses(&losses).collect();
    warnings.extend([GrowthWarning::Missed(3), GrowthWarning::HugePagesAsOne("because".into())]);
    Growth { losses, missed: 3, warnings, ..report(1, vec![process(1), gone]) }
}

#[test]
fn text_of_every_page() -> Outcome {
    assert_snapshot!(render(Format::Text, &report(1, vec![process(1)]))?);
    Ok(())
}

#[test]
fn text_of_a_sample() -> Outcome {
    assert_snapshot!(render(Format::Text, &report(17, vec![process(17)]))?);
    Ok(())
}

#[test]
fn text_with_losses() -> Outcome {
    assert_snapshot!(render(Format::Text, &with_losses())?);
    Ok(())
}

#[test]
fn text_where_nothing_has_grown() -> Outcome {
    assert_snapshot!(render(Format::Text, &report(17, Vec::new()))?);
    Ok(())
}

#[test]
fn json_has_every_field() -> Outcome {
    let line = render(Format::Json, &with_losses())?;
    assert_eq!(line.find('\n'), Some(line.len() - 1), "one line");
    assert_snapshot!(line.replace("[{", "[\n{").replace("},{", "},\n{"));
    Ok(())
}
