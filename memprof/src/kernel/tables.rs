//! The unwinder's tables: the rows of each object, once, and what code each target has mapped. See
//! [`memprof_common::tables`] for how they hang together.

use std::{
    collections::HashMap,
    mem::offset_of,
    ops::Range,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use aya::Ebpf;
use memprof_common::{
    MAX_TARGETS,
    tables::{self, GENERATION_BITS, Run, Space, code_flags},
    unwind::{Row, Rule},
};

use super::{KernelError, TargetId, extents::Extents, load::array, mapped_array::MappedArray};
use crate::model::{Mapping, ObjectId, ObjectKind};

/// Entries of `MAPPINGS`, of all targets.
pub(super) const MAPPINGS: u32 = 1 << 16;

/// Most mappings of one target: what the programs' binary search reaches.
const MOST_MAPPINGS: usize = 1 << 12;

/// After this time no program that runs can have seen what was replaced.
const GRACE: Duration = Duration::from_millis(100);

/// There is no room in a table; not an error of the kernel's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRoom;

/// How often a target's code was unmapped or mapped over, and how often new code was mapped, up to some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CodeChanges {
    changes: u64,
    news: u64,
}

/// What a target has mapped.
#[derive(Clone, Copy, Debug)]
pub struct MappedCode<'a> {
    /// All its code, sorted by address, disjoint; and what each is.
    pub mappings: &'a [(Mapping, ObjectKind)],
    /// Where its main thread's stack ends, or zero.
    pub stack_end: u64,
    /// The changes that `mappings` takes into account.
    pub changes: CodeChanges,
}

/// The tables, and what of them is in use.
pub(super) struct Tables {
    rows: MappedArray<Row>,
    mappings: MappedArray<tables::MappedCode>,
    spaces: MappedArray<Space>,
    free_rows: Extents,
    free_mappings: Extents,
    objects: HashMap<ObjectId, Range<u32>>,
    runs: HashMap<TargetId, Range<u32>>,
    replaced: Vec<(Instant, Replaced)>,
    generations: u64,
}

enum Replaced {
    Rows(Range<u32>),
    Mappings(Range<u32>),
}

impl Tables {
    /// Maps the tables; there is room for that many rows.
    pub(super) fn new(bpf: &mut Ebpf, rows: u32) -> Result<Self, KernelError> {
        Ok(Self {
            rows: MappedArray::new(array(bpf, "ROWS")?, rows as usize)?,
            mappings: MappedArray::new(array(bpf, "MAPPINGS")?, MAPPINGS as usize)?,
            spaces: MappedArray::new(array(bpf, "SPACES")?, MAX_TARGETS as usize)?,
            free_rows: Extents::new(rows),
            free_mappings: Extents::new(MAPPINGS),
            objects: HashMap::new(),
            runs: HashMap::new(),
            replaced: Vec::new(),
            generations: 0,
        })
    }

    /// Whether an object's rows are there.
    pub(super) fn has(&self, object: ObjectId) -> bool {
        self.objects.contains_key(&object)
    }

    /// Rows for which there is room.
    pub(super) fn free_rows(&mut self) -> u32 {
        self.reuse_replaced();
        self.free_rows.free_entries()
    }

    /// Bytes of rows in use.
    pub(super) fn row_bytes(&self) -> u64 {
        (self.rows.entries() as u64 - u64::from(self.free_rows.free_entries())) * 8
    }

    /// Enters an object's rows.
    pub(super) fn add_rows(&mut self, object: ObjectId, rows: &[Row]) -> Result<(), NoRoom> {
        self.reuse_replaced();
        let place = u32::try_from(rows.len()).ok().and_then(|count| self.free_rows.take(count)).ok_or(NoRoom)?;
        self.rows.write(place.start as usize, rows);
        self.objects.insert(object, place);
        Ok(())
    }

