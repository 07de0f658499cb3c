//! The screen on reports made by hand, against snapshots; and whatever comes, in whatever order.

use std::{path::PathBuf, time::Duration};

use jiff::tz::{TimeZone, offset};
use proptest::prelude::*;
use ratatui::{Terminal, backend::TestBackend, buffer::Buffer, style::Color};

use super::{
    draw::draw,
    keys::Key,
    listing::Row as _,
    processes, stacks,
    state::{Looks, State, Wish},
};
use crate::model::{
    Ages, Cause, Course, Frame, Identity, Losses, Outstanding, Overhead, Peak, ProcessSnapshot, ProcessVerdict, Report,
    Selection, Sort, Source, StackId, StackSnapshot, StackTotals, Trend, Warning,
};

fn frame(function: &str, file: &str, line: u32) -> Frame {
    Frame {
        function: Some(function.to_owned()),
        source: Some(Source { directory: None, file: file.into(), line: Some(line) }),
        module: Some(PathBuf::from("/usr/bin/redis-server")),
        address: 0x5555_5555_5189,
        ..Frame::default()
    }
}

fn trend(course: Course) -> Trend {
    Trend { course, bytes_per_second: 1536.0, span: Duration::from_secs(60), points: 20, ..Trend::NONE }
}

fn stack(id: u64, bytes: u64, course: Course, frames: Vec<Frame>) -> StackSnapshot<Frame> {
    StackSnapshot {
        outstanding: Outstanding { bytes, allocations: bytes / 100 },
        growth_bytes: bytes.cast_signed() / 1000,
        totals: StackTotals { allocations: bytes / 50, allocated_bytes: bytes.saturating_mul(2), temporary: Some(7) },
        ages: Ages {
            youngest: Duration::from_millis(3),
            median: Duration::from_secs(126),
            oldest: Duration::from_secs(252),
        },
        trend: trend(course),
        ..StackSnapshot::empty(StackId(id), frames)
    }
}

fn process(pid: u32, command: &str, stacks: Vec<StackSnapshot<Frame>>) -> ProcessSnapshot<Frame> {
    let bytes = stacks.iter().fold(0_u64, |sum, stack| sum.saturating_add(stack.outstanding.bytes));
    ProcessSnapshot {
        identity: Identity { user: Some("redis".to_owned()), ..Identity::default() },
        outstanding: Outstanding { bytes, allocations: bytes / 100 },
        overhead: Some(Overhead {
            cost: Duration::from_millis(31),
            processor_time: Duration::from_secs(10),
            calls: 1000,
        }),
        verdict: ProcessVerdict { trend: trend(Course::Grows), memory: None, cause: Cause::Unknown },
        growth_bytes: 3_250_586,
        peak: Peak { outstanding: Outstanding { bytes, allocations: 1 }, elapsed: Duration::from_secs(200) },
        selected_stacks: stacks.len(),
        stacks,
        ..ProcessSnapshot::empty(pid, command.to_owned())
    }
}

fn report(seconds: u64, processes: Vec<ProcessSnapshot<Frame>>) -> Report {
    Report {
        elapsed: Duration::from_secs(seconds),
        since_previous: Duration::from_secs(1),
        processes,
        ..Report::empty(jiff::Timestamp::constant(1_767_261_787, 250_000_000))
    }
}

/// A server with four stacks, one of them lost and one deep; what grows holds more by the second.
fn server(seconds: u64) -> ProcessSnapshot<Frame> {
    let deep = (0..30).map(|depth| frame(&format!("visit_{depth}"), "tree.c", depth + 1)).collect();
    let growing =
        vec![frame("sdsnewlen", "sds.c", 112), frame("createObject", "object.c", 45), frame("main", "a.c", 9)];
    let stacks = vec![
        stack(1, 32_505_856 + seconds * 1_048_576, Course::Grows, growing),
        stack(2, 1_000_000, Course::Plateaued, deep),
        stack(3, 4096, Course::OneOff, Vec::new()),
        stack(4, 456, Course::Churn, vec![frame("größe<日本>", "\u{1b}[2J.c", 1), Frame::default()]),
    ];
    process(1234, "redis-server", stacks)
}

fn state_with(looks: (bool, bool)) -> State {
    let (colour, unicode) = looks;
    State::new(Looks { colour, unicode, time_zone: TimeZone::fixed(offset(2)) }, Sort::Bytes)
}

fn state() -> State {
    state_with((true, true))
}

