//! Stacks as flamegraph.pl and its kin read them: one a line, the outermost frame first, then what it holds.

use std::{collections::BTreeMap, io};

use super::escape::visible;
use crate::model::{Frame, ProcessSnapshot, Report};

/// What separates frames; in names there is a colon instead, as in the output of FlameGraph's own collapsers.
const SEPARATOR: char = ';';

/// Writes a line for each distinct stack that holds bytes, sorted: `main;serve;remember 4096`.
pub(super) fn write(report: &Report, output: &mut dyn io::Write) -> io::Result<()> {
    folded(report).iter().try_for_each(|(stack, bytes)| writeln!(output, "{stack} {bytes}"))
}

/// Outstanding bytes by stack, without the stacks that hold none.
pub(super) fn folded(report: &Report) -> BTreeMap<String, u64> {
    let mut stacks = BTreeMap::new();
    for process in &report.processes {
        let root = (report.processes.len() > 1).then(|| root_of(process));
        for stack in process.stacks.iter().filter(|stack| stack.outstanding.bytes > 0) {
            let sum: &mut u64 = stacks.entry(folded_stack(root.as_deref(), &stack.frames)).or_default();
            // Only a file that somebody made up can hold so much.
            *sum = sum.saturating_add(stack.outstanding.bytes);
        }
    }
    stacks
}

/// The frame that all stacks of a process begin with, where there are several processes.
pub(super) fn root_of(process: &ProcessSnapshot<Frame>) -> String {
    format!("{} ({})", process.command, process.pid)
}

/// A stack on one line, below `root` if there is one.
pub(super) fn folded_stack(root: Option<&str>, frames: &[Frame]) -> String {
    let mut names: Vec<_> = root.map(harmless).into_iter().chain(frames.iter().rev().map(frame_name)).collect();
    if frames.is_empty() {
        names.push("[stack lost]".to_owned());
    }
    names.join(&SEPARATOR.to_string())
}

/// With the marks that flamegraph.pl knows: of an inlined function, and of one that was compiled at run time.
fn frame_name(frame: &Frame) -> String {
    let name = harmless(&name_of(frame));
    match frame.module.as_deref().is_some_and(|module| module == "[JIT]") {
        _ if frame.inlined => name + "_[i]",
        true => name + "_[j]",
        false => name,
    }
}

/// The function, or else the object, or else that nothing is known.
pub(super) fn name_of(frame: &Frame) -> String {
    let file = frame.module.as_deref().and_then(|module| module.file_name());
    match (&frame.function, file) {
        (Some(function), _) => function.clone(),
        (None, Some(file)) => format!("[{}]", file.to_string_lossy().trim_matches(['[', ']'])),
        (None, None) => "[unknown]".to_owned(),
    }
}

/// A name that no reader takes for two, for a figure, for a comment, or for what ends the line.
fn harmless(name: &str) -> String {
    let name = visible(name.trim()).replace(SEPARATOR, ":").replace(['\u{fffe}', '\u{ffff}'], "\u{fffd}");
    if name.is_empty() {
        return "[unknown]".to_owned();
    }
    let name = if name.starts_with('#') { format!("_{name}") } else { name };
    match name.rsplit_once(' ') {
        Some((rest, last)) if is_number(last) => format!("{rest}_{last}"),
        _ => name,
    }
}

fn is_number(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_harmless_and_stay_readable() {
        let names =
            ["operator new(unsigned long)", "[u8; 4]", " f ", "a\nb", "stub 12", "v 1.5", "# f", "", " \t", "12"];
        let expected = [
            "operator new(unsigned long)",
            "[u8: 4]",
            "f",
            r"a\nb",
            "stub_12",
            "v_1.5",
            "_# f",
            "[unknown]",
            "[unknown]",
            "12",
        ];
        assert_eq!(names.map(harmless), expected);
    }

    #[test]
    fn what_has_no_name_is_known_by_its_object() {
        let inside = |module: &str| name_of(&Frame { module: Some(module.into()), ..Frame::default() });
        assert_eq!(inside("/usr/lib/libc.so.6"), "[libc.so.6]");
        assert_eq!(inside("[vdso]"), "[vdso]");
        assert_eq!(name_of(&Frame::default()), "[unknown]");
    }

    #[test]
    fn marks_are_those_of_flamegraph_pl() {
        let named = |module: &str, inlined| Frame {
            function: Some("f".to_owned()),
            module: Some(module.into()),
            inlined,
            ..Frame::default()
        };
        let frames = [named("[JIT]", false), named("/bin/a", true), named("/bin/a", false)];
        assert_eq!(folded_stack(Some("a;b (1)"), &frames), "a:b (1);f;f_[i];f_[j]");
    }
}
