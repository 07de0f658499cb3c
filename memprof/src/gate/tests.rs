//! What reports fail for, on reports made by hand.

use super::judge;
use crate::model::{
    Cause, Course, EndedProcesses, FailWhen, Failure, FailureCause, Frame, Identity, Losses, Memory, Moment,
    Outstanding, ProcessSnapshot, ProcessVerdict, Ranking, Report, ScaledFigures, StackId, StackSnapshot, Suppressed,
    Totals, Trend, Warning, Watched,
};

const NOTHING: FailWhen = FailWhen { above: None, growing: false, loss: false };
const GROWING: FailWhen = FailWhen { growing: true, ..NOTHING };
const LOSS: FailWhen = FailWhen { loss: true, ..NOTHING };

fn above(limit: u64) -> FailWhen {
    FailWhen { above: Some(limit), ..NOTHING }
}

fn stack(id: u64, bytes: u64) -> StackSnapshot<Frame> {
    StackSnapshot {
        outstanding: Outstanding { bytes, allocations: 1 },
        ..StackSnapshot::empty(StackId(id), Vec::new())
    }
}

fn trend(rate: f64) -> Trend {
    Trend { course: Course::Grows, bytes_per_second: rate, ..Trend::NONE }
}

fn growing(id: u64, bytes: u64, rate: f64) -> StackSnapshot<Frame> {
    StackSnapshot { trend: trend(rate), ..stack(id, bytes) }
}

fn process(pid: u32, stacks: Vec<StackSnapshot<Frame>>) -> ProcessSnapshot<Frame> {
    ProcessSnapshot {
        exited: true,
        outstanding: Outstanding {
            bytes: stacks.iter().map(|stack| stack.outstanding.bytes).sum(),
            allocations: stacks.len() as u64,
        },
        selected_stacks: stacks.len(),
        stacks,
        ..ProcessSnapshot::empty(pid, format!("p{pid}"))
    }
}

fn growing_process(pid: u32, rate: f64, stacks: Vec<StackSnapshot<Frame>>) -> ProcessSnapshot<Frame> {
    let verdict = ProcessVerdict { trend: trend(rate), memory: None, cause: Cause::Heap };
    ProcessSnapshot { verdict, ..process(pid, stacks) }
}

fn report(processes: Vec<ProcessSnapshot<Frame>>) -> Report {
    Report { processes, ..Report::empty(jiff::Timestamp::UNIX_EPOCH) }
}

/// The one failure: its cause, its process, how many others, and its stacks.
fn failure(report: &Report, when: &FailWhen) -> (FailureCause, Option<u32>, usize, Vec<u64>) {
    let mut failures = judge(report, when).failures;
    assert_eq!(failures.len(), 1, "{failures:?}");
    let Failure { cause, process, others, stacks } = failures.remove(0);
    (cause, process.map(|(pid, _)| pid), others, stacks.iter().map(|stack| stack.id.0).collect())
}

fn passes(report: &Report, when: &FailWhen) -> bool {
    judge(report, when).failures.is_empty()
}

#[test]
fn the_process_that_holds_most_is_told_of_with_its_largest_stacks() {
    let stacks = vec![stack(1, 10), stack(2, 40), stack(3, 20), stack(4, 30)];
    let report = report(vec![process(7, vec![stack(9, 60)]), process(8, stacks), process(9, vec![stack(1, 5)])]);
    let held = Outstanding { bytes: 100, allocations: 4 };
    let cause = |limit| FailureCause::Above { limit, held, moment: Moment::Now, is_estimate: false };
    assert_eq!(failure(&report, &above(0)), (cause(0), Some(8), 2, vec![2, 4, 3]));
    assert_eq!(failure(&report, &above(50)), (cause(50), Some(8), 1, vec![2, 4, 3]));
    assert_eq!(failure(&report, &above(99)), (cause(99), Some(8), 0, vec![2, 4, 3]));
    assert!(passes(&report, &above(100)), "not the sum of all processes, and no more than that");
    assert!(passes(&report, &NOTHING));
}

#[test]
fn where_windows_were_observed_it_is_the_estimate_that_counts() {
    let outstanding = Outstanding { bytes: 1000, allocations: 10 };
    let scaled = Some(ScaledFigures { outstanding, standard_error: None });
    let report = report(vec![process(1, vec![StackSnapshot { scaled, ..stack(1, 100) }])]);
    let cause = FailureCause::Above { limit: 500, held: outstanding, moment: Moment::Now, is_estimate: true };
    assert_eq!(failure(&report, &above(500)).0, cause);
    assert!(passes(&report, &above(1000)));
}

