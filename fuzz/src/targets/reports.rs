//! Reports with names as strangers choose them, in every format: nothing that a terminal or a browser would obey gets through.

use std::{io, path::PathBuf};

use jiff::tz::TimeZone;
use memprof::{
    model::{Caller, Difference, Frame, Report},
    pprof::{
        encode,
        wire::{Function, Label, Line, Location, Mapping, Profile, Sample, ValueType},
    },
    render::{Format, Style},
    saved::{self, Saved},
};

/// The input is a list of names, with a null byte between them.
pub(super) fn run(data: &[u8]) {
    let names: Vec<_> = data.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    let mut bytes = Vec::new();
    encode(&profile(&names), &mut bytes).expect("memory can be written to");
    let Ok(Saved::Report(report)) = saved::read_bytes(&bytes, &super::pprof::LIMITS) else { return };
    write_everywhere(&report);
    let difference = saved::difference((&String::from_utf8_lossy(data), &report), ("b", &report), &Default::default());
    write_difference_everywhere(&difference);
}

/// A heap profile in which every name is one of a function, of a source file, of a module and of a process.
fn profile(names: &[Vec<u8>]) -> Profile {
    let known = ["", "inuse_objects", "inuse_space", "pid", "command"].map(|name| name.as_bytes().to_vec());
    let first = known.len();
    let count = names.len() as u64;
    let string = |number: u64| first as i64 + number as i64 - 1;
    Profile {
        sample_type: vec![ValueType { r#type: 1, unit: 0 }, ValueType { r#type: 2, unit: 0 }],
        sample: (1..=count)
            .map(|number| Sample {
                location_id: (number..=count).take(16).collect(),
                value: vec![1, 8 * number as i64],
                label: vec![
                    Label { key: 3, num: number as i64 % 3 + 1, ..Label::default() },
                    Label { key: 4, str: string(number), ..Label::default() },
                ],
            })
            .collect(),
        mapping: (1..=count)
            .map(|id| Mapping { id, memory_limit: u64::MAX, filename: string(id), ..Mapping::default() })
            .collect(),
        location: (1..=count)
            .map(|id| Location {
                id,
                mapping_id: id,
                address: id,
                line: vec![Line { function_id: id, line: id as i64 }; (id % 3) as usize],
                ..Location::default()
            })
            .collect(),
        function: (1..=count)
            .map(|id| Function { id, name: string(id), filename: string(id), ..Function::default() })
            .collect(),
        string_table: known.into_iter().chain(names.iter().cloned()).collect(),
        ..Profile::default()
    }
}

/// What is known of a caller in a log.
pub(super) fn frame_of(caller: &Caller) -> Frame {
    let function = caller.symbol.as_ref().map(|(symbol, _)| symbol.clone());
    let module: Option<PathBuf> = caller.module.clone();
    Frame { function, module, address: caller.address, ..Frame::default() }
}

/// Writes a report in every format.
pub(super) fn write_everywhere(report: &Report) {
    for format in [Format::Text, Format::Json, Format::Folded, Format::Flamegraph, Format::Html, Format::Pprof] {
        check(format, |output| format.write(report, &style(), output));
    }
}

/// Likewise a difference.
pub(super) fn write_difference_everywhere(difference: &Difference) {
    for format in [Format::Text, Format::Json, Format::Folded, Format::Flamegraph, Format::Pprof] {
        check(format, |output| format.write_difference(difference, &style(), output));
    }
}

fn style() -> Style {
    Style { colour: false, time_zone: TimeZone::UTC }
}

fn check(format: Format, write: impl FnOnce(&mut dyn io::Write) -> io::Result<()>) {
    let mut bytes = Vec::new();
    match write(&mut bytes) {
        Ok(()) => {}
        // Figures that a format cannot show are refused in words.
        Err(error) if error.kind() == io::ErrorKind::InvalidData => return,
        Err(error) => panic!("{format:?}: {error}"),
    }
    if format == Format::Pprof {
        return;
    }
    let text = String::from_utf8(bytes).expect("text");
    let obeyed = text.chars().find(|character| is_obeyed(*character) && *character != '\n');
    assert_eq!(obeyed, None, "{format:?}: {text:?}");
}

/// Control characters, and the marks that change the direction of writing. In pages and graphs, tabs are their own.
fn is_obeyed(character: char) -> bool {
    let is_direction =
        matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character.is_control() && character != '\t' || is_direction
}
