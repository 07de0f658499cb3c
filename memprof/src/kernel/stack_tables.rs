//! The two tables in which the programs count the allocations of each stack, and which take turns
//! (`memprof-ebpf/src/stack_table.rs`).

use std::{mem::offset_of, sync::atomic::Ordering};

use aya::{Ebpf, maps::MapData};
use memprof_common::{
    StackTotals, StackTurn,
    buckets::{Directory, table},
};

use super::{
    KernelError,
    buckets::{BucketTable, Keys},
    grace::GracePeriods,
    load::array,
    mapped_array::MappedArray,
};
use crate::model::{StackCounts, StackId};

/// Stacks after which a table of so many entries wants to be emptied: there is room for as many while that is done.
pub(super) fn mark(entries: u32) -> u64 {
    u64::from(entries.div_ceil(2))
}

pub(super) struct StackTables {
    tables: [BucketTable<StackTotals>; 2],
    turn: MappedArray<StackTurn>,
    mark: u64,
    grace_periods: GracePeriods,
}

impl StackTables {
    /// Takes the tables, made for so many entries each.
    pub(super) fn new(bpf: &mut Ebpf, keys: &Keys, directory: &Directory, entries: u32) -> Result<Self, KernelError> {
        let mut table = |name, number| BucketTable::new(bpf, name, keys, directory.table(number));
        let tables = [table("STACKS", table::STACKS)?, table("MORE_STACKS", table::MORE_STACKS)?];
        let turn: MapData = array(bpf, "STACK_TURN")?;
        let turn = MappedArray::new(turn, 1)?;
        Ok(Self { tables, turn, mark: mark(entries), grace_periods: GracePeriods::new()? })
    }

    /// Whether the table in use is half full.
    pub(super) fn is_filling(&self) -> bool {
        self.turn.read(0).entered[self.current()] >= self.mark
    }

    /// Has the programs use the other table, and takes everything out of this one: each stack that the programs knew, with its
    /// allocations. From here on they know none.
    pub(super) fn take_turns(&mut self, mut apply: impl FnMut(StackId, StackCounts)) -> Result<(), KernelError> {
        let current = self.current();
        self.turn.word(0, offset_of!(StackTurn, table)).store(1 - current as u64, Ordering::Release);
        self.grace_periods.wait()?;
        self.tables[current].take_all(|stack, totals| apply(StackId(stack), counts(totals)));
        let entered = offset_of!(StackTurn, entered) + current * size_of::<u64>();
        self.turn.word(0, entered).store(0, Ordering::Release);
        Ok(())
    }

    /// Waits until no program runs any more that runs now.
    pub(super) fn await_programs(&self) -> Result<(), KernelError> {
        self.grace_periods.wait()
    }

    /// Reads the counts of each stack that the programs know.
    pub(super) fn for_each(&self, mut apply: impl FnMut(StackId, StackCounts)) {
        self.tables[self.current()].for_each(|stack, totals| apply(StackId(stack), counts(totals)));
    }

    /// Takes a stack out that no program will come by any more.
    pub(super) fn remove(&mut self, stack: StackId) {
        let current = self.current();
        self.tables[current].remove(stack.0);
    }

    fn current(&self) -> usize {
        usize::from(self.turn.read(0).table == 1)
    }
}

fn counts(totals: StackTotals) -> StackCounts {
    StackCounts { units: totals.allocations, bytes: totals.bytes, lasting: 0 }
}
