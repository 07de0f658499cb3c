//! Userspace's half of the tables of [`memprof_common::buckets`]: read, and taken out of, where they are.

use std::{
    rc::Rc,
    sync::atomic::{AtomicU64, Ordering, fence},
};

use aya::Ebpf;
use memprof_common::buckets::{CLAIMED, FIRST_KEY, FREE, Line, SLOTS_A_LINE, Table};

use super::{KernelError, load::array, mapped_array::MappedArray};

/// The keys of all tables.
pub(super) type Keys = Rc<MappedArray<Line>>;

/// The keys of one table.
pub(super) struct KeyTable {
    keys: Keys,
    table: Table,
}

impl KeyTable {
    /// One of the tables in `keys`.
    pub(super) fn new(keys: &Keys, table: Table) -> Self {
        Self { keys: Rc::clone(keys), table }
    }

    /// Index of a key's value.
    pub(super) fn find(&self, key: u64) -> Option<u32> {
        let slot = self.slots_of(key).find(|slot| self.key(*slot).load(Ordering::Acquire) == key)?;
        Some(self.table.value_of(slot))
    }

    /// Claims a free slot for a key; index of its value. Fill that in, then [publish](Self::publish).
    pub(super) fn claim_free(&self, key: u64) -> Option<u32> {
        let slot = self.slots_of(key).find(|slot| self.claim(*slot, FREE))?;
        Some(self.table.value_of(slot))
    }

    /// Shows a claimed slot's key, and so its value, to the programs.
    pub(super) fn publish(&self, value: u32, key: u64) {
        self.key(self.table.first_line * SLOTS_A_LINE + value).store(key, Ordering::Release);
    }

    /// Removes every key. What is entered meanwhile may stay.
    pub(super) fn clear(&self) {
        self.for_each(|key, slot, _| {
            // An error means that it was removed just now.
            let _ = slot.compare_exchange(key, FREE, Ordering::Relaxed, Ordering::Relaxed);
        });
    }

    /// Every key.
    pub(super) fn keys(&self) -> Vec<u64> {
        let mut keys = Vec::new();
        self.for_each(|key, _, _| keys.push(key));
        keys
    }

    /// Visits every key, with its slot and the index of its value.
    fn for_each(&self, mut visit: impl FnMut(u64, &AtomicU64, usize)) {
        for line in self.table.first_line..self.table.end() {
            let first = ((line - self.table.first_line) * SLOTS_A_LINE) as usize;
            for (index, slot) in self.keys.words(line as usize).iter().enumerate() {
                let key = slot.load(Ordering::Acquire);
                if key >= FIRST_KEY {
                    visit(key, slot, first + index);
                }
            }
        }
    }

    fn slots_of(&self, key: u64) -> impl Iterator<Item = u32> {
        self.table
            .lines_of(key)
            .into_iter()
            .flat_map(|line| (0..SLOTS_A_LINE).map(move |slot| line * SLOTS_A_LINE + slot))
    }

    fn key(&self, slot: u32) -> &AtomicU64 {
        self.keys.word((slot / SLOTS_A_LINE) as usize, (slot % SLOTS_A_LINE) as usize * size_of::<u64>())
    }

    fn claim(&self, slot: u32, key: u64) -> bool {
        claim(self.key(slot), key)
    }
}

/// A table whose values are mapped, too.
pub(super) struct BucketTable<V> {
    keys: KeyTable,
    values: MappedArray<V>,
}

impl<V: Copy> BucketTable<V> {
    /// One of the tables in `keys`, with its values, which are in the map of that name.
    pub(super) fn new(bpf: &mut Ebpf, values: &str, keys: &Keys, table: Table) -> Result<Self, KernelError> {
        let values = MappedArray::new(array(bpf, values)?, table.slots() as usize)?;
        Ok(Self { keys: KeyTable::new(keys, table), values })
    }

    /// Takes out every element. What is put in meanwhile may stay.
    pub(super) fn take_all(&mut self, mut apply: impl FnMut(u64, V)) {
        self.keys.for_each(|key, slot, index| {
            if claim(slot, key) {
                let value = self.values.read(index);
                slot.store(FREE, Ordering::Release);
                apply(key, value);
            }
        });
    }

    /// Removes the elements that `is_over` is true of.
    pub(super) fn remove_where(&mut self, is_over: impl Fn(&V) -> bool) {
        self.keys.for_each(|key, slot, index| {
            if is_over(&self.values.read(index)) && claim(slot, key) {
                // It may have been another's by then.
                let is_still = is_over(&self.values.read(index));
                slot.store(if is_still { FREE } else { key }, Ordering::Release);
            }
        });
    }

    /// Removes one element, if it is there.
    pub(super) fn remove(&mut self, key: u64) {
        for slot in self.keys.slots_of(key) {
            if self.keys.claim(slot, key) {
                self.keys.key(slot).store(FREE, Ordering::Release);
            }
        }
    }

    /// Reads every element. A key can come twice; and of a value that is written meanwhile, each word is as it was at some
    /// time.
    pub(super) fn for_each(&self, mut apply: impl FnMut(u64, V)) {
        self.keys.for_each(|key, _, index| apply(key, self.values.read(index)));
    }
}

impl<V: Copy + PartialEq> BucketTable<V> {
    /// Reads every element, each as it was at one time. No two that follow each other in a slot may be equal.
    pub(super) fn for_each_whole(&self, mut apply: impl FnMut(u64, V)) {
        self.keys.for_each(|_, slot, index| {
            if let Some((key, value)) = self.whole(slot, index) {
                apply(key, value);
            }
        });
    }

    /// An element that was written to while it was read is not the same when it is read again: that it has been claimed is seen before
    /// any of it, and its key is seen after all of it.
    fn whole(&self, slot: &AtomicU64, index: usize) -> Option<(u64, V)> {
        let read = || {
            let key = slot.load(Ordering::Acquire);
            let value = (key >= FIRST_KEY).then(|| self.values.read(index));
            fence(Ordering::Acquire);
            Some((key, value?))
        };
        let mut last = read()?;
        loop {
            let again = read()?;
            if again == last {
                return Some(last);
            }
            last = again;
        }
    }
}

fn claim(slot: &AtomicU64, key: u64) -> bool {
    slot.compare_exchange(key, CLAIMED, Ordering::Acquire, Ordering::Relaxed).is_ok()
}
