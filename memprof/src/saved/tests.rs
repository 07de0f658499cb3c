//! What is shown of a report made by hand, and what differs between two.

use std::time::Duration;

use super::{difference, select};
use crate::model::{
    Ages, BlockGroup, BuildId, DifferenceSelection, DifferenceWarning, Frame, LiveAllocation, Moment, Outstanding,
    ProcessSnapshot, Report, Selection, Sort, Source, StackId, StackSnapshot, StackTotals, Warning,
};

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn held(bytes: u64, allocations: u64) -> Outstanding {
    Outstanding { bytes, allocations }
}

/// Blocks of a size, so many, and their age in seconds.
fn group(size: u64, allocations: u64, age: u64) -> BlockGroup {
    BlockGroup { size, age: seconds(age), outstanding: held(size * allocations, allocations) }
}

fn frame(function: &str, build: Option<u8>, offset: u64, line: u32) -> Frame {
    Frame {
        function: Some(function.to_owned()),
        source: Some(Source { directory: None, file: "a.c".into(), line: Some(line) }),
        module: Some("/usr/bin/server".into()),
        build_id: build.map(|byte| BuildId([byte].into())),
        offset_in_file: Some(offset),
        address: 0x1000 + offset,
        inlined: false,
    }
}

fn stack(id: u64, frames: Vec<Frame>, groups: Vec<BlockGroup>) -> StackSnapshot<Frame> {
    let mut outstanding = Outstanding::default();
    groups.iter().for_each(|group| outstanding.add_saturating(group.outstanding));
    let ages: Vec<_> = groups.iter().map(|group| group.age).collect();
    StackSnapshot {
        outstanding,
        totals: StackTotals { allocations: 100 * id, allocated_bytes: 1000 * id, temporary: Some(id) },
        at_peak: held(10_000 / id, 7),
        ages: Ages { oldest: ages.into_iter().max().unwrap_or_default(), ..Ages::default() },
        groups,
        ..StackSnapshot::empty(StackId(id), frames)
    }
}

fn process(pid: u32, command: &str, stacks: Vec<StackSnapshot<Frame>>) -> ProcessSnapshot<Frame> {
    let mut outstanding = Outstanding::default();
    stacks.iter().for_each(|stack| outstanding.add_saturating(stack.outstanding));
    ProcessSnapshot {
        outstanding,
        selected_stacks: stacks.len(),
        stacks,
        ..ProcessSnapshot::empty(pid, command.to_owned())
    }
}

fn report(processes: Vec<ProcessSnapshot<Frame>>) -> Report {
    Report {
        elapsed: seconds(100),
        since_previous: seconds(100),
        processes,
        ..Report::empty(jiff::Timestamp::constant(1_767_261_787, 0))
    }
}

fn one(stacks: Vec<StackSnapshot<Frame>>) -> Report {
    report(vec![process(7, "server", stacks)])
}

/// Of a server with three stacks, the last of which holds nothing any more.
fn server() -> Report {
    one(vec![
        stack(1, vec![frame("store", Some(1), 16, 5)], vec![group(100, 10, 5), group(4000, 2, 50)]),
        stack(2, vec![frame("cache", Some(1), 32, 9)], vec![group(5000, 1, 20)]),
        stack(3, vec![frame("parse", Some(1), 48, 12)], Vec::new()),
    ])
}

/// Ids, bytes and allocations of the stacks shown.
fn shown(selection: &Selection) -> Vec<(u64, u64, u64)> {
    let stacks = select(&server(), selection).processes.remove(0).stacks;
    let figures = |stack: &StackSnapshot<Frame>| (stack.id.0, stack.outstanding.bytes, stack.outstanding.allocations);
    stacks.iter().map(figures).collect()
}

#[test]
fn by_default_all_that_holds_something_is_shown_as_it_was() {
    assert_eq!(shown(&Selection::default()), [(1, 9000, 12), (2, 5000, 1)]);
    let selected = select(&server(), &Selection { top: Some(1), ..Selection::default() });
    assert_eq!((selected.processes[0].stacks.len(), selected.processes[0].selected_stacks), (1, 2));
    assert_eq!(selected.processes[0].outstanding, held(14_000, 13));
    assert!(selected.processes[0].stacks[0].groups.is_empty() && selected.warnings.is_empty());
}

