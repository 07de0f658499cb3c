//! The blocks of a stack by size and age, for profiles that are looked at again: in a bounded number of groups, however many
//! sizes there are.

use std::{collections::HashMap, time::Duration};

use super::estimate::{Estimate, Weighed};
use crate::model::BlockGroup;

/// How many groups a stack has at most.
const MOST: usize = 512;

/// Blocks of one stack.
#[derive(Debug, Default)]
pub(super) struct BlockGroups {
    /// How often there were too many groups, and they were made larger.
    coarseness: u32,
    /// By size and age in nanoseconds, both cut.
    groups: HashMap<(u64, u64), Estimate>,
}

impl BlockGroups {
    /// Takes in a block.
    pub(super) fn add(&mut self, block: Weighed, age: Duration) {
        let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        self.groups.entry(cut(block.size, age, self.coarseness)).or_default().add(block);
        while self.groups.len() > MOST {
            self.coarsen();
        }
    }

    /// The groups, the smallest blocks first, of these the youngest.
    pub(super) fn into_groups(self) -> Vec<BlockGroup> {
        let groups = self.groups.into_iter().map(|((size, age), estimate)| BlockGroup {
            size,
            age: Duration::from_nanos(age),
            outstanding: estimate.outstanding(),
        });
        let mut groups: Vec<_> = groups.collect();
        groups.sort_unstable_by_key(|group| (group.size, group.age));
        groups
    }

    fn coarsen(&mut self) {
        self.coarseness += 1;
        for ((size, age), estimate) in std::mem::take(&mut self.groups) {
            self.groups.entry(cut(size, age, self.coarseness)).or_default().merge(&estimate);
        }
    }
}

/// Size and age, cut to fewer digits the coarser: first ages lose theirs, then sizes. In the end all are one.
fn cut(size: u64, age: u64, coarseness: u32) -> (u64, u64) {
    match coarseness {
        0 => (size, to_digits(age, 2)),
        1 => (size, to_digits(age, 1)),
        2 => (size, power_of_ten(age)),
        3 => (to_digits(size, 2), power_of_ten(age)),
        4 => (to_digits(size, 1), power_of_ten(age)),
        _ => (0, 0),
    }
}

/// The number with so many digits, the others zero.
fn to_digits(number: u64, digits: u32) -> u64 {
    let unit = 10_u64.pow(number.checked_ilog10().map_or(0, |log| (log + 1).saturating_sub(digits)));
    number / unit * unit
}

/// The largest power of ten that is not larger; zero for zero.
fn power_of_ten(number: u64) -> u64 {
    number.checked_ilog10().map_or(0, |log| 10_u64.pow(log))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Outstanding, WEIGHT_OF_ONE};

    fn groups(blocks: impl IntoIterator<Item = (u64, u64)>) -> Vec<BlockGroup> {
        let mut groups = BlockGroups::default();
        for (size, age) in blocks {
            groups.add(Weighed { size, weight: WEIGHT_OF_ONE }, Duration::from_millis(age));
        }
        groups.into_groups()
    }

    #[test]
    fn sizes_are_exact_and_ages_have_two_digits() {
        let of = |size, age, bytes, allocations| BlockGroup {
            size,
            age: Duration::from_millis(age),
            outstanding: Outstanding { bytes, allocations },
        };
        let found = groups([(100, 1234), (100, 1299), (100, 1300), (17, 99_999), (0, 0)]);
        assert_eq!(found, [of(0, 0, 0, 1), of(17, 99_000, 17, 1), of(100, 1200, 200, 2), of(100, 1300, 100, 1)]);
    }

    #[test]
    fn many_groups_become_fewer_and_nothing_is_missing() {
        let found = groups((0..100_000).map(|block| (block, block * 7)));
        assert!(found.len() <= MOST, "{}", found.len());
        let sum = |of: fn(&Outstanding) -> u64| found.iter().map(|group| of(&group.outstanding)).sum::<u64>();
        assert_eq!(sum(|outstanding| outstanding.allocations), 100_000);
        assert_eq!(sum(|outstanding| outstanding.bytes), (0..100_000_u64).sum::<u64>());
        // Ages give way before sizes do.
        let of_few_sizes = groups((0..100_000).map(|block| (block % 100, block)));
        assert_eq!(of_few_sizes.iter().map(|group| group.size).collect::<std::collections::BTreeSet<_>>().len(), 100);
    }

    #[test]
    fn the_largest_numbers_are_cut_too() {
        assert_eq!(to_digits(u64::MAX, 2), 18_000_000_000_000_000_000);
        assert_eq!((to_digits(0, 2), power_of_ten(0), power_of_ten(u64::MAX)), (0, 0, 10_000_000_000_000_000_000));
    }
}
