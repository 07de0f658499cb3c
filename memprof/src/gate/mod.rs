//! Whether a report passes: what `--fail-above` and `--fail-on` ask, decided on all of the stacks that are selected and not suppressed.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;

use crate::model::{
    Course, FailWhen, Failure, FailureCause, Frame, Judgement, Outstanding, ProcessSnapshot, Report, StackSnapshot,
    Warning,
};

/// How many stacks are told of.
const MOST_STACKS: usize = 3;

type Process = ProcessSnapshot<Frame>;
type Stack = StackSnapshot<Frame>;

/// What becomes of a report. All selected stacks must be in it, but for those suppressed.
pub fn judge(report: &Report, when: &FailWhen) -> Judgement {
    if *when == FailWhen::default() {
        return Judgement::default();
    }
    let above = when.above.and_then(|limit| above(report, limit));
    let growing = if when.growing { growing(report) } else { None };
    let mut doubts = losses(report);
    let loss = (when.loss && !doubts.is_empty()).then(|| of_all(FailureCause::Loss(std::mem::take(&mut doubts))));
    doubts.extend(recorded(report));
    if above.is_none() {
        doubts.extend(when.above.and_then(|limit| unjudged(report, limit)));
    }
    Judgement { failures: [above, growing, loss].into_iter().flatten().collect(), doubts }
}

/// The process that holds most, if that is too much.
fn above(report: &Report, limit: u64) -> Option<Failure> {
    let held = report.processes.iter().map(|process| (held(process), process));
    let mut over: Vec<_> = held.filter(|(held, _)| held.bytes > limit).collect();
    over.sort_by_key(|(held, _)| Reverse(held.bytes));
    let (held, process) = *over.first()?;
    let mut stacks: Vec<_> = process.stacks.iter().collect();
    stacks.sort_by_key(|stack| Reverse(figures(stack).bytes));
    let is_estimate = report.sample_bytes.is_some() || stacks.iter().any(|stack| stack.scaled.is_some());
    let cause = FailureCause::Above { limit, held, moment: report.moment, is_estimate };
    Some(of_process(cause, process, over.len() - 1, &stacks))
}

/// What is selected in a process, and not suppressed.
fn held(process: &Process) -> Outstanding {
    process.stacks.iter().map(figures).fold(Outstanding::default(), |mut sum, stack| {
        sum.add_saturating(stack);
        sum
    })
}

/// Of the whole time, where only windows of it were observed.
fn figures(stack: &Stack) -> Outstanding {
    stack.scaled.as_ref().map_or(stack.outstanding, |scaled| scaled.outstanding)
}

/// The process that grows fastest; or has the stack that does; or was seen to grow from outside.
fn growing(report: &Report) -> Option<Failure> {
    let whole = report.processes.iter().filter(|process| grows_as_a_whole(process));
    let mut whole: Vec<_> = whole.map(|process| (process.verdict.trend.bytes_per_second, process)).collect();
    whole.sort_by(|(one, _), (other, _)| other.total_cmp(one));
    if let Some(&(bytes_per_second, process)) = whole.first() {
        let cause = FailureCause::Grows { bytes_per_second };
        return Some(of_process(cause, process, whole.len() - 1, &fastest_first(process)));
    }
    stacks_grow(report).or_else(|| memory_grows(report))
}

/// Growth of the whole process says nothing where stacks grow of which the user knows.
fn grows_as_a_whole(process: &Process) -> bool {
    let is_known = process.suppressed.as_ref().is_some_and(|suppressed| suppressed.grows);
    process.verdict.trend.course == Course::Grows && !is_known
}