#[test]
fn blocks_that_do_not_count_are_left_out() {
    let older = |age| Selection { older: Some(seconds(age)), ..Selection::default() };
    assert_eq!(shown(&older(20)), [(1, 8000, 2), (2, 5000, 1)]);
    assert_eq!(shown(&older(51)), []);
    let sizes = Selection { min_size: Some(101), max_size: Some(4000), ..Selection::default() };
    assert_eq!(shown(&sizes), [(1, 8000, 2)]);
    let ages = select(&server(), &older(5)).processes[0].stacks[0].ages;
    assert_eq!(ages, Ages { youngest: seconds(5), median: seconds(5), oldest: seconds(50) });
}

#[test]
fn each_order_has_its_first() {
    let first = |sort| shown(&Selection { sort, ..Selection::default() }).first().map(|stack| stack.0);
    let orders = [Sort::Bytes, Sort::Allocations, Sort::Age, Sort::Growth, Sort::Churn, Sort::Temporary, Sort::Peak];
    assert_eq!(orders.map(first), [1, 1, 1, 1, 3, 3, 1].map(Some));
    let peak = Selection { moment: Moment::Peak, ..Selection::default() };
    assert_eq!(shown(&peak), [(1, 10_000, 7), (2, 5000, 7), (3, 3333, 7)]);
    assert_eq!(select(&server(), &peak).moment, Moment::Peak);
}

fn doubts(report: &Report, selection: &Selection) -> Vec<Warning> {
    select(report, selection).warnings
}

#[test]
fn ages_are_only_doubted_where_it_matters() {
    let older = |milliseconds| Selection { older: Some(Duration::from_millis(milliseconds)), ..Selection::default() };
    // Fifty seconds may be nearly fifty-one.
    assert_eq!(doubts(&server(), &older(50_000)), []);
    assert_eq!(doubts(&server(), &older(50_001)), [Warning::AgesCut(2)]);
    assert_eq!(doubts(&server(), &older(51_000)), []);
    let mut exact = server();
    exact.processes[0].stacks[0].allocations =
        vec![LiveAllocation { address: 1, size: 9000, age: Duration::from_millis(50_123) }];
    assert_eq!(doubts(&exact, &older(50_124)), []);
}

#[test]
fn what_was_not_saved_is_told() {
    let mut report = server();
    report.processes[0].stacks[1].groups.clear();
    let large = Selection { min_size: Some(1), ..Selection::default() };
    assert_eq!(doubts(&report, &large), [Warning::GroupsUnknown(1)]);
    let listed = Selection { show_allocations: true, ..Selection::default() };
    assert_eq!(doubts(&report, &listed), [Warning::AllocationsNotSaved]);
    report.processes[0].stacks.iter_mut().for_each(|stack| {
        stack.at_peak = Outstanding::default();
        stack.totals.temporary = None;
        stack.groups.iter_mut().for_each(|group| group.age = Duration::ZERO);
    });
    let sorted = |sort| Selection { sort, ..Selection::default() };
    assert_eq!(doubts(&report, &sorted(Sort::Peak)), [Warning::PeakUnknown]);
    assert_eq!(doubts(&report, &sorted(Sort::Temporary)), [Warning::TemporaryUnknown]);
    report.processes[0].stacks.truncate(1);
    let old = Selection { older: Some(seconds(1)), ..Selection::default() };
    assert_eq!(doubts(&report, &old), [Warning::AgesUnknown]);
    report.processes[0].stacks[0].groups = vec![BlockGroup { size: 90, ..group(100, 10, 5) }];
    assert_eq!(doubts(&report, &large), [Warning::SizesCut(10)]);
}

/// Outstanding bytes before and after, and the functions, of the first process.
fn differing(before: &Report, after: &Report) -> (Vec<(u64, u64, String)>, Vec<DifferenceWarning>) {
    let selection = DifferenceSelection::default();
    let difference = difference(("before", before), ("after", after), &selection);
    let stacks = difference.processes.into_iter().flat_map(|process| process.stacks).map(|stack| {
        let functions = stack.frames.iter().filter_map(|frame| {
            let line =
                frame.source.as_ref().and_then(|source| source.line).map_or(String::new(), |line| format!(":{line}"));
            Some(format!("{}{line}", frame.function.as_deref()?))
        });
        let functions = functions.collect::<Vec<_>>().join(" ");
        (stack.before.outstanding.bytes, stack.after.outstanding.bytes, functions)
    });
    (stacks.collect(), difference.warnings)
}

