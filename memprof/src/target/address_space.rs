//! What lay where in an image, and since when.
//!
//! Mappings come and go (`dlopen`, JIT code), and stacks are looked up some time after they were taken, so what was
//! mapped before is kept beside what is mapped now. The addresses are cut into disjoint *pieces* at every boundary that
//! a mapping ever had; each piece has its *layers*, the mappings that covered it, by age. A lookup is two binary
//! searches.

use std::{
    collections::BTreeMap,
    ops::{Range, RangeInclusive},
};

use super::{ObjectTable, TargetError, read_mappings};
use crate::model::{Mapping, ObjectId, Timestamp, address_for_lookup};

/// How many mappings of one place are remembered: more than there can be notices of before any is taken in, since the stacks of
/// that time are looked up afterwards.
const MOST_LAYERS: usize = 1 << 14;

/// How many programs before the current one are remembered: more than can follow one another between two looks at what is mapped, of
/// which the first is still reported.
const MOST_PROGRAMS: usize = 64;

/// The executable mappings of one image, now and before.
#[derive(Clone, Debug, Default)]
pub struct AddressSpace {
    /// When everything was unmapped (`execve`), oldest first.
    cleared: Vec<Timestamp>,
    /// By the address of the piece's first byte.
    pieces: BTreeMap<u64, Piece>,
}

#[derive(Clone, Debug)]
struct Piece {
    end: u64,
    /// Oldest first.
    layers: Vec<Layer>,
}

#[derive(Clone, Copy, Debug)]
struct Layer {
    since: Timestamp,
    /// Of nothing: when reading began, at some moment between which and `since` nothing was there.
    read_from: Timestamp,
    /// `None` where nothing is mapped any more.
    object: Option<ObjectId>,
    /// Offset in the file minus address, modulo 2⁶⁴: the same for all of a mapping, however it is cut.
    bias: u64,
}

impl AddressSpace {
    /// Reads what a process has mapped, as of `time`, and enters the objects in the table.
    ///
    /// `pid` may be any living thread of the process ([`Process::thread`](super::Process::thread)).
    ///
    /// # Errors
    /// As [`read_mappings`].
    pub fn read(pid: u32, time: Timestamp, objects: &mut ObjectTable) -> Result<Self, TargetError> {
        let mut space = Self::default();
        for event in read_mappings(pid, time)? {
            space.add(&objects.map(&event));
        }
        Ok(space)
    }

    /// Adds a mapping, which from its time on hides what it covers. Mappings may be added in any order of time.
    pub fn add(&mut self, mapping: &Mapping) {
        let Range { start, end } = mapping.addresses;
        if start >= end {
            return;
        }
        let layer = Layer {
            since: mapping.since,
            read_from: mapping.since,
            object: Some(mapping.object),
            bias: mapping.offset_in_file.wrapping_sub(start),
        };
        self.cut(start);
        self.cut(end);
        self.fill_gaps(start, end);
        self.pieces.range_mut(start..end).for_each(|(_, piece)| piece.add(layer));
    }

    /// The object that a return address lies in, and the return address's offset in its file.
    ///
    /// Of all mappings that ever covered the place, that one counts which was the latest at the time `at`; if all are
    /// newer, the earliest, since a stack and the mapping that it needs come by different ways and may be overtaken.
    pub fn find_return_address(&self, return_address: u64, at: Timestamp) -> Option<(ObjectId, u64)> {
        let address = address_for_lookup(return_address);
        let (_, piece) = self.pieces.range(..=address).next_back().filter(|(_, piece)| address < piece.end)?;
        let layer = piece.layer(self.program_at(at))?;
        Some((layer.object?, return_address.wrapping_add(layer.bias)))
    }

    /// What a child has that is forked at that time, whatever became of this one since.
    #[must_use]
    pub fn inherited(&self, at: Timestamp) -> Self {
        let mut space = self.clone();
        space.cleared.retain(|cleared| *cleared <= at);
        space.pieces.retain(|_, piece| {
            piece.layers.retain(|layer| layer.since <= at);
            !piece.layers.is_empty()
        });
        space
    }

