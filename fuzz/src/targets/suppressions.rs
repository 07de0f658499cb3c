//! Suppressions, and names of functions that they are compared with.

use memprof::{
    model::{Frame, Source},
    suppress::Suppressions,
};

pub(super) fn run(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (patterns, names) = text.split_once('\0').unwrap_or((&text, &text));
    let Ok(suppressions) = Suppressions::parse(patterns) else { return };
    let frame = |name: &str| Frame {
        function: Some(name.to_owned()),
        module: Some(name.into()),
        source: Some(Source { directory: None, file: name.into(), line: None }),
        ..Frame::default()
    };
    let frames: Vec<_> = names.lines().map(frame).collect();
    suppressions.of_stack(&frames);
}