#[test]
fn in_one_build_lines_tell_stacks_apart_and_in_two_functions_do() {
    let of_build = |build: u8, first: u64, second: u64, blocks: [u64; 2]| {
        one(vec![
            stack(1, vec![frame("f", Some(build), first, 5)], vec![group(10, blocks[0], 1)]),
            stack(2, vec![frame("f", Some(build), second, 6)], vec![group(10, blocks[1], 1)]),
        ])
    };
    let (stacks, warnings) = differing(&of_build(1, 16, 32, [3, 4]), &of_build(1, 16, 32, [5, 1]));
    assert_eq!(stacks, [(30, 50, "f:5".to_owned()), (40, 10, "f:6".to_owned())]);
    assert_eq!(warnings, []);
    let (stacks, warnings) = differing(&of_build(1, 16, 32, [3, 4]), &of_build(2, 18, 36, [5, 4]));
    assert_eq!(stacks, [(70, 90, "f".to_owned())]);
    assert_eq!(warnings, [DifferenceWarning::OtherBuild { module: "server".to_owned() }]);
}

#[test]
fn a_frame_that_is_named_on_one_side_only_is_the_same() {
    let mut unnamed = server();
    unnamed.processes[0].stacks[0].frames[0].function = None;
    let mut inlined = server();
    let outer = frame("store", Some(1), 16, 5);
    let inner = Frame { inlined: true, function: Some("append".to_owned()), ..outer.clone() };
    inlined.processes[0].stacks[0].frames = vec![inner, outer];
    assert_eq!(differing(&unnamed, &inlined).0, []);
}

#[test]
fn several_processes_are_compared_by_command() {
    let worker = |pid, blocks| {
        process(pid, "worker", vec![stack(1, vec![frame("f", Some(1), 16, 5)], vec![group(10, blocks, 1)])])
    };
    let master = |pid| process(pid, "master", vec![stack(2, vec![frame("g", Some(1), 32, 6)], vec![group(7, 1, 1)])]);
    let before = report(vec![master(1), worker(2, 3)]);
    let after = report(vec![worker(8, 4), worker(9, 5)]);
    let compared = difference(("before", &before), ("after", &after), &DifferenceSelection::default());
    let summary = |process: &crate::model::ProcessDifference| {
        (process.command.clone(), process.pids_before.clone(), process.pids_after.clone(), process.change().bytes)
    };
    let expected = [("worker".to_owned(), vec![2], vec![8, 9], 60), ("master".to_owned(), vec![1], vec![], -7)];
    assert_eq!(compared.processes.iter().map(summary).collect::<Vec<_>>(), expected);
    // One each are compared whatever they are called, with a doubt.
    let (stacks, warnings) = differing(&report(vec![master(1)]), &report(vec![worker(1, 1)]));
    assert_eq!(stacks.len(), 2);
    assert!(matches!(&warnings[..], [DifferenceWarning::OtherProgram { .. }]), "{warnings:?}");
}

#[test]
fn what_cannot_be_compared_without_care_is_told() {
    let with = |change: fn(&mut Report)| {
        let mut report = server();
        change(&mut report);
        differing(&server(), &report).1
    };
    assert_eq!(with(|_| {}), []);
    assert!(matches!(with(|report| report.sample_bytes = Some(5))[..], [DifferenceWarning::SampledOtherwise { .. }]));
    assert!(matches!(with(|report| report.losses.frees_ring_full = 1)[..], [DifferenceWarning::Lost { frees: 1, .. }]));
    assert!(matches!(with(|report| report.processes[0].selected_stacks = 9)[..], [DifferenceWarning::Cut { .. }]));
    assert!(matches!(with(|report| report.elapsed = seconds(50))[..], [DifferenceWarning::OtherStart { pid: 7, .. }]));
    let before = |report: &mut Report| {
        report.time -= jiff::SignedDuration::from_secs(10);
        report.elapsed -= seconds(10);
    };
    assert!(matches!(with(before)[..], [DifferenceWarning::Backwards { .. }]));
}
