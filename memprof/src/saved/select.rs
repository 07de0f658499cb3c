//! What of a report is shown, where the report has all stacks and the groups of their blocks.
//!
//! `heap/select.rs` does this with the blocks themselves, when a report has one reader; with groups, ages have two digits only.

use std::{cmp::Reverse, time::Duration};

use super::groups::Blocks;
use crate::model::{
    Ages, Frame, Moment, Outstanding, ProcessSnapshot, Report, Sampling, ScaledFigures, Selection, Sort, StackSnapshot,
    StandardError, Warning,
};

/// The part of the report that is asked for: the stacks in their order, with what they hold of the blocks that count.
pub fn select(report: &Report, selection: &Selection) -> Report {
    let selector = Selector { selection, sampling: Sampling::by_bytes(report.sample_bytes.unwrap_or_default()) };
    let processes = report.processes.iter().map(|process| selector.process(process)).collect();
    let mut selected = report.with_processes(processes);
    selected.warnings.extend(selector.doubts(report));
    if selection.moment == Moment::Peak {
        selected.moment = Moment::Peak;
    }
    selected
}

struct Selector<'a> {
    selection: &'a Selection,
    sampling: Sampling,
}

/// What a stack holds of the blocks that count.
struct Choice<'a> {
    stack: &'a StackSnapshot<Frame>,
    outstanding: Outstanding,
    standard_error: StandardError,
    ages: Ages,
}

