//! The programs' half of the tables of [`memprof_common::buckets`].

use core::intrinsics::{AtomicOrdering, atomic_cxchg};

use memprof_common::buckets::{CLAIMED, Directory, FREE, LAST_KEY, Line, SLOTS_A_LINE, TABLES, Table};

use crate::maps::KEYS;

/// Where each table is. The loader sets it.
#[unsafe(no_mangle)]
static DIRECTORY: Directory = Directory::with_room_for(3 << 16, 3 << 15, 3 << 12, 3 << 11);

/// No slot.
const NONE: u32 = u32::MAX;

/// An element's place in one of the tables.
#[derive(Clone, Copy)]
pub struct Slot {
    table: u32,
    value: u32,
}

impl Slot {
    /// The slot of a table that has the key.
    #[inline(always)]
    pub fn find(table: u32, key: u64) -> Option<Self> {
        Self::some(table, find_slot(table, key))
    }

    /// A free slot of a table for a key, claimed. Fill in its value, then [publish](Self::publish).
    #[inline(always)]
    pub fn claim_free(table: u32, key: u64) -> Option<Self> {
        Self::some(table, claim_free_slot(table, key))
    }

    /// Claims the element from all others; `false` if it is not there any more. Take its value, then [free](Self::free) it.
    #[inline(always)]
    pub fn claim(self, key: u64) -> bool {
        self.place().is_some_and(|place| claim(place, key))
    }

    /// Shows a claimed slot's key, and so its value, to all others. x86 keeps stores in their order; values are written as volatile,
    /// lest the compiler do otherwise.
    #[inline(always)]
    pub fn publish(self, key: u64) {
        if let Some(place) = self.place() {
            // SAFETY: a map value, valid while the program runs.
            unsafe { place.write_volatile(key) };
        }
    }

    /// Gives a claimed slot back.
    #[inline(always)]
    pub fn free(self) {
        self.publish(FREE);
    }

    /// The value's index in the table's own array.
    #[inline(always)]
    pub fn value(self) -> u32 {
        self.value
    }

    #[inline(always)]
    fn some(table: u32, value: u32) -> Option<Self> {
        if value == NONE { None } else { Some(Self { table, value }) }
    }

    #[inline(always)]
    fn place(self) -> Option<*mut u64> {
        place(table(self.table).first_line * SLOTS_A_LINE + self.value)
    }
}

/// Where a key is in `KEYS`.
#[inline(always)]
fn place(key: u32) -> Option<*mut u64> {
    let line = KEYS.get_ptr_mut(key / SLOTS_A_LINE)?;
    // SAFETY: within the line.
    Some(unsafe { line.cast::<u64>().add((key % SLOTS_A_LINE) as usize) })
}

#[inline(always)]
fn table(number: u32) -> Table {
    let number = if number < TABLES { number } else { 0 };
    // SAFETY: within the array; a plain read of a constant that the loader may have replaced.
    unsafe { (&raw const DIRECTORY.tables).cast::<Table>().add(number as usize).read_volatile() }
}

/// The slot of a key in a table, or [`NONE`].
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn find_slot(number: u32, key: u64) -> u32 {
    let table = table(number);
    let [first, second] = table.lines_of(key);
    let found = match find_in_line(first, key) {
        NONE => find_in_line(second, key),
        found => found,
    };
    if found == NONE { NONE } else { table.value_of(found) }
}

/// Claims a free slot for a key in a table, in the line that has more of them, or else in the other one. [`NONE`] if there is none.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn claim_free_slot(number: u32, key: u64) -> u32 {
    let table = table(number);
    let [first, second] = table.lines_of(key);
    let (emptier, other) = if used(first) <= used(second) { (first, second) } else { (second, first) };
    let claimed = match claim_in_line(emptier) {
        NONE => claim_in_line(other),
        claimed => claimed,
    };
    if claimed == NONE { NONE } else { table.value_of(claimed) }
}

#[inline(always)]
fn find_in_line(line: u32, key: u64) -> u32 {
    let Some(keys) = KEYS.get_ptr(line) else { return NONE };
    for index in 0..SLOTS_A_LINE {
        if key_at(keys, index) == key {
            return line * SLOTS_A_LINE + index;
        }
    }
    NONE
}

#[inline(always)]
fn claim_in_line(line: u32) -> u32 {
    let Some(keys) = KEYS.get_ptr_mut(line) else { return NONE };
    for index in 0..SLOTS_A_LINE {
        // SAFETY: a map value, valid while the program runs, and within the line.
        if key_at(keys, index) == FREE && claim(unsafe { keys.cast::<u64>().add(index as usize) }, FREE) {
            return line * SLOTS_A_LINE + index;
        }
    }
    NONE
}

/// Claims what has this key; `false` if it has not.
#[inline(always)]
fn claim(place: *mut u64, key: u64) -> bool {
    // SAFETY: callers pass a key in a map, valid while the program runs.
    let (found, _) =
        unsafe { atomic_cxchg::<_, { AtomicOrdering::AcqRel }, { AtomicOrdering::Acquire }>(place, key, CLAIMED) };
    found == key
}

/// How many slots of a line are in use. By arithmetic: the verifier would follow each way through eight comparisons.
#[inline(always)]
fn used(line: u32) -> u64 {
    let Some(keys) = KEYS.get_ptr(line) else { return u64::from(SLOTS_A_LINE) };
    (0..SLOTS_A_LINE).map(|index| (key_at(keys, index).wrapping_add(LAST_KEY)) >> 63).sum()
}

#[inline(always)]
fn key_at(keys: *const Line, index: u32) -> u64 {
    // SAFETY: a map value, valid while the program runs, and within the line.
    unsafe { keys.cast::<u64>().add(index as usize).read_volatile() }
}
