//! The blocks of a stack, as far as a saved profile knows them: one by one, or by size and age.

use std::time::Duration;

use crate::model::{Ages, BlockGroup, Frame, Outstanding, Sampling, Selection, StackSnapshot, StandardError};

/// Blocks of about one size and age.
#[derive(Clone, Debug)]
pub(super) struct Blocks(Vec<BlockGroup>);

impl Blocks {
    /// Those of a stack. If each is known by itself, its age is exact.
    pub(super) fn of(stack: &StackSnapshot<Frame>, sampling: Sampling) -> Self {
        if stack.allocations.is_empty() || sampling.bytes().is_some() {
            return Self(stack.groups.clone());
        }
        let blocks = stack.allocations.iter().map(|block| BlockGroup {
            size: block.size,
            age: block.age,
            outstanding: Outstanding { bytes: block.size, allocations: 1 },
        });
        Self(blocks.collect())
    }

    /// Those that count.
    pub(super) fn admitted_by(mut self, selection: &Selection) -> Self {
        self.0.retain(|group| selection.admits(group.size, group.age));
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn outstanding(&self) -> Outstanding {
        let mut sum = Outstanding::default();
        self.0.iter().for_each(|group| sum.add_saturating(group.outstanding));
        sum
    }

    pub(super) fn standard_error(&self, sampling: Sampling) -> StandardError {
        let errors = self.0.iter().map(|group| sampling.standard_error(group.size, group.outstanding.allocations));
        let variance = errors.fold((0.0, 0.0), |(bytes, allocations), error| {
            (bytes + error.bytes * error.bytes, allocations + error.allocations * error.allocations)
        });
        StandardError { bytes: variance.0.sqrt(), allocations: variance.1.sqrt() }
    }

    /// Of the youngest, the middle one and the oldest.
    pub(super) fn ages(&self) -> Ages {
        let mut groups: Vec<_> = self.0.iter().map(|group| (group.age, group.outstanding.allocations)).collect();
        groups.sort_unstable();
        let all = self.outstanding().allocations;
        let mut seen = 0_u64;
        let median = groups.iter().find(|(_, allocations)| {
            seen = seen.saturating_add(*allocations);
            seen > all / 2
        });
        let age = |group: Option<&(Duration, u64)>| group.map_or(Duration::ZERO, |(age, _)| *age);
        Ages { youngest: age(groups.first()), median: age(median), oldest: age(groups.last()) }
    }

    pub(super) fn have_no_ages(&self) -> bool {
        self.0.iter().all(|group| group.age.is_zero())
    }

    /// How many may be at least as old, of those that do not seem to be.
    pub(super) fn perhaps_older(&self, older: Duration) -> u64 {
        let is_doubtful = |group: &&BlockGroup| group.age < older && older < group.age + digit(group.age);
        self.0.iter().filter(is_doubtful).fold(0, |sum, group| sum.saturating_add(group.outstanding.allocations))
    }

    /// How many have a size that is cut.
    pub(super) fn of_cut_size(&self, sampling: Sampling) -> u64 {
        // An estimate is rounded.
        let tolerance = |size: u64| if sampling.bytes().is_some() { size / 2 + 1 } else { 0 };
        let is_cut = |group: &&BlockGroup| {
            let Outstanding { bytes, allocations } = group.outstanding;
            group.size.saturating_mul(allocations).abs_diff(bytes) > tolerance(group.size)
        };
        self.0.iter().filter(is_cut).fold(0, |sum, group| sum.saturating_add(group.outstanding.allocations))
    }
}

/// What the second digit of an age stands for. Ages with more digits are exact.
fn digit(age: Duration) -> Duration {
    let nanoseconds = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
    let digits = nanoseconds.checked_ilog10().unwrap_or(0);
    let unit = 10_u64.pow(digits.saturating_sub(1));
    if nanoseconds.is_multiple_of(unit) { Duration::from_nanos(unit) } else { Duration::ZERO }
}