impl Selector<'_> {
    fn process(&self, process: &ProcessSnapshot<Frame>) -> ProcessSnapshot<Frame> {
        let mut choices: Vec<_> = process.stacks.iter().map(|stack| self.choice(stack)).collect();
        choices.retain(|choice| self.is_selected(choice));
        choices.sort_unstable_by_key(|choice| {
            (Reverse(self.rank(choice)), Reverse(choice.outstanding.bytes), choice.stack.id)
        });
        let selected = choices.len();
        // What was cut off when it was saved is selected still, as far as anybody knows.
        let hidden = if self.filters() { 0 } else { process.selected_stacks.saturating_sub(process.stacks.len()) };
        choices.truncate(self.selection.top.unwrap_or(usize::MAX));
        let stacks = choices.iter().map(|choice| self.snapshot(choice)).collect();
        process.with_stacks(stacks, selected + hidden)
    }

    fn filters(&self) -> bool {
        let Selection { older, min_size, max_size, .. } = self.selection;
        older.is_some() || min_size.is_some() || max_size.is_some()
    }

    fn choice<'a>(&self, stack: &'a StackSnapshot<Frame>) -> Choice<'a> {
        let whole =
            Choice { stack, outstanding: stack.outstanding, standard_error: stack.standard_error, ages: stack.ages };
        match self.selection.moment {
            Moment::Peak => self.at_peak(whole),
            Moment::Now if self.filters() => self.filtered(whole),
            Moment::Now => whole,
        }
    }

    fn at_peak<'a>(&self, whole: Choice<'a>) -> Choice<'a> {
        let outstanding = whole.stack.at_peak;
        let size = outstanding.bytes / outstanding.allocations.max(1);
        let standard_error = self.sampling.standard_error(size, outstanding.allocations);
        let ages = Ages { oldest: whole.ages.oldest, ..Ages::default() };
        Choice { outstanding, standard_error, ages, ..whole }
    }

    fn filtered<'a>(&self, whole: Choice<'a>) -> Choice<'a> {
        let blocks = Blocks::of(whole.stack, self.sampling).admitted_by(self.selection);
        Choice {
            outstanding: blocks.outstanding(),
            standard_error: blocks.standard_error(self.sampling),
            ages: blocks.ages(),
            ..whole
        }
    }

    fn is_selected(&self, choice: &Choice<'_>) -> bool {
        let stack = choice.stack;
        let has_held_something = stack.totals.allocations > 0 || stack.at_peak.allocations > 0;
        choice.outstanding.allocations > 0 || self.selection.shows_idle_stacks() && has_held_something
    }

    fn rank(&self, choice: &Choice<'_>) -> i128 {
        match self.selection.sort {
            Sort::Bytes => choice.outstanding.bytes.into(),
            Sort::Allocations => choice.outstanding.allocations.into(),
            Sort::Age => choice.ages.oldest.as_nanos().cast_signed(),
            Sort::Growth => choice.stack.growth_bytes.into(),
            Sort::Churn => choice.stack.totals.allocations.into(),
            Sort::Temporary => choice.stack.totals.temporary.unwrap_or_default().into(),
            Sort::Peak => choice.stack.at_peak.bytes.into(),
        }
    }

    fn snapshot(&self, choice: &Choice<'_>) -> StackSnapshot<Frame> {
        let stack = choice.stack;
        let is_now = self.selection.moment == Moment::Now;
        let admits = |size, age: Duration| is_now && self.selection.admits(size, age);
        let allocations = stack.allocations.iter().filter(|block| admits(block.size, block.age));
        let groups = stack.groups.iter().filter(|group| admits(group.size, group.age));
        StackSnapshot {
            id: stack.id,
            outstanding: choice.outstanding,
            standard_error: choice.standard_error,
            scaled: stack.scaled.filter(|_| is_now).map(|scaled| scaled_part(scaled, stack.outstanding, choice)),
            growth_bytes: stack.growth_bytes,
            totals: stack.totals,
            at_peak: stack.at_peak,
            ages: choice.ages,
            trend: stack.trend,
            frames: stack.frames.clone(),
            truncated: stack.truncated,
            allocations: if self.selection.show_allocations { allocations.copied().collect() } else { Vec::new() },
            groups: if self.selection.show_groups { groups.copied().collect() } else { Vec::new() },
        }
    }

    /// What of the selection the report cannot give, or not for certain.
    fn doubts(&self, report: &Report) -> Vec<Warning> {
        let stacks: Vec<_> = report.processes.iter().flat_map(|process| &process.stacks).collect();
        let holding: Vec<_> = stacks.iter().copied().filter(|stack| stack.outstanding.allocations > 0).collect();
        let mut doubts = if self.selection.moment == Moment::Now && self.filters() {
            self.doubts_of_filters(&holding)
        } else {
            Vec::new()
        };
        let if_all =
            |is_wanted: bool, of: &[&StackSnapshot<Frame>], lacks: fn(&StackSnapshot<Frame>) -> bool, doubt| {
                (is_wanted && !of.is_empty() && of.iter().all(|stack| lacks(stack))).then_some(doubt)
            };
        let wants_peak = self.selection.moment == Moment::Peak || self.selection.sort == Sort::Peak;
        doubts.extend(if_all(
            self.selection.show_allocations && self.selection.moment == Moment::Now,
            &holding,
            |stack| stack.allocations.is_empty(),
            Warning::AllocationsNotSaved,
        ));
        doubts.extend(if_all(
            wants_peak,
            &holding,
            |stack| stack.at_peak == Outstanding::default(),
            Warning::PeakUnknown,
        ));
        doubts.extend(if_all(
            self.selection.sort == Sort::Temporary,
            &stacks,
            |stack| stack.totals.temporary.is_none(),
            Warning::TemporaryUnknown,
        ));
        doubts
    }

    fn doubts_of_filters(&self, stacks: &[&StackSnapshot<Frame>]) -> Vec<Warning> {
        let blocks: Vec<_> = stacks.iter().map(|stack| Blocks::of(stack, self.sampling)).collect();
        let sum = |of: &dyn Fn(&Blocks) -> u64| blocks.iter().fold(0_u64, |sum, blocks| sum.saturating_add(of(blocks)));
        let knows_no_age = self.selection.older.is_some() && blocks.iter().all(Blocks::have_no_ages);
        let ages_cut = self.selection.older.map_or(0, |older| sum(&|blocks| blocks.perhaps_older(older)));
        let asks_for_sizes = self.selection.min_size.is_some() || self.selection.max_size.is_some();
        let sizes_cut = if asks_for_sizes { sum(&|blocks| blocks.of_cut_size(self.sampling)) } else { 0 };
        let unknown = blocks.iter().filter(|blocks| blocks.is_empty()).count();
        let doubts = [
            (unknown > 0).then_some(Warning::GroupsUnknown(unknown)),
            knows_no_age.then_some(Warning::AgesUnknown),
            (!knows_no_age && ages_cut > 0).then_some(Warning::AgesCut(ages_cut)),
            (sizes_cut > 0).then_some(Warning::SizesCut(sizes_cut)),
        ];
        doubts.into_iter().flatten().collect()
    }
}

/// The same part of what the whole time is estimated to have. How far that is from the truth is known for the whole stack only.
fn scaled_part(scaled: ScaledFigures, whole: Outstanding, choice: &Choice<'_>) -> ScaledFigures {
    if choice.outstanding == whole {
        return scaled;
    }
    let part = |of: u64, part: u64, whole: u64| (u128::from(of) * u128::from(part) / u128::from(whole.max(1))) as u64;
    let outstanding = Outstanding {
        bytes: part(scaled.outstanding.bytes, choice.outstanding.bytes, whole.bytes),
        allocations: part(scaled.outstanding.allocations, choice.outstanding.allocations, whole.allocations),
    };
    ScaledFigures { outstanding, standard_error: None }
}