#[test]
fn a_process_that_grows_is_told_of_before_its_stacks() {
    let stacks = || vec![stack(1, 900), growing(2, 10, 5.0), growing(3, 10, 8.0), stack(4, 10)];
    let all =
        report(vec![process(1, stacks()), growing_process(2, 9.0, stacks()), growing_process(3, 7.0, Vec::new())]);
    let cause = FailureCause::Grows { bytes_per_second: 9.0 };
    assert_eq!(failure(&all, &GROWING), (cause, Some(2), 1, vec![3, 2, 1]));
    assert!(passes(&all, &NOTHING));

    let quiet = report(vec![process(1, vec![growing(9, 1, 1.0)]), process(2, stacks()), process(3, Vec::new())]);
    let cause = FailureCause::StacksGrow { stacks: 2, bytes_per_second: 8.0 };
    assert_eq!(failure(&quiet, &GROWING), (cause, Some(2), 1, vec![3, 2]));
    assert!(passes(&report(vec![process(1, vec![stack(1, 1 << 40)])]), &GROWING));
}

#[test]
fn growth_that_is_suppressed_is_no_failure() {
    let suppressed = |grows| Some(Suppressed { stacks: 1, grows, ..Suppressed::default() });
    let with = |grows| ProcessSnapshot { suppressed: suppressed(grows), ..growing_process(1, 3.0, vec![stack(1, 1)]) };
    assert!(passes(&report(vec![with(true)]), &GROWING));
    assert!(!passes(&report(vec![with(false)]), &GROWING));
    let mut other = with(true);
    other.stacks.push(growing(2, 1, 1.0));
    assert_eq!(failure(&report(vec![other]), &GROWING).3, [2]);
}

#[test]
fn what_a_sweep_saw_grow_counts_if_it_was_not_attached_to() {
    let watched = |pid, rate| Watched {
        pid,
        command: format!("p{pid}"),
        identity: Identity::default(),
        memory: Memory::default(),
        trend: trend(rate),
    };
    let ranking =
        Ranking { growing: 3, suspects: vec![watched(1, 9.0), watched(2, 8.0), watched(3, 7.0)], ..Ranking::default() };
    let seen = Report { ranking: Some(ranking.clone()), ..report(vec![process(1, Vec::new())]) };
    let cause = FailureCause::MemoryGrows { bytes_per_second: 8.0 };
    assert_eq!(failure(&seen, &GROWING), (cause, Some(2), 1, vec![]));
    let all = Report { ranking: Some(ranking), ..report((1..4).map(|pid| process(pid, Vec::new())).collect()) };
    assert!(passes(&all, &GROWING));
}

#[test]
fn a_loss_is_a_failure_or_else_a_doubt() {
    let losses = Losses { nursery_full: 12, ..Losses::default() };
    let nameless = Warning::ObjectUnreadable { path: "/x".into() };
    let late = Warning::SeenLate(3);
    let warnings = vec![Warning::NurseryFull(12), nameless, late.clone()];
    let lossy = Report { losses, warnings, ..report(vec![process(1, vec![stack(1, 10)])]) };
    let all = vec![Warning::NurseryFull(12), late];

    assert_eq!(failure(&lossy, &LOSS).0, FailureCause::Loss(all.clone()));
    assert_eq!(judge(&lossy, &LOSS).doubts, []);
    for when in [above(0), above(10), GROWING] {
        assert_eq!(judge(&lossy, &when).doubts, all, "{when:?}");
    }
    assert_eq!(judge(&lossy, &NOTHING).doubts, []);
    assert_eq!(judge(&lossy, &FailWhen { loss: true, ..above(0) }).failures.len(), 2);
    assert!(passes(&report(vec![process(1, vec![stack(1, 10)])]), &LOSS));
}

#[test]
fn processes_that_ended_are_doubted_if_not_all_of_the_others_is_judged() {
    let outstanding = Outstanding { bytes: 300, allocations: 3 };
    let ended = EndedProcesses { processes: 3, outstanding, totals: Totals::default() };
    let of = |process| Report { ended, ..report(vec![process]) };
    let all = of(process(1, vec![stack(1, 200)]));
    assert_eq!(judge(&all, &above(200)).doubts, [], "each of the three holds no more than this one");
    let part = of(ProcessSnapshot { outstanding, ..process(1, vec![stack(1, 200)]) });
    assert_eq!(judge(&part, &above(200)).doubts, [Warning::EndedUnjudged { processes: 3, bytes: 300 }]);
    assert_eq!(judge(&part, &above(300)).doubts, []);
    assert_eq!(judge(&part, &above(100)).doubts, [], "it fails anyhow");
}