    /// The rule for a byte of an object's code. `None` if its rows are not there.
    pub(super) fn rule_at(&self, object: ObjectId, offset_in_file: u64) -> Option<Rule> {
        let offset_in_file = u32::try_from(offset_in_file).ok()?;
        let Range { start, end } = self.objects.get(&object)?.clone();
        let (mut low, mut high) = (start, end);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.rows.read(middle as usize).offset() <= offset_in_file {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Some(if low == start { Rule::NONE } else { self.rows.read(low as usize - 1).rule() })
    }

    /// Removes an object's rows. No target may have it mapped.
    pub(super) fn remove_rows(&mut self, object: ObjectId) {
        if let Some(place) = self.objects.remove(&object) {
            self.replaced.push((Instant::now(), Replaced::Rows(place)));
        }
    }

    /// The changes so far.
    pub(super) fn changes(&self, target: TargetId) -> CodeChanges {
        let read = |offset| self.spaces.word(target.0 as usize, offset).load(Ordering::Acquire);
        CodeChanges { changes: read(offset_of!(Space, changes)), news: read(offset_of!(Space, news)) }
    }

    /// Whether there were changes that the mappings do not take into account.
    pub(super) fn awaits_code(&self, target: TargetId) -> bool {
        let read = |offset| self.spaces.word(target.0 as usize, offset).load(Ordering::Relaxed);
        let (changes, news) = (read(offset_of!(Space, changes_known)), read(offset_of!(Space, news_known)));
        CodeChanges { changes, news } != self.changes(target)
    }

    /// Replaces what a target has mapped.
    pub(super) fn set_code(&mut self, target: TargetId, code: &MappedCode<'_>) -> Result<(), NoRoom> {
        self.reuse_replaced();
        let mut entries: Vec<_> = code.mappings.iter().take(MOST_MAPPINGS).map(|mapping| self.entry(mapping)).collect();
        let place = self.free_mappings.take(entries.len() as u32).ok_or(NoRoom)?;
        let old = self.runs.insert(target, place.clone()).unwrap_or(0..0);
        let known: Vec<_> = old.clone().map(|index| self.mappings.read(index as usize)).collect();
        let is_extension = known.iter().all(|entry| is_in(&entries, entry));
        for entry in entries.iter_mut().filter(|entry| !is_in(&known, entry)) {
            entry.flags |= code_flags::NEW;
        }
        self.mappings.write(place.start as usize, &entries);
        self.set(target, offset_of!(Space, stack_end), code.stack_end);
        // The programs read the generation first and the mappings later, so what they cache under the new generation is of the
        // new mappings.
        self.set(target, offset_of!(Space, mappings), Run::new(place.start, place.len() as u32).0);
        if !is_extension {
            self.renew(target);
        }
        self.set(target, offset_of!(Space, news_known), code.changes.news);
        self.set(target, offset_of!(Space, changes_known), code.changes.changes);
        self.replaced.push((Instant::now(), Replaced::Mappings(old)));
        Ok(())
    }

    /// Makes void what is cached of a target, and the names of its stacks.
    pub(super) fn renew(&mut self, target: TargetId) {
        self.generations += 1;
        let generation = (self.generations << 1) & ((1 << GENERATION_BITS) - 1);
        self.set(target, offset_of!(Space, generation), generation);
    }

    /// Forgets a target.
    pub(super) fn remove_code(&mut self, target: TargetId) {
        self.set(target, offset_of!(Space, mappings), Run::default().0);
        if let Some(run) = self.runs.remove(&target) {
            self.replaced.push((Instant::now(), Replaced::Mappings(run)));
        }
    }

    /// Writes a word of a space, after what was written before.
    fn set(&self, target: TargetId, offset: usize, value: u64) {
        self.spaces.word(target.0 as usize, offset).store(value, Ordering::Release);
    }

    fn entry(&self, (mapping, kind): &(Mapping, ObjectKind)) -> tables::MappedCode {
        let rows = self.objects.get(&mapping.object).cloned().unwrap_or(0..0);
        tables::MappedCode {
            start: mapping.addresses.start,
            end: mapping.addresses.end,
            file_bias: mapping.offset_in_file.wrapping_sub(mapping.addresses.start),
            rows_first: rows.start,
            rows_count: rows.len() as u32,
            object: mapping.object.0,
            flags: if *kind == ObjectKind::Other { 0 } else { code_flags::OF_FILE },
        }
    }

    fn reuse_replaced(&mut self) {
        let (free_rows, free_mappings) = (&mut self.free_rows, &mut self.free_mappings);
        for (_, replaced) in self.replaced.extract_if(.., |(since, _)| since.elapsed() >= GRACE) {
            match replaced {
                Replaced::Rows(range) => free_rows.give_back(range),
                Replaced::Mappings(range) => free_mappings.give_back(range),
            }
        }
    }
}

/// Whether all of an entry is in a run, as it is.
fn is_in(run: &[tables::MappedCode], entry: &tables::MappedCode) -> bool {
    let index = run.partition_point(|other| other.start <= entry.start);
    let Some(other) = index.checked_sub(1).map(|index| run[index]) else { return false };
    entry.end <= other.end
        && (entry.file_bias, entry.object, entry.rows_first, entry.rows_count)
            == (other.file_bias, other.object, other.rows_first, other.rows_count)
}
