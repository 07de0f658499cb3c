//! Which parts of an array are in use: first fit, with what is next to each other joined again.

use std::{collections::BTreeMap, ops::Range};

/// The free parts of an array.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Extents {
    /// Ends, by starts. No two touch.
    free: BTreeMap<u32, u32>,
}

impl Extents {
    /// All of an array is free.
    pub(super) fn new(entries: u32) -> Self {
        Self { free: BTreeMap::from([(0, entries)]) }
    }

    /// Takes `count` entries that follow one another; `None` if no part is that long.
    pub(super) fn take(&mut self, count: u32) -> Option<Range<u32>> {
        let (&start, &end) = self.free.iter().find(|(start, end)| **end - **start >= count)?;
        self.free.remove(&start);
        let taken = start..start + count;
        if taken.end < end {
            self.free.insert(taken.end, end);
        }
        Some(taken)
    }

    /// Gives back what was taken.
    pub(super) fn give_back(&mut self, taken: Range<u32>) {
        if taken.is_empty() {
            return;
        }
        let Range { mut start, mut end } = taken;
        if let Some((&before, &touching)) = self.free.range(..start).next_back()
            && touching == start
        {
            start = before;
        }
        if let Some(after) = self.free.remove(&end) {
            end = after;
        }
        self.free.insert(start, end);
    }

    /// Entries that are free, in all.
    pub(super) fn free_entries(&self) -> u32 {
        self.free.iter().map(|(start, end)| end - start).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_given_back_joins_its_neighbours() {
        let mut extents = Extents::new(100);
        let taken: Vec<_> = (0..4).map(|_| extents.take(25)).collect();
        assert_eq!(taken[3], Some(75..100));
        assert_eq!(extents.take(1), None);
        for index in [0, 2, 1, 3] {
            extents.give_back(taken[index].clone().unwrap_or(0..0));
        }
        assert_eq!(extents, Extents::new(100));
    }

    proptest! {
        #[test]
        fn nothing_is_taken_twice_and_nothing_is_lost(
            steps in proptest::collection::vec((any::<bool>(), 0u32..40, any::<prop::sample::Index>()), 0..200),
        ) {
            let mut extents = Extents::new(500);
            let mut taken: Vec<Range<u32>> = Vec::new();
            for (takes, count, which) in steps {
                if takes {
                    taken.extend(extents.take(count));
                } else if !taken.is_empty() {
                    extents.give_back(taken.swap_remove(which.index(taken.len())));
                }
                let mut sorted: Vec<_> = taken.iter().filter(|range| !range.is_empty()).cloned().collect();
                sorted.sort_by_key(|range| range.start);
                prop_assert!(sorted.windows(2).all(|pair| pair[0].end <= pair[1].start));
                let in_use: u32 = taken.iter().map(|range| range.end - range.start).sum();
                prop_assert_eq!(in_use + extents.free_entries(), 500);
            }
        }
    }
}
