//! Each format on events made by hand, against snapshots.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{path::PathBuf, rc::Rc, time::Duration};

use insta::assert_snapshot;
use jiff::tz::{TimeZone, offset};

use super::{Style, Trace, TraceFormat};
use crate::model::{BuildId, Caller, Deed, Frame, Source, ThreadId, TraceEvent};

fn frame(function: &str, line: u32, inlined: bool) -> Frame {
    let source = Source { directory: Some(PathBuf::from("/src")), file: PathBuf::from("a.c"), line: Some(line) };
    Frame {
        function: Some(function.to_owned()),
        source: Some(source),
        module: Some(PathBuf::from("/usr/bin/a")),
        build_id: Some(BuildId(Box::from([0xab, 0xcd]))),
        offset_in_file: Some(0x1189),
        address: 0x5555_5555_5189,
        inlined,
    }
}

fn named() -> Caller {
    Caller {
        address: 0x5555_5555_5189,
        module: Some(PathBuf::from("/usr/bin/a")),
        address_in_module: Some(0x1189),
        symbol: Some(("main".to_owned(), 0x20)),
        frames: vec![frame("helper", 7, true), frame("main", 12, false)],
    }
}

fn nameless() -> Caller {
    let module = Some(PathBuf::from("/tmp/a b;\n:(x)/größe"));
    Caller { address: 0x7f00_0000_1000, module, address_in_module: Some(0x1000), symbol: None, frames: Vec::new() }
}

fn event(caller: Caller, deed: Deed) -> TraceEvent {
    TraceEvent {
        time: jiff::Timestamp::constant(1_767_261_787, 250_123_456),
        elapsed: Duration::from_millis(2500),
        thread: ThreadId { pid: 1234, tid: 1240 },
        deed,
        caller: Rc::new(caller),
        stack: None,
    }
}

fn events() -> Vec<TraceEvent> {
    let nowhere = Caller { address: 0x7f00_0000_2000, ..Caller::default() };
    let with_stack = TraceEvent {
        stack: Some(vec![frame("helper", 7, true), frame("main", 12, false)]),
        ..event(named(), Deed::Allocated { address: 0x5570, size: 1 << 40 })
    };
    let without_stack = TraceEvent { stack: Some(Vec::new()), ..event(named(), Deed::Freed { address: 0x5570 }) };
    let hostile = Caller { symbol: Some(("a b(c)".to_owned(), 1)), ..named() };
    vec![
        event(named(), Deed::Allocated { address: 0x5555_5575_92a0, size: 100 }),
        event(named(), Deed::Resized { old: 0x5555_5575_92a0, new: 0x5555_5575_9310, size: 200 }),
        event(named(), Deed::NotResized { address: 0x5555_5575_9310, size: 1 << 62 }),
        event(nameless(), Deed::Freed { address: 0x5555_5575_9310 }),
        event(nowhere, Deed::Allocated { address: 0x5555_5575_92a0, size: 0 }),
        event(hostile, Deed::Freed { address: 0x5555_5575_92a0 }),
        with_stack,
        without_stack,
    ]
}

fn written(format: TraceFormat, remarks: &[&str]) -> String {
    let style = Style { colour: false, time_zone: TimeZone::fixed(offset(2)) };
    let (mut trace, mut output) = (Trace::new(format, &style), Vec::new());
    trace.begin(&mut output).unwrap();
    events().iter().for_each(|event| trace.event(event, &mut output).unwrap());
    let remarks: Vec<_> = remarks.iter().map(|remark| (*remark).to_owned()).collect();
    trace.end(&remarks, &mut output).unwrap();
    String::from_utf8(output).unwrap()
}

#[test]
fn text() {
    assert_snapshot!(written(TraceFormat::Text, &[]));
}

#[test]
fn json() {
    assert_snapshot!(written(TraceFormat::Json, &[]));
}

#[test]
fn mtrace() {
    assert_snapshot!(written(TraceFormat::Mtrace, &["3 frees were not recorded"]));
}
