//! The tables of known stacks, which take turns. When the one in use fills up, userspace has the programs go on with the other one,
//! which is empty; waits until no program can use the first any more; and takes out what was counted there. So there is
//! always room for new stacks, and not one allocation is counted twice or not at all.

use core::intrinsics::{AtomicOrdering, atomic_xadd};

use memprof_common::{Header, StackTotals, StackTurn, buckets::table, kind};

use crate::{
    buckets::Slot,
    maps::{MORE_STACKS, STACK_TURN, STACKS},
    records,
};

/// After how many stacks userspace is called. The loader sets it.
#[unsafe(no_mangle)]
static STACKS_MARK: u64 = 1 << 15;

/// A table. To be asked for once in a run of a program, so that all that the run does is within one turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Table {
    First,
    Second,
}

impl Table {
    /// The one whose turn it is.
    #[inline(always)]
    pub fn current() -> Self {
        // SAFETY: a map value, valid while the program runs; a word that is written as such.
        match turn().map(|turn| unsafe { core::ptr::read_volatile(&raw const (*turn).table) }) {
            Some(1) => Self::Second,
            _ => Self::First,
        }
    }

    /// The counts of a stack, if it is known.
    #[inline(always)]
    pub fn find(self, stack: u64) -> Option<*mut StackTotals> {
        self.place(Slot::find(self.number(), stack)?)
    }

    /// A slot for a stack that is not known.
    #[inline(always)]
    pub fn claim_free(self, stack: u64) -> Option<Slot> {
        Slot::claim_free(self.number(), stack)
    }

    /// The counts at a slot.
    #[inline(always)]
    pub fn place(self, slot: Slot) -> Option<*mut StackTotals> {
        match self {
            Self::First => STACKS.get_ptr_mut(slot.value()),
            Self::Second => MORE_STACKS.get_ptr_mut(slot.value()),
        }
    }

    #[inline(always)]
    fn number(self) -> u32 {
        match self {
            Self::First => table::STACKS,
            Self::Second => table::MORE_STACKS,
        }
    }

    /// Counts a stack that was entered, and calls userspace when there were many.
    #[inline(always)]
    pub fn count_entry(self, image: u32) {
        let Some(turn) = turn() else { return };
        // SAFETY: a field of a map value; the index is within the array.
        let entered = unsafe {
            let counter = (&raw mut (*turn).entered).cast::<u64>().add((self == Self::Second) as usize);
            atomic_xadd::<_, _, { AtomicOrdering::AcqRel }>(counter, 1_u64) + 1
        };
        // SAFETY: a plain read of a constant that the loader may have replaced.
        if entered == unsafe { core::ptr::read_volatile(&raw const STACKS_MARK) } {
            records::control(&Header { kind: kind::STACKS_FILLING, image, time: 0 });
        }
    }
}

#[inline(always)]
fn turn() -> Option<*mut StackTurn> {
    STACK_TURN.get_ptr_mut(0)
}