    /// Unmaps everything that was mapped before `at`: the process called `execve`. What it was stays known for stacks of
    /// that time, as long as few programs have followed.
    pub fn clear(&mut self, at: Timestamp) {
        let index = self.cleared.partition_point(|earlier| *earlier <= at);
        self.cleared.insert(index, at);
        if self.cleared.len() > 2 * MOST_PROGRAMS {
            self.forget_oldest_programs();
        }
    }

    /// A process that replaces its program for ever must not grow the table, each time at other addresses.
    fn forget_oldest_programs(&mut self) {
        self.cleared.drain(..self.cleared.len() - MOST_PROGRAMS);
        let Some(&oldest) = self.cleared.first() else { return };
        self.pieces.retain(|_, piece| {
            piece.layers.retain(|layer| layer.since >= oldest);
            !piece.layers.is_empty()
        });
    }

    /// Adds a mapping that was read, not told of, where nothing else is known to be mapped at its time.
    pub fn fill(&mut self, mapping: &Mapping) {
        let Range { start, end } = mapping.addresses;
        let is_bare = |piece: &Piece| {
            let newer = piece.layers.partition_point(|layer| layer.since <= mapping.since);
            newer == piece.layers.len() && piece.layers.last().is_none_or(|layer| layer.object.is_none())
        };
        let mut bare = Vec::new();
        let mut covered = start;
        for (&piece_start, piece) in self.pieces.range(..end).filter(|(_, piece)| piece.end > start) {
            bare.push(covered..piece_start.max(covered));
            covered = piece.end.max(covered);
            if is_bare(piece) {
                bare.push(piece_start.max(start)..piece.end.min(end));
            }
        }
        bare.push(covered..end.max(covered));
        for addresses in bare {
            let offset_in_file = mapping.offset_in_file.wrapping_add(addresses.start.wrapping_sub(start));
            self.add(&Mapping { addresses, offset_in_file, ..mapping.clone() });
        }
    }

    /// What is not in these ranges is not mapped any more. They are what was mapped at some moment `during` reading them.
    pub fn retain(&mut self, mapped: impl IntoIterator<Item = Range<u64>>, during: Range<Timestamp>) {
        let mut mapped: Vec<_> = mapped.into_iter().collect();
        mapped.sort_by_key(|range| range.start);
        for range in &mapped {
            self.cut(range.start);
            self.cut(range.end);
        }
        let is_mapped = |start| {
            let index = mapped.partition_point(|range| range.start <= start);
            index > 0 && start < mapped[index - 1].end
        };
        for (_, piece) in self.pieces.iter_mut().filter(|(start, _)| !is_mapped(**start)) {
            piece.end(during.clone());
        }
    }

    /// Every object that was mapped since the last `execve`, each once.
    pub fn objects(&self) -> Vec<ObjectId> {
        let start = self.cleared.last().copied().unwrap_or_default();
        let layers = self.pieces.values().flat_map(|piece| &piece.layers).filter(|layer| layer.since >= start);
        let mut objects: Vec<_> = layers.filter_map(|layer| layer.object).collect();
        objects.sort_unstable();
        objects.dedup();
        objects
    }

    /// What is mapped now, as far as is known: sorted by address, disjoint.
    pub fn current(&self) -> Vec<Mapping> {
        let start = self.cleared.last().copied().unwrap_or_default();
        let mut mappings: Vec<Mapping> = Vec::new();
        for (&piece_start, piece) in &self.pieces {
            let Some(layer) = piece.layers.last().filter(|layer| layer.since >= start) else { continue };
            let Some(object) = layer.object else { continue };
            let offset_in_file = layer.bias.wrapping_add(piece_start);
            match mappings.last_mut().filter(|last| last.continues_at(piece_start, object, offset_in_file)) {
                Some(last) => last.addresses.end = piece.end,
                None => mappings.push(Mapping {
                    addresses: piece_start..piece.end,
                    offset_in_file,
                    object,
                    since: layer.since,
                }),
            }
        }
        mappings
    }

