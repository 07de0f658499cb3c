//! The hash tables that both sides share, made of arrays: a program reaches an element of an array in two instructions, one of a
//! hash map in fifty nanoseconds, and userspace reads both in place.
//!
//! ```text
//! KEYS:  line 0 [key key key key key key key key]   line 1 […]  …      one cache line each
//! table: lines first .. first + lines, a power of two                   its values: an array of its own, in the order of the keys
//! ```
//!
//! A key can be in two lines, which [`Table::lines_of`] names. A slot is free ([`FREE`]), claimed by somebody who is at work on
//! its value ([`CLAIMED`]), or has a key, and then its value is whole. Who wants to take an element out claims it first: of
//! several who try, one succeeds. So no lock is held, and nobody waits.
//!
//! A claimed slot is in nobody's way: who looks for its key does not find it.

/// Keys of a line.
pub const SLOTS_A_LINE: u32 = 8;

/// A line of `KEYS`.
pub type Line = [u64; SLOTS_A_LINE as usize];

/// In place of a key: nothing is there.
pub const FREE: u64 = 0;

/// In place of a key: somebody is at work on what is there.
pub const CLAIMED: u64 = 1;

/// The smallest key.
pub const FIRST_KEY: u64 = 2;

/// The largest key.
pub const LAST_KEY: u64 = u64::MAX >> 1;

/// Of the keys of a line, those that are in use when the table holds what it was made for.
const ENTRIES_A_LINE: u32 = SLOTS_A_LINE * 3 / 4;

/// Where a table's keys are in `KEYS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Index of its first line.
    pub first_line: u32,
    /// How many it has, less one; all bits below its highest are set.
    pub line_mask: u32,
}

impl Table {
    /// A table for so many elements, from this line on. More fit in, if they spread well over the lines.
    pub const fn with_room_for(entries: u32, first_line: u32) -> Self {
        Self { first_line, line_mask: entries.div_ceil(ENTRIES_A_LINE).next_power_of_two() - 1 }
    }

    /// The line behind its last one.
    pub const fn end(self) -> u32 {
        self.first_line + self.line_mask + 1
    }

    /// Elements of the array of its values.
    pub const fn slots(self) -> u32 {
        (self.line_mask + 1) * SLOTS_A_LINE
    }

    /// The lines that a key can be in; two, if there are as many.
    #[inline(always)]
    pub const fn lines_of(self, key: u64) -> [u32; 2] {
        let hash = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let first = (hash >> 32 ^ hash) as u32 & self.line_mask;
        let second = (hash >> 40) as u32 & self.line_mask;
        let second = if second == first { (first ^ 1) & self.line_mask } else { second };
        [self.first_line + first, self.first_line + second]
    }

    /// The value's index in the table's own array, for a key's slot in `KEYS`.
    #[inline(always)]
    pub const fn value_of(self, slot: u32) -> u32 {
        slot.wrapping_sub(self.first_line * SLOTS_A_LINE)
    }
}

/// The tables, by their number in the [`Directory`].
pub mod table {
    /// Values in `NURSERY`; keys: [`super::block_key`].
    pub const NURSERY: u32 = 0;
    /// Values in `STACKS`; keys: [`super::stack_key`].
    pub const STACKS: u32 = 1;
    /// Values in `MORE_STACKS`; keys: [`super::stack_key`].
    pub const MORE_STACKS: u32 = 2;
    /// Values in `IN_FLIGHT`; keys: `bpf_get_current_pid_tgid()`.
    pub const THREADS: u32 = 3;
    /// Values in `TOTALS`; keys: [`super::image_key`].
    pub const IMAGES: u32 = 4;
}

/// How many tables there are.
pub const TABLES: u32 = 5;

/// Where all tables are.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// By [`table`].
    pub tables: [Table; TABLES as usize],
}

