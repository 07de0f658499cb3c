//! The tables that the unwinder in the kernel works with, beside the rows of [`crate::unwind`]: which code is mapped
//! where in each target.
//!
//! ```text
//! SPACES[target] ──▶ MAPPINGS[first .. first + count], sorted by address ──▶ ROWS[rows_first .. + rows_count], sorted by offset in the file
//! ```
//!
//! Rows belong to objects and are shared by all targets that map one. A target's mappings are replaced as a whole: the new
//! ones are written elsewhere, then the one word that names the run is. All three maps are mapped into userspace,
//! which writes them with plain stores.

/// `SPACES`, by target.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Space {
    /// Its mappings, see [`Run`].
    pub mappings: u64,
    /// Where the main thread's stack ends (`startstack` in `/proc/PID/stat`), or zero. Above it lie strings that may not
    /// be in memory, and reading what is not costs a fault each time.
    pub stack_end: u64,
    /// A number that no other space has, of [`GENERATION_BITS`]. It is changed when other code is mapped where code was, and
    /// at an `execve`: what is cached of the old one, and the names of its stacks, are void then. Odd numbers are given
    /// by the programs, at an `execve`, even ones by userspace.
    pub generation: u64,
    /// How often something in `mappings` was unmapped or mapped over; counted by the programs.
    pub changes: u64,
    /// The `changes` that `mappings` takes into account; written by userspace, last. While the two differ, all that `mappings` says
    /// may be void.
    pub changes_known: u64,
    /// How often code of a file was mapped; counted by the programs.
    pub news: u64,
    /// The `news` that `mappings` takes into account. While the two differ, what is new in `mappings` may be void: it may have
    /// gone before it was there, so that nobody counted a change.
    pub news_known: u64,
}

/// See [`Space::generation`]. With an address of 47 bits it makes a word.
pub const GENERATION_BITS: u32 = 17;

/// `CACHE`: the rule for a pc, in the place that [`Self::index`] gives. The two words are written one after the other, so that
/// a reader can see one of each of two entries; the second one's upper half is made from the first, and tells.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CachedRule {
    /// The pc, and below it the generation.
    pub key: u64,
    /// [`Self::check`] of the key, and below it the rule.
    pub value: u64,
}

impl CachedRule {
    /// Bits of an index.
    pub const INDEX_BITS: u32 = 16;

    /// The entry for a pc in the space of that generation.
    #[inline(always)]
    pub const fn new(key: u64, rule: u32) -> Self {
        Self { key, value: Self::check(key) << 32 | rule as u64 }
    }

    /// A pc in the space of that generation.
    #[inline(always)]
    pub const fn key(pc: u64, generation: u64) -> u64 {
        pc << GENERATION_BITS | generation
    }

    /// Where the entry is, if it is anywhere.
    #[inline(always)]
    pub const fn index(key: u64) -> u32 {
        (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - Self::INDEX_BITS)) as u32
    }

    /// 32 bits that keys of one index hardly ever share.
    #[inline(always)]
    pub const fn check(key: u64) -> u64 {
        key.wrapping_mul(0x9e37_79b9_7f4a_7c15) << Self::INDEX_BITS >> 32
    }
}

/// A run of `MAPPINGS`, in one word so that it is replaced at once.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run(pub u64);

impl Run {
    /// The run of `count` entries from index `first` on.
    pub const fn new(first: u32, count: u32) -> Self {
        Self((first as u64) << 32 | count as u64)
    }

    /// Index of the first entry.
    pub const fn first(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Number of entries.
    pub const fn count(self) -> u32 {
        self.0 as u32
    }
}

/// `MAPPINGS`: executable memory of one target.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MappedCode {
    /// Its first address.
    pub start: u64,
    /// The address behind its last.
    pub end: u64,
    /// Add to an address, modulo 2^64, for the offset in the object's file, which its rows are sorted by.
    pub file_bias: u64,
    /// Index in `ROWS` of the object's first row.
    pub rows_first: u32,
    /// Number of its rows; zero where there are none, as for code made at run time.
    pub rows_count: u32,
    /// The object, see [`FrameWord`].
    pub object: u32,
    /// See [`code_flags`].
    pub flags: u32,
}

/// What [`MappedCode`] is.
pub mod code_flags {
    /// A file's. What is made at run time may change without notice, and makes nothing void.
    pub const OF_FILE: u32 = 1;
    /// Not in the run that was replaced by this one.
    pub const NEW: u32 = 2;
}

/// A frame, wherever it was mapped: an object and an offset in its file, or an address in no known mapping.
///
/// The object's number plus one is in the upper 16 bits, the offset in the lower 48; where the upper bits are zero, the
/// lower ones are an address.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameWord(pub u64);

impl FrameWord {
    /// Largest number of an object that fits.
    pub const MAX_OBJECT: u32 = u16::MAX as u32 - 1;

    const OFFSET_BITS: u32 = 48;
    const OFFSET_MASK: u64 = (1 << Self::OFFSET_BITS) - 1;

    /// A place in an object, whose number is at most [`Self::MAX_OBJECT`].
    pub const fn in_object(object: u32, offset_in_file: u64) -> Self {
        Self((object as u64 + 1) << Self::OFFSET_BITS | offset_in_file & Self::OFFSET_MASK)
    }

    /// An address of which nothing is known.
    pub const fn at_address(address: u64) -> Self {
        Self(address & Self::OFFSET_MASK)
    }

    /// The object and the offset in its file; `None` for an address.
    pub const fn place(self) -> Option<(u32, u64)> {
        match (self.0 >> Self::OFFSET_BITS) as u32 {
            0 => None,
            object => Some((object - 1, self.0 & Self::OFFSET_MASK)),
        }
    }
}

/// How stacks are unwound: the programs' constant `UNWIND_MODE`.
pub mod unwind_mode {
    /// By tables, and by frame pointers where there are none.
    pub const AUTO: u32 = 0;
    /// By tables only.
    pub const TABLES: u32 = 1;
    /// By frame pointers only.
    pub const FRAME_POINTERS: u32 = 2;
}

/// How a walk ended. Kept in the stack's record.
pub mod ended {
    /// At the thread's first frame.
    pub const COMPLETE: u32 = 0;
    /// There were more frames than are kept.
    pub const TOO_DEEP: u32 = 1;
    /// In code without unwinding rows, where frame pointers led nowhere.
    pub const NO_ROWS: u32 = 2;
    /// At a frame that cannot be one: not above the last, or not aligned.
    pub const IMPLAUSIBLE: u32 = 3;
    /// The stack could not be read.
    pub const UNREADABLE: u32 = 4;

    /// Flag: some frame was found by its frame pointer, in code that need not keep one.
    pub const BY_FRAME_POINTER: u32 = 1 << 16;
    /// Flag: some frame lies in code that was in no known mapping at the time.
    pub const IN_UNKNOWN_CODE: u32 = 1 << 17;
    /// The bits of the reason.
    pub const REASON: u32 = (1 << 16) - 1;
}

const _: () = {
    assert!(size_of::<Space>() == 56);
    assert!(size_of::<CachedRule>() == 16);
    assert!(size_of::<MappedCode>() == 40);
};