    /// The time from the last `execve` before `at` to `at`.
    fn program_at(&self, at: Timestamp) -> RangeInclusive<Timestamp> {
        let later = self.cleared.partition_point(|cleared| *cleared <= at);
        let start = later.checked_sub(1).map_or(Timestamp::default(), |last| self.cleared[last]);
        start..=at
    }

    /// Makes `address` a boundary: a piece that contains it becomes two.
    fn cut(&mut self, address: u64) {
        let Some((_, piece)) = self.pieces.range_mut(..address).next_back() else { return };
        if address < piece.end {
            let upper = Piece { end: piece.end, layers: piece.layers.clone() };
            piece.end = address;
            self.pieces.insert(address, upper);
        }
    }

    /// Puts empty pieces where there are none between two boundaries.
    fn fill_gaps(&mut self, start: u64, end: u64) {
        let mut gaps = Vec::new();
        let mut covered = start;
        for (&piece_start, piece) in self.pieces.range(start..end) {
            gaps.push(covered..piece_start);
            covered = piece.end;
        }
        gaps.push(covered..end);
        for gap in gaps.into_iter().filter(|gap| !gap.is_empty()) {
            self.pieces.insert(gap.start, Piece { end: gap.end, layers: Vec::new() });
        }
    }
}

impl Piece {
    fn add(&mut self, layer: Layer) {
        self.layers.retain(|known| known.object.is_some() || !(known.read_from..=known.since).contains(&layer.since));
        let index = self.layers.partition_point(|older| older.since <= layer.since);
        self.layers.insert(index, layer);
        if self.layers.len() > MOST_LAYERS {
            self.compact();
        }
    }

    /// Puts a layer of nothing on what was there before that was read. Nobody runs code between its being unmapped and then, so the
    /// end of that time does; and what was mapped meanwhile came after it was read.
    fn end(&mut self, during: Range<Timestamp>) {
        let older = self.layers.partition_point(|layer| layer.since < during.start);
        let has_newer = older < self.layers.len();
        if !has_newer && self.layers.last().is_some_and(|layer| layer.object.is_some()) {
            self.add(Layer { since: during.end, read_from: during.start, object: None, bias: 0 });
        }
    }

    /// Libraries that are loaded and unloaded for ever must not grow the table: the same one again at the same place
    /// goes first, then what nobody will ask for any more, since stacks are looked up soon after they were taken.
    fn compact(&mut self) {
        self.layers.dedup_by(|newer, older| newer.is_like(older));
        let surplus = self.layers.len().saturating_sub(MOST_LAYERS / 2);
        self.layers.drain(..surplus);
    }

    /// The latest layer within that time; if there is none, the first one after it.
    fn layer(&self, time: RangeInclusive<Timestamp>) -> Option<&Layer> {
        let older = self.layers.partition_point(|layer| layer.since < *time.start());
        let layers = &self.layers[older..];
        let newer = layers.partition_point(|layer| layer.since <= *time.end());
        layers.get(newer.saturating_sub(1))
    }
}