impl Directory {
    /// Tables for so many elements, one behind the other; two of stacks.
    pub const fn with_room_for(blocks: u32, stacks: u32, threads: u32, images: u32) -> Self {
        let nursery = Table::with_room_for(blocks, 0);
        let first_stacks = Table::with_room_for(stacks, nursery.end());
        let more_stacks = Table::with_room_for(stacks, first_stacks.end());
        let threads = Table::with_room_for(threads, more_stacks.end());
        let images = Table::with_room_for(images, threads.end());
        Self { tables: [nursery, first_stacks, more_stacks, threads, images] }
    }

    /// One of [`table`].
    pub const fn table(&self, number: u32) -> Table {
        self.tables[number as usize]
    }

    /// Lines of `KEYS`.
    pub const fn lines(&self) -> u32 {
        self.table(table::IMAGES).end()
    }
}

/// Addresses below this one have a key; those of programs hardly ever lie above it (5-level paging, and only on request).
pub const ADDRESS_END: u64 = 1 << 48;

/// The key of a live block of a target. Not less than [`FIRST_KEY`], whatever the address.
#[inline(always)]
pub const fn block_key(target: u32, address: u64) -> u64 {
    (target as u64 + 1) << 48 | address
}

/// The address of a live block, by its key.
#[inline(always)]
pub const fn address_of_block(key: u64) -> u64 {
    key & (ADDRESS_END - 1)
}

/// The name and key of a stack, made of its hash. Not one of a copied stack ([`crate::IS_COPY`]).
#[inline(always)]
pub const fn stack_key(hash: u64) -> u64 {
    match hash & LAST_KEY & !crate::IS_COPY {
        FREE => FIRST_KEY,
        key => key,
    }
}

/// The key of an image's totals.
#[inline(always)]
pub const fn image_key(image: u32) -> u64 {
    1 << 32 | image as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_stand_one_behind_the_other() {
        let directory = Directory::with_room_for(100, 10, 1, 6);
        assert_eq!(directory.tables.map(Table::slots), [256, 16, 16, 8, 8]);
        assert_eq!(directory.tables.map(|table| table.first_line), [0, 32, 34, 36, 37]);
        assert_eq!(directory.lines(), 38);
    }

    #[test]
    fn every_key_is_one() {
        let blocks = [(0, 0), (0, 1), (crate::MAX_TARGETS - 1, ADDRESS_END - 1)];
        let keys = blocks.map(|(target, address)| block_key(target, address));
        assert!(keys.iter().all(|key| (FIRST_KEY..=LAST_KEY).contains(key)));
        assert_eq!(keys.map(address_of_block), [0, 1, ADDRESS_END - 1]);
        let others = [0, 1, 2, 3, u64::MAX].map(stack_key).into_iter().chain([0, u32::MAX].map(image_key));
        others.for_each(|key| assert!((FIRST_KEY..=LAST_KEY).contains(&key), "{key:x}"));
    }

    #[test]
    fn a_key_has_two_lines_of_its_table() {
        let table = Table::with_room_for(1000, 7);
        for key in 2..10_000 {
            let [first, second] = table.lines_of(key << 4);
            assert!((7..table.end()).contains(&first) && (7..table.end()).contains(&second) && first != second);
        }
        assert_eq!(Table::with_room_for(1, 3).lines_of(99), [3, 3]);
    }

    /// As the programs do it: into the line that has more room.
    #[test]
    fn what_a_table_was_made_for_fits_in() {
        const ENTRIES: u32 = 3 << 14;
        let table = Table::with_room_for(ENTRIES, 0);
        let mut used = [0u8; 1 << 13];
        assert_eq!(used.len() as u32, table.end());
        let crowded = (0..u64::from(ENTRIES)).filter(|block| {
            let [first, second] = table.lines_of(block_key(3, 0x7f12_3456_0000 + block * 48)).map(|line| line as usize);
            let line = if used[second] < used[first] { second } else { first };
            used[line] += 1;
            u32::from(used[line]) > SLOTS_A_LINE
        });
        assert_eq!(crowded.count(), 0);
    }
}