fn stacks_grow(report: &Report) -> Option<Failure> {
    let growing = |process: &Process| process.stacks.iter().filter(|stack| grows(stack)).count();
    let fastest = |process: &Process| fastest_first(process).first().map_or(0.0, |stack| stack.trend.bytes_per_second);
    let processes = report.processes.iter().map(|process| (growing(process), process));
    let mut processes: Vec<_> = processes.filter(|(stacks, _)| *stacks > 0).collect();
    processes.sort_by(|(_, one), (_, other)| fastest(other).total_cmp(&fastest(one)));
    let (stacks, process) = *processes.first()?;
    let cause = FailureCause::StacksGrow { stacks, bytes_per_second: fastest(process) };
    let shown = fastest_first(process);
    Some(of_process(cause, process, processes.len() - 1, &shown[..stacks]))
}

fn grows(stack: &Stack) -> bool {
    stack.trend.course == Course::Grows
}

/// Those that grow, the fastest first; then the others, the largest first.
fn fastest_first(process: &Process) -> Vec<&Stack> {
    let rate = |stack: &Stack| if grows(stack) { stack.trend.bytes_per_second } else { 0.0 };
    let mut stacks: Vec<_> = process.stacks.iter().collect();
    stacks.sort_by_key(|stack| (!grows(stack), Reverse(figures(stack).bytes)));
    stacks.sort_by(|one, other| rate(other).total_cmp(&rate(one)));
    stacks
}

/// A sweep has seen it, and did not or could not attach to it: of what it has attached to, the heap's growth counts.
fn memory_grows(report: &Report) -> Option<Failure> {
    let suspects = report.ranking.iter().flat_map(|ranking| &ranking.suspects);
    let is_observed = |pid| report.processes.iter().any(|process| process.pid == pid);
    let mut suspects = suspects.filter(|suspect| suspect.trend.course == Course::Grows && !is_observed(suspect.pid));
    let first = suspects.next()?;
    let cause = FailureCause::MemoryGrows { bytes_per_second: first.trend.bytes_per_second };
    let process = Some((first.pid, first.command.clone()));
    Some(Failure { cause, process, others: suspects.count(), stacks: Vec::new() })
}

/// What was lost, in words.
fn losses(report: &Report) -> Vec<Warning> {
    let mut losses: Vec<_> = Warning::of_losses(&report.losses, report.sample_bytes.is_some()).collect();
    let others = report.warnings.iter().filter(|warning| warning.is_loss() && !losses.contains(warning));
    let others: Vec<_> = others.cloned().collect();
    losses.extend(others);
    losses
}

/// Of a report that was saved it is not known which of its warnings are losses, beside those that are counted.
fn recorded(report: &Report) -> impl Iterator<Item = Warning> {
    let counted: Vec<_> =
        Warning::of_losses(&report.losses, report.sample_bytes.is_some()).map(|loss| loss.to_string()).collect();
    let is_other = move |warning: &&Warning| match warning {
        Warning::Recorded(text) | Warning::LogRemark(text) => !counted.contains(text),
        _ => false,
    };
    report.warnings.iter().filter(is_other).cloned()
}

/// Of processes that have ended and are told of in sums, each holds less than those that are told of one by one. So they are of no
/// account while all that these hold is judged.
fn unjudged(report: &Report, limit: u64) -> Option<Warning> {
    let is_all_judged = report.processes.iter().all(|process| {
        let selected = process.stacks.iter().map(|stack| stack.outstanding.bytes).fold(0, u64::saturating_add);
        selected == process.outstanding.bytes
    });
    let (processes, bytes) = (report.ended.processes, report.ended.outstanding.bytes);
    (!is_all_judged && bytes > limit).then_some(Warning::EndedUnjudged { processes, bytes })
}

fn of_process(cause: FailureCause, process: &Process, others: usize, stacks: &[&Stack]) -> Failure {
    let stacks = stacks.iter().take(MOST_STACKS).map(|stack| (*stack).clone()).collect();
    Failure { cause, process: Some((process.pid, process.command.clone())), others, stacks }
}

fn of_all(cause: FailureCause) -> Failure {
    Failure { cause, process: None, others: 0, stacks: Vec::new() }
}