impl Layer {
    fn is_like(&self, other: &Self) -> bool {
        self.object == other.object && self.bias == other.bias
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mapping(addresses: Range<u64>, offset_in_file: u64, object: u32, since: u64) -> Mapping {
        Mapping { addresses, offset_in_file, object: ObjectId(object), since: Timestamp(since) }
    }

    fn space(mappings: &[Mapping]) -> AddressSpace {
        let mut space = AddressSpace::default();
        mappings.iter().for_each(|mapping| space.add(mapping));
        space
    }

    #[test]
    fn a_return_address_belongs_where_its_call_lies() {
        let space = space(&[mapping(0x1000..0x2000, 0x500, 1, 0), mapping(0x2000..0x3000, 0, 2, 0)]);
        let find = |address| space.find_return_address(address, Timestamp(5));
        assert_eq!(find(0x1234), Some((ObjectId(1), 0x734)));
        assert_eq!(find(0x2000), Some((ObjectId(1), 0x1500)));
        assert_eq!(find(0x2001), Some((ObjectId(2), 1)));
        assert_eq!(find(0x3000), Some((ObjectId(2), 0x1000)));
        assert_eq!(find(0x1000), None);
        assert_eq!(find(0x3001), None);
        assert_eq!(find(0), None);
    }

    #[test]
    fn the_mapping_of_that_time_counts() {
        let space = space(&[mapping(0x1000..0x2000, 0, 1, 10), mapping(0x1800..0x2800, 0, 2, 20)]);
        let object = |address, at| space.find_return_address(address, Timestamp(at)).map(|(object, _)| object.0);
        assert_eq!(object(0x1900, 15), Some(1));
        assert_eq!(object(0x1900, 20), Some(2));
        assert_eq!(object(0x1700, 99), Some(1));
        assert_eq!(object(0x2700, 5), Some(2));
        assert_eq!(object(0x1900, 5), Some(1));
    }

    #[test]
    fn a_child_has_what_there_was_when_it_was_forked() {
        let mut parent = space(&[mapping(0x1000..0x2000, 0, 1, 10), mapping(0x1000..0x3000, 0, 2, 30)]);
        parent.clear(Timestamp(40));
        let child = parent.inherited(Timestamp(20));
        let object = |space: &AddressSpace, address| {
            space.find_return_address(address, Timestamp(50)).map(|(object, _)| object.0)
        };
        assert_eq!([object(&child, 0x1900), object(&child, 0x2900)], [Some(1), None]);
        assert_eq!(object(&parent, 0x1900), None);
    }

    #[test]
    fn mapping_the_same_place_for_ever_does_not_grow() {
        let mut space = AddressSpace::default();
        let times = 3 * MOST_LAYERS as u64;
        (0..times).for_each(|since| space.add(&mapping(0x1000..0x2000, 0x40, since as u32 % 3, since)));
        assert!(space.pieces.values().all(|piece| piece.layers.len() <= MOST_LAYERS));
        assert_eq!(space.find_return_address(0x1001, Timestamp(times - 9)), Some((ObjectId(0), 0x41)));
    }

    #[test]
    fn replacing_the_program_for_ever_does_not_grow() {
        let mut space = AddressSpace::default();
        let programs = 1000;
        for program in 1..=programs {
            space.clear(Timestamp(10 * program));
            let start = 0x1000 * program;
            space.add(&mapping(start..start + 0x800, 0x40, program as u32, 10 * program + 1));
        }
        assert!(space.pieces.len() <= 2 * MOST_PROGRAMS && space.cleared.len() <= 2 * MOST_PROGRAMS);
        for program in [programs, programs - MOST_PROGRAMS as u64 + 1] {
            let found = space.find_return_address(0x1000 * program + 1, Timestamp(10 * program + 5));
            assert_eq!(found, Some((ObjectId(program as u32), 0x41)));
        }
        assert_eq!(space.objects(), [ObjectId(programs as u32)]);
    }

    #[test]
    fn empty_and_reversed_ranges_are_ignored() {
        #[allow(clippy::reversed_empty_ranges, reason = "that is what is tested")]
        let space = space(&[mapping(0x1000..0x1000, 0, 1, 0), mapping(0x2000..0x1000, 0, 1, 0)]);
        assert!(space.pieces.is_empty());
    }

    /// The rule, word for word, over all mappings.
    fn by_rule(mappings: &[Mapping], return_address: u64, at: u64) -> Option<(ObjectId, u64)> {
        let covering = || mappings.iter().filter(|mapping| mapping.addresses.contains(&(return_address - 1)));
        covering()
            .filter(|mapping| mapping.since.0 <= at)
            .max_by_key(|mapping| mapping.since)
            .or_else(|| covering().min_by_key(|mapping| mapping.since))
            .map(|mapping| {
                (mapping.object, return_address.wrapping_sub(mapping.addresses.start) + mapping.offset_in_file)
            })
    }

    #[test]
    fn what_was_unmapped_is_not_there_until_it_is_mapped_again() {
        let mut space = space(&[mapping(0x1000..0x3000, 0, 1, 0), mapping(0x5000..0x6000, 0, 2, 0)]);
        space.retain([0x0..0x10, 0x2000..0x2800], Timestamp(8)..Timestamp(10));
        space.add(&mapping(0x1000..0x1800, 0, 3, 20));
        let object = |address, at| space.find_return_address(address, Timestamp(at)).map(|(object, _)| object.0);
        assert_eq!([object(0x1100, 5), object(0x1100, 15), object(0x1100, 25)], [Some(1), None, Some(3)]);
        assert_eq!([object(0x2100, 15), object(0x2900, 15), object(0x5100, 15)], [Some(1), None, None]);
        let current: Vec<_> =
            space.current().into_iter().map(|mapping| (mapping.addresses, mapping.object.0)).collect();
        assert_eq!(current, [(0x1000..0x1800, 3), (0x2000..0x2800, 1)]);
        assert_eq!(space.objects(), [1, 2, 3].map(ObjectId));
    }

    #[test]
    fn what_was_mapped_while_it_was_read_that_nothing_is_there_came_after() {
        let object = |space: &AddressSpace, at| space.find_return_address(0x1100, Timestamp(at)).map(|(id, _)| id.0);
        let mut told_later = space(&[mapping(0x1000..0x2000, 0, 1, 0)]);
        told_later.retain([], Timestamp(10)..Timestamp(20));
        assert_eq!([19, 20].map(|at| object(&told_later, at)), [Some(1), None]);
        let next = mapping(0x1000..0x2000, 0, 2, 15);
        told_later.add(&next);
        let mut told_before = space(&[mapping(0x1000..0x2000, 0, 1, 0), next]);
        told_before.retain([], Timestamp(10)..Timestamp(20));
        for space in [told_later, told_before] {
            assert_eq!([14, 15, 25].map(|at| object(&space, at)), [Some(1), Some(2), Some(2)]);
        }
    }

    #[test]
    fn what_is_read_fills_only_where_nothing_is_known() {
        let mut space = space(&[mapping(0x1000..0x2000, 0, 1, 0)]);
        space.fill(&mapping(0x1800..0x2800, 0, 2, 10));
        space.retain([], Timestamp(20)..Timestamp(20));
        space.fill(&mapping(0x1000..0x1100, 0, 3, 30));
        let object = |address, at| space.find_return_address(address, Timestamp(at)).map(|(object, _)| object.0);
        assert_eq!([object(0x1900, 15), object(0x2100, 15), object(0x2100, 25)], [Some(1), Some(2), None]);
        assert_eq!([object(0x1080, 25), object(0x1080, 35), object(0x1180, 35)], [None, Some(3), None]);
    }

    proptest! {
        #[test]
        fn lookups_follow_the_rule(
            ranges in prop::collection::vec((0_u64..60, 1_u64..20, 0_u64..4, 0_u32..3), 1..25).prop_flat_map(|ranges| {
                let times: Vec<u64> = (0..ranges.len() as u64).map(|time| time * 2 + 1).collect();
                (Just(ranges), Just(times).prop_shuffle())
            }),
            return_address in 1_u64..90,
            at in 0_u64..60,
        ) {
            let mappings: Vec<_> = ranges.0.iter().zip(&ranges.1)
                .map(|(&(start, length, offset, object), &time)| mapping(start..start + length, offset, object, time))
                .collect();
            prop_assert_eq!(
                space(&mappings).find_return_address(return_address, Timestamp(at)),
                by_rule(&mappings, return_address, at)
            );
        }
    }
}
