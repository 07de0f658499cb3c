//! A hash index of blocks: from an address to the slot of its block. It holds nothing but slots, in four bytes each, and one byte of tag
//! for each bucket.
//!
//! It is made of parts, by the hash, each a table of its own. All grow at about the same population, but one after the other: so the
//! longest pause of a heap of ten million blocks is the rebuilding of a part of forty thousand, some milliseconds, and not that of all,
//! which took more than a second. The programs go on meanwhile, and their nursery has room for a part of a second.
//!
//! hashbrown would double a table as soon as it is half full of slots, if the rest is taken by the marks that removals leave behind, so
//! each part is rebuilt here, into the size that its slots need.

use hashbrown::HashTable;

/// Number of parts. A power of two.
const PARTS: usize = 256;

/// Buckets of a part that is too small to be worth shrinking.
const SMALL_PART: usize = 16;

#[derive(Debug)]
pub(super) struct Index {
    parts: Box<[HashTable<u32>; PARTS]>,
}

impl Default for Index {
    fn default() -> Self {
        Self { parts: Box::new([const { HashTable::new() }; PARTS]) }
    }
}

impl Index {
    /// The slot with this hash for which `is_it` holds.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        self.parts[part_of(hash)].find(hash, |slot| is_it(*slot)).copied()
    }

    /// Adds a slot with this hash. `hash_of` tells the hash of each slot that is in it.
    pub(super) fn insert(&mut self, hash: u64, slot: u32, hash_of: impl Fn(u32) -> u64) {
        let part = &mut self.parts[part_of(hash)];
        if part.len() == part.capacity() {
            rebuild(part, &hash_of);
        }
        part.insert_unique(hash, slot, |slot| hash_of(*slot));
    }

    /// Removes the slot with this hash for which `is_it` holds. The others are not to be hashed before [`Self::shrink`].
    pub(super) fn remove(&mut self, hash: u64, is_it: impl Fn(u32) -> bool) -> Option<u32> {
        let entry = self.parts[part_of(hash)].find_entry(hash, |slot| is_it(*slot)).ok()?;
        Some(entry.remove().0)
    }

    /// Puts another slot in the place of one.
    pub(super) fn redirect(&mut self, hash: u64, from: u32, to: u32) {
        if let Some(slot) = self.parts[part_of(hash)].find_mut(hash, |slot| *slot == from) {
            *slot = to;
        }
    }

    /// Gives memory back, if there is too much of it where this hash belongs.
    pub(super) fn shrink(&mut self, hash: u64, hash_of: impl Fn(u32) -> u64) {
        let part = &mut self.parts[part_of(hash)];
        let buckets = part.num_buckets();
        if buckets > SMALL_PART && part.len() * 16 < buckets * 5 {
            rebuild(part, &hash_of);
        }
    }

    /// Bytes allocated.
    #[cfg(test)]
    pub(super) fn allocated_bytes(&self) -> usize {
        size_of_val(&*self.parts) + self.parts.iter().map(HashTable::allocation_size).sum::<usize>()
    }

    /// In all parts.
    #[cfg(test)]
    pub(super) fn buckets(&self) -> usize {
        self.parts.iter().map(HashTable::num_buckets).sum()
    }
}

/// By bits that hashbrown uses neither for the place in a table, which are the lowest, nor for the tag, the highest seven.
fn part_of(hash: u64) -> usize {
    (hash >> 48) as usize % PARTS
}

/// Makes a part anew, with room for an eighth more slots than there are: after that many operations at least is it rebuilt again, so that
/// each operation bears a constant share of it.
fn rebuild(part: &mut HashTable<u32>, hash_of: &impl Fn(u32) -> u64) {
    let mut rebuilt = HashTable::with_capacity(part.len() * 9 / 8 + 1);
    for &slot in part.iter() {
        rebuilt.insert_unique(hash_of(slot), slot, |slot| hash_of(*slot));
    }
    *part = rebuilt;
}