/// After a minute of reports of the server alone.
fn observed() -> State {
    let mut state = state();
    (0..60).for_each(|second| state.take(report(second, vec![server(second)])));
    state
}

fn drawn(state: &mut State, width: u16, height: u16) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal in memory");
    state.resize(width, height);
    let draw = |frame: &mut ratatui::Frame<'_>| {
        draw(state, frame.area(), frame.buffer_mut());
    };
    terminal.draw(draw).expect("no terminal fails here");
    terminal.backend().buffer().clone()
}

fn text(buffer: &Buffer) -> String {
    let width = usize::from(buffer.area.width.max(1));
    let lines = buffer.content.chunks(width).map(|line| {
        let line: String = line.iter().map(ratatui::buffer::Cell::symbol).collect();
        format!("{}\n", line.trim_end())
    });
    lines.collect()
}

fn screen(state: &mut State, width: u16, height: u16) -> String {
    text(&drawn(state, width, height))
}

fn press(state: &mut State, keys: &str) {
    for key in keys.chars() {
        state.press(Key::Char(key));
    }
}

#[test]
fn one_process_begins_with_its_stacks() {
    insta::assert_snapshot!(screen(&mut observed(), 80, 24));
}

#[test]
fn a_large_terminal_shows_more() {
    insta::assert_snapshot!(screen(&mut observed(), 200, 50));
}

#[test]
fn a_small_terminal_shows_what_matters() {
    insta::assert_snapshot!(screen(&mut observed(), 40, 10));
}

#[test]
fn several_processes_begin_with_their_table() {
    let mut state = state();
    let small = process(77, "cache", vec![stack(9, 2048, Course::Level, vec![frame("fill", "cache.c", 3)])]);
    let over = ProcessSnapshot { exited: true, ..process(78, "batch", Vec::new()) };
    let several = Report {
        losses: Losses { nursery_full: 12, ..Losses::default() },
        warnings: vec![Warning::NurseryFull(12)],
        ..report(61, vec![small, server(61), over])
    };
    state.take(several);
    insta::assert_snapshot!(screen(&mut state, 80, 24));
    // What is lost is said in full.
    press(&mut state, "!");
    insta::assert_snapshot!("warnings_in_full", screen(&mut state, 60, 12));
}

#[test]
fn nothing_is_drawn_where_there_is_no_room_but_an_excuse() {
    let mut state = observed();
    assert_eq!(screen(&mut state, 30, 5), "memprof top needs 40 columns\nand 8 lines. q quits.\n\n\n\n");
    for (width, height) in [(0, 0), (1, 1), (39, 100), (300, 7)] {
        screen(&mut state, width, height);
    }
    assert_eq!(state.press(Key::Char('q')), Some(Wish::End));
}

#[test]
fn a_stack_in_full_and_back() {
    let mut state = observed();
    state.press(Key::Down);
    state.press(Key::Enter);
    insta::assert_snapshot!(screen(&mut state, 80, 24));
    state.press(Key::End);
    assert!(screen(&mut state, 80, 24).contains("/usr/bin/redis-server"));
    state.press(Key::Esc);
    assert!(screen(&mut state, 80, 24).contains("stack 2 of 4"));
}

#[test]
fn help_fits_or_is_scrolled() {
    let mut state = observed();
    press(&mut state, "?");
    insta::assert_snapshot!(screen(&mut state, 80, 40));
    assert!(!screen(&mut state, 40, 10).contains("quit"));
    (0..100).for_each(|_| drop(state.press(Key::PageDown)));
    assert!(screen(&mut state, 40, 10).contains("since memprof attached"));
    press(&mut state, "k");
    state.press(Key::Home);
    assert!(screen(&mut state, 40, 10).contains("Tab "));
}

#[test]
fn what_is_since_a_mark_is_a_difference() {
    let mut state = observed();
    assert_eq!(state.press(Key::Char('m')), Some(Wish::Mark));
    state.set_mark(&report(60, vec![server(60)]));
    let mut later = server(70);
    later.stacks.push(stack(5, 2000, Course::TooShort, vec![frame("new", "new.c", 1)]));
    state.take(report(70, vec![later]));
    insta::assert_snapshot!(screen(&mut state, 80, 24));
    press(&mut state, "M");
    assert!(!screen(&mut state, 80, 24).contains("since mark"));
}

