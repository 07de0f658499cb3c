//! The table of live blocks, by address.
//!
//! # At most 48 bytes for each block
//!
//! Address, size, time and stack take 28 bytes. A hash table that held them itself would double them: just after a
//! growth step it has 2.3 buckets for each block, 66 bytes. (Splitting it into shards that grow at staggered
//! populations evens that out to 46 to 49, which is still too much.) So the blocks lie dense in a vector, which grows
//! by small chunks, and only an index of 4-byte slots is hashed, with one byte of tag for each bucket:
//!
//! | buckets for each block              | index | in all |
//! |-------------------------------------|-------|--------|
//! | 1.14, when the index is full (7/8)  |   5.7 |   33.7 |
//! | 2.57, just after it doubled         |  12.9 |   40.9 |
//! | 3.2, just before it shrinks         |  16.0 |   44.0 |
//!
//! hashbrown would double the index as soon as it is half full of blocks, if the rest is taken by the marks that
//! removals leave behind, so the index is rebuilt here, into the size that its blocks need. That reads the blocks in
//! order and lets go of the old index first: a rebuild has no peak of its own, and takes about 50 ns for each block. A
//! report, too, reads the blocks in order.
//!
//! The hash is seeded, because addresses come from a process that may be hostile: without the seed, which it cannot
//! see, it cannot choose addresses that collide. Foldhash does not claim more than that, and no more is needed: the
//! target sees nothing of what its addresses cost here.

use std::hash::BuildHasher as _;

use hashbrown::{DefaultHashBuilder, HashTable};

use super::chunks::Chunks;
use crate::model::Allocation;

/// Buckets of an index that is too small to be worth shrinking.
const SMALL_INDEX: usize = 64;

/// A live block. Packed: as plain `repr(C)` it would have four bytes of padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed(4))]
pub(super) struct Block {
    pub(super) address: u64,
    /// In bytes.
    pub(super) size: u64,
    /// When it was allocated, as in [`crate::model::Timestamp`].
    pub(super) time: u64,
    /// Index into [`super::sums::StackSums`].
    pub(super) stack: u32,
}

const _: () = assert!(size_of::<Block>() == 28);

impl Block {
    pub(super) fn new(allocation: &Allocation, stack: u32) -> Self {
        Self { address: allocation.address, size: allocation.size, time: allocation.time.0, stack }
    }
}

/// All live blocks, each address once.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    blocks: Chunks<Block>,
    /// Slots in `blocks`, by the hash of their address.
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl Blocks {
    /// The block at `address`. Its address is not to be changed.
    pub(super) fn get_mut(&mut self, address: u64) -> Option<&mut Block> {
        let hash = self.hasher.hash_one(address);
        let slot = *self.index.find(hash, |&slot| self.blocks[slot].address == address)?;
        Some(&mut self.blocks[slot])
    }

    /// Adds a block, whose address is not in the table.
    pub(super) fn insert(&mut self, block: Block) {
        if self.index.len() == self.index.capacity() {
            self.rebuild_index();
        }
        let slot = self.blocks.push(block);
        self.index_slot(slot);
    }

    /// Removes the block at `address` if the condition holds for it.
    pub(super) fn remove_if(&mut self, address: u64, condition: impl FnOnce(&Block) -> bool) -> Option<Block> {
        let hash = self.hasher.hash_one(address);
        let entry = self.index.find_entry(hash, |&slot| self.blocks[slot].address == address).ok()?;
        let slot = *entry.get();
        if !condition(&self.blocks[slot]) {
            return None;
        }
        entry.remove();
        let removed = self.blocks.swap_remove(slot);
        self.redirect_moved_block(slot);
        self.shrink_index();
        removed
    }

    /// All blocks, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter()
    }

    /// Bytes allocated for the table.
    #[cfg(test)]
    pub(super) fn allocated_bytes(&self) -> usize {
        self.blocks.allocated_bytes() + self.index.allocation_size()
    }

    /// After the last block was moved into `slot`, lets the index point there.
    fn redirect_moved_block(&mut self, slot: u32) {
        let moved_from = self.blocks.len();
        if slot == moved_from {
            return;
        }
        let hash = self.hasher.hash_one(self.blocks[slot].address);
        if let Some(indexed) = self.index.find_mut(hash, |&indexed| indexed == moved_from) {
            *indexed = slot;
        }
    }

    fn shrink_index(&mut self) {
        let buckets = self.index.num_buckets();
        if buckets > SMALL_INDEX && self.index.len() * 16 < buckets * 5 {
            self.rebuild_index();
        }
    }

    /// Makes the index anew, with room for an eighth more blocks than there are: after that many operations at least
    /// is it rebuilt again, so that each operation bears a constant share of it.
    fn rebuild_index(&mut self) {
        let length = self.blocks.len();
        self.index = HashTable::new();
        self.index = HashTable::with_capacity(length as usize * 9 / 8 + 1);
        for slot in 0..length {
            self.index_slot(slot);
        }
    }

    fn index_slot(&mut self, slot: u32) {
        let hash_of = |&slot: &u32| self.hasher.hash_one(self.blocks[slot].address);
        self.index.insert_unique(hash_of(&slot), slot, hash_of);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is promised for each live block.
    const BYTES_FOR_EACH_BLOCK: usize = 48;

    fn block(number: u64) -> Block {
        Block { address: 0x5555_0000_0000 + number * 32, size: 24, time: number, stack: 0 }
    }

    fn assert_small(blocks: &Blocks) {
        let length = blocks.blocks.len() as usize;
        let allocated = blocks.allocated_bytes();
        assert!(allocated <= length * BYTES_FOR_EACH_BLOCK, "{allocated} bytes for {length} blocks");
    }

    #[test]
    fn is_small_at_every_population_up_and_down() {
        let mut blocks = Blocks::default();
        for number in 0..1_200_000 {
            blocks.insert(block(number));
            if number > 20_000 && number % 97 == 0 {
                assert_small(&blocks);
            }
        }
        for number in 0..1_180_000 {
            assert_eq!(blocks.remove_if(block(number).address, |_| true), Some(block(number)));
            if number % 97 == 0 {
                assert_small(&blocks);
            }
        }
    }

    #[test]
    fn is_small_on_both_sides_of_each_doubling() {
        let mut blocks = Blocks::default();
        let mut doublings = 0;
        for number in 0..2_000_000 {
            let buckets = blocks.index.num_buckets();
            blocks.insert(block(number));
            if number > 20_000 && blocks.index.num_buckets() > buckets {
                assert_small(&blocks);
                doublings += 1;
            }
        }
        assert_eq!(doublings, 7);
    }

    #[test]
    fn stays_small_while_blocks_come_and_go() {
        for population in [100_000, 131_072, 150_000, 230_000] {
            let mut blocks = Blocks::default();
            (0..population).for_each(|number| blocks.insert(block(number)));
            for number in 0..4 * population {
                blocks.remove_if(block(number).address, |_| true);
                blocks.insert(block(number + population));
                if number % 97 == 0 {
                    assert_small(&blocks);
                }
            }
        }
    }

    #[test]
    fn the_condition_decides_on_removal() {
        let mut blocks = Blocks::default();
        blocks.insert(block(1));
        assert_eq!(blocks.remove_if(block(1).address, |block| block.time > 1), None);
        assert_eq!(blocks.remove_if(block(2).address, |_| true), None);
        assert_eq!(blocks.remove_if(block(1).address, |block| block.time == 1), Some(block(1)));
        assert_eq!(blocks.iter().count(), 0);
    }
}
