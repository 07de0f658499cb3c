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
//! A report reads the blocks in order.
//!
//! The hash is seeded, because addresses come from a process that may be hostile: without the seed, which it cannot
//! see, it cannot choose addresses that collide. Foldhash does not claim more than that, and no more is needed: the
//! target sees nothing of what its addresses cost here.

use std::{hash::BuildHasher as _, hint::black_box};

use hashbrown::DefaultHashBuilder;

use super::{chunks::Chunks, index::Index};
use crate::model::Allocation;

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
    index: Index,
    hasher: DefaultHashBuilder,
}

impl Blocks {
    /// The block at `address`. Its address is not to be changed.
    pub(super) fn get_mut(&mut self, address: u64) -> Option<&mut Block> {
        let hash = self.hasher.hash_one(address);
        let slot = self.index.find(hash, |slot| self.blocks[slot].address == address)?;
        Some(&mut self.blocks[slot])
    }

    /// Adds a block, whose address is not in the table.
    pub(super) fn insert(&mut self, block: Block) {
        let slot = self.blocks.push(block);
        let Self { blocks, index, hasher } = self;
        let hash_of = |slot| hasher.hash_one(blocks[slot].address);
        index.insert(hash_of(slot), slot, hash_of);
    }

    /// Removes the block at `address` if the condition holds for it.
    pub(super) fn remove_if(&mut self, address: u64, condition: impl FnOnce(&Block) -> bool) -> Option<Block> {
        let Self { blocks, index, hasher } = self;
        let hash = hasher.hash_one(address);
        let slot = index.find(hash, |slot| blocks[slot].address == address)?;
        if !condition(&blocks[slot]) {
            return None;
        }
        index.remove(hash, |other| other == slot);
        let removed = blocks.swap_remove(slot);
        // The last block is there now.
        let moved_from = blocks.len();
        if slot != moved_from {
            index.redirect(hasher.hash_one(blocks[slot].address), moved_from, slot);
        }
        index.shrink(hash, |slot| hasher.hash_one(blocks[slot].address));
        removed
    }

    /// Brings into the cache what the removals of the blocks at these addresses are going to look at. One removal waits for memory four
    /// times, and the next can hardly begin before it is done; here, nothing depends on what was found before.
    pub(super) fn prefetch(&self, addresses: impl Iterator<Item = u64>) {
        let Self { blocks, index, hasher } = self;
        let last = (0..blocks.len()).rev();
        for (address, moved) in addresses.zip(last) {
            let found = index.find(hasher.hash_one(address), |slot| blocks[slot].address == address);
            let moved = index.find(hasher.hash_one(blocks[moved].address), |slot| slot == moved);
            black_box((found, moved));
        }
    }

    /// All blocks, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter()
    }

    /// Bytes allocated for the table.
    #[cfg(test)]
    pub(super) fn allocated_bytes(&self) -> usize {
        self.blocks.allocated_bytes() + self.index.allocated_bytes()
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
        let mut buckets = 0;
        for number in 0..2_000_000 {
            blocks.insert(block(number));
            // Each of the parts is doubled by itself, but all at about the same number of blocks.
            if number > 20_000 && number % 97 == 0 && blocks.index.buckets() > buckets {
                assert_small(&blocks);
            }
            buckets = if number % 97 == 0 { blocks.index.buckets() } else { buckets };
        }
        assert!(buckets > 2_000_000);
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