#[test]
fn a_pause_shows_the_past_and_takes_the_present_in() {
    let mut state = observed();
    press(&mut state, " ");
    let before = screen(&mut state, 80, 24);
    assert!(before.contains("PAUSED"));
    state.take(report(600, vec![server(600)]));
    assert_eq!(screen(&mut state, 80, 24), before);
    press(&mut state, " ");
    assert!(screen(&mut state, 80, 24).contains("631.0 MiB"));
}

#[test]
fn a_filter_is_applied_while_it_is_typed() {
    let mut state = observed();
    press(&mut state, "/VISIT_2");
    let filtered = screen(&mut state, 80, 24);
    assert!(filtered.contains("visit_0") && !filtered.contains("sdsnewlen"), "{filtered}");
    assert!(filtered.contains("filter: VISIT_2") && filtered.contains("stack 1 of 1"), "{filtered}");
    press(&mut state, "x");
    assert!(screen(&mut state, 80, 24).contains("no stack"));
    state.press(Key::Backspace);
    state.press(Key::Enter);
    assert!(screen(&mut state, 80, 24).contains("stack 1 of 1 with \"VISIT_2\""));
    state.press(Key::Esc);
    assert!(screen(&mut state, 80, 24).contains("stack 1 of 4"));
}

#[test]
fn columns_are_sorted_either_way() {
    let mut state = observed();
    let order = |state: &State| {
        let rows = stacks::rows(&state.shown().expect("a report"), state.process().expect("a process"));
        rows.iter().map(|row| row.id().0).collect::<Vec<_>>()
    };
    assert_eq!(order(&state), [1, 2, 3, 4]);
    press(&mut state, "r");
    assert_eq!(order(&state), [4, 3, 2, 1]);
    // To the left of the first is the last: functions, by name.
    state.press(Key::Left);
    assert_eq!(order(&state), [3, 4, 1, 2]);
    assert!(screen(&mut state, 80, 24).contains("function▲"));
    // Before that courses, with what grows first.
    state.press(Key::Left);
    assert_eq!(order(&state), [1, 4, 3, 2]);
}

#[test]
fn what_is_selected_stays_so_wherever_it_goes() {
    let mut state = observed();
    state.press(Key::Down);
    let mut changed = server(1);
    changed.stacks[1].outstanding.bytes = u64::MAX / 2;
    state.take(report(61, vec![changed]));
    assert_eq!(state.stack().map(|stack| stack.id), Some(StackId(2)));
    assert!(screen(&mut state, 80, 24).contains("stack 1 of 4"));
    // It is gone: what has taken its place is selected.
    let mut without = server(1);
    without.stacks.remove(1);
    state.take(report(62, vec![without]));
    assert_eq!(state.stack().map(|stack| stack.id), Some(StackId(1)));
}

#[test]
fn a_report_has_what_the_table_is_sorted_by() {
    let mut state = observed();
    let asked = Selection { min_size: Some(64), ..Selection::default() };
    assert_eq!(state.selection(&asked), Selection { top: Some(500), ..asked });
    state.press(Key::Right);
    state.press(Key::Right);
    press(&mut state, "/visit");
    assert_eq!(state.selection(&asked), Selection { top: Some(5000), sort: Sort::Growth, ..asked });
}

#[test]
fn a_profile_is_saved_under_a_name_that_needs_no_quotes() {
    let mut state = observed();
    press(&mut state, "w");
    let expected = "memprof-redis-server-1234-20260101-120307.pb.gz";
    assert_eq!(state.press(Key::Enter), Some(Wish::Save(expected.into())));
    state.take(report(61, vec![process(5, "../a b\n", Vec::new())]));
    press(&mut state, "w");
    assert_eq!(state.press(Key::Enter), Some(Wish::Save("memprof-.._a_b_-5-20260101-120307.pb.gz".into())));
    press(&mut state, "w");
    state.press(Key::Ctrl('u'));
    press(&mut state, "q.pb.gz");
    assert!(screen(&mut state, 80, 24).contains("save to: q.pb.gz"));
    assert_eq!(state.press(Key::Enter), Some(Wish::Save("q.pb.gz".into())));
    press(&mut state, "w");
    assert_eq!(state.press(Key::Esc), None);
    assert!(!screen(&mut state, 80, 24).contains("save to"));
}

#[test]
fn without_colours_and_in_ascii_nothing_is_lost() {
    let mut state = state_with((false, false));
    (0..60).for_each(|second| state.take(report(second, vec![server(second)])));
    state.press(Key::End);
    let buffer = drawn(&mut state, 80, 24);
    assert!(buffer.content.iter().all(|cell| cell.fg == Color::Reset && cell.bg == Color::Reset));
    let text = text(&buffer);
    assert!(text.is_ascii());
    insta::assert_snapshot!(text);
}

#[test]
fn names_give_the_terminal_no_orders() {
    let mut state = state();
    let hostile = "\u{1b}]0;owned\u{7}\u{202e}";
    let frames = vec![frame(hostile, hostile, 1)];
    state.take(report(1, vec![process(1, hostile, vec![stack(1, 1, Course::Level, frames)])]));
    state.say(hostile.to_owned());
    for keys in ["", "\t", "s", "!"] {
        press(&mut state, keys);
        assert!(!screen(&mut state, 200, 50).contains(['\u{1b}', '\u{7}', '\u{202e}']));
    }
    assert!(screen(&mut state, 200, 50).contains(r"\u{1b}]0;owned\u{7}\u{202e}"));
}

/// Whatever can happen to a state.
#[derive(Clone, Debug)]
enum Step {
    Key(Key),
    Report(Vec<(u32, Vec<(u64, u64)>)>),
    Mark,
    Resize(u16, u16),
    End,
}

fn any_step() -> impl Strategy<Value = Step> {
    let characters = "qpsjkgGJKmMrw/!? xä日\u{7f}".chars().map(Key::Char).collect::<Vec<_>>();
    let others = [
        Key::Enter,
        Key::Tab,
        Key::Esc,
        Key::Backspace,
        Key::Up,
        Key::Down,
        Key::Left,
        Key::Right,
        Key::PageUp,
        Key::PageDown,
        Key::Home,
        Key::End,
        Key::Ctrl('u'),
        Key::Ctrl('w'),
        Key::Ctrl('z'),
    ];
    let bytes = prop_oneof![0..2000_u64, any::<u64>()];
    let stacks = prop::collection::vec((0..12_u64, bytes), 0..8);
    prop_oneof![
        8 => prop::sample::select([characters, others.to_vec()].concat()).prop_map(Step::Key),
        3 => prop::collection::vec((1..5_u32, stacks), 0..5).prop_map(Step::Report),
        1 => Just(Step::Mark),
        1 => (0..120_u16, 0..60_u16).prop_map(|(width, height)| Step::Resize(width, height)),
        1 => Just(Step::End),
    ]
}

fn any_report(seconds: u64, processes: &[(u32, Vec<(u64, u64)>)]) -> Report {
    let frames = |id: u64| match id {
        0 => Vec::new(),
        id => (0..id * 3).map(|depth| frame(&format!("function_{depth}"), "q.c", 1)).collect(),
    };
    let stack = |(id, bytes): &(u64, u64)| stack(*id, *bytes, Course::Churn, frames(*id));
    let one = |(pid, stacks): &(u32, Vec<(u64, u64)>)| process(*pid, "x", stacks.iter().map(stack).collect());
    report(seconds, processes.iter().map(one).collect())
}

proptest! {
    #[test]
    fn whatever_comes_the_selection_is_in_range_and_all_is_drawn(steps in prop::collection::vec(any_step(), 1..60)) {
        let mut state = state();
        let mut size = (80, 24);
        let mut last = any_report(0, &[]);
        for (seconds, step) in (1..).zip(steps) {
            match step {
                Step::Key(key) => drop(state.press(key)),
                Step::Report(processes) => {
                    last = any_report(seconds, &processes);
                    state.take(last.clone());
                }
                Step::Mark => state.set_mark(&last),
                Step::Resize(width, height) => size = (width, height),
                Step::End => state.end(),
            }
            let buffer = drawn(&mut state, size.0, size.1);
            let is_order = |symbol: &str| symbol.chars().any(char::is_control);
            prop_assert!(!buffer.content.iter().any(|cell| is_order(cell.symbol())));
            let Some(shown) = state.shown() else { continue };
            let rows = processes::rows(&shown);
            let place = shown.processes.place_in(&rows);
            prop_assert_eq!(place.is_some(), !rows.is_empty());
            prop_assert!(place.is_none_or(|place| place < rows.len()));
            let Some(process) = state.process() else { continue };
            let rows = stacks::rows(&shown, process);
            let place = shown.stacks.place_in(&rows);
            prop_assert_eq!(place.is_some(), !rows.is_empty());
            prop_assert!(place.is_none_or(|place| place < rows.len()));
            prop_assert!(rows.iter().all(|row| row.id().0 < 12));
        }
    }
}
