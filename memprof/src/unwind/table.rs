//! The table of an object: the rows of all its functions, in order, with gaps marked.

use std::ops::Range;

use gimli::{BaseAddresses, CommonInformationEntry, FrameDescriptionEntry, X86_64};
use memprof_common::unwind::{Row, Rule, kind};

use super::{
    Bytes,
    entries::{Cie, Entries, Entry},
    evaluate::{Evaluation, State},
    rule::rule,
};
use crate::elf::{EhFrame, Segment};

/// No object has so many: a libLLVM of 66 MB of code has 1.3 million.
const MOST_ROWS: usize = 1 << 24;

/// A libLLVM has some 120,000.
const MOST_FUNCTIONS: usize = 1 << 22;

/// A gap between functions that is smaller is padding, which no return address points into: it is not marked.
const SMALLEST_GAP: u32 = 16;

/// Why an object has no table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Rows cannot point to all of its code.
    #[error("it has code beyond the first 4 GiB of its file")]
    OutOfReach,
    /// It is hostile, or not of this world.
    #[error("its call frame information describes more functions, or more places, than any object has")]
    TooLarge,
}

/// What was met while a table was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Functions that have rows.
    pub functions: usize,
    /// Functions left out because what is said of them cannot be understood.
    pub malformed: usize,
    /// Rows, before equal neighbours become one, that are `NONE` because rules cannot say what is said there.
    pub unsupported: usize,
}

/// The rows of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Sorted; see [`memprof_common::unwind`].
    pub rows: Vec<Row>,
    /// What was met.
    pub counts: Counts,
}

impl Table {
    /// Evaluates the call frame information of an object with these segments.
    ///
    /// Where functions overlap, each byte is of the one that starts last at or before it, and of those that start
    /// together, of the first in the section: what a binary search in the section's index finds. Nothing resumes after
    /// a function that lies within another one.
    ///
    /// # Errors
    /// If the object is too large for a table. Call frame information that makes no sense is left out and counted.
    pub fn new(eh_frame: &EhFrame, segments: &[Segment]) -> Result<Self, TableError> {
        let mut functions = Functions::new(eh_frame, segments)?;
        functions.collect()?;
        Ok(Self { rows: functions.merge(), counts: functions.counts })
    }

    /// The rule for the byte of code at `offset_in_file`. A return address is to be looked up minus one.
    pub fn rule_at(&self, offset_in_file: u32) -> Rule {
        let after = self.rows.partition_point(|row| row.offset() <= offset_in_file);
        after.checked_sub(1).map_or(Rule::NONE, |index| self.rows[index].rule())
    }
}

/// A function's code, and which rows are its own.
struct Function {
    /// Offsets in the file.
    start: u32,
    end: u32,
    /// Among [`Functions::rows`], up to those of the next function in the section.
    rows: Range<u32>,
}

struct Functions<'data> {
    eh_frame: &'data EhFrame,
    /// Those with code, sorted by address.
    code: Vec<&'data Segment>,
    /// In the order of the section, then sorted.
    functions: Vec<Function>,
    /// Of all functions, in the order of the section.
    rows: Vec<Row>,
    counts: Counts,
    remembered: Vec<State>,
}

impl<'data> Functions<'data> {
    fn new(eh_frame: &'data EhFrame, segments: &'data [Segment]) -> Result<Self, TableError> {
        let mut code: Vec<_> = segments.iter().filter(|segment| segment.executable).collect();
        if code.iter().any(|segment| segment.offsets.end > u64::from(u32::MAX)) {
            return Err(TableError::OutOfReach);
        }
        code.sort_by_key(|segment| segment.address);
        Ok(Self {
            eh_frame,
            code,
            functions: Vec::new(),
            // A row takes two bytes of instructions at least; memory that is not written to costs nothing.
            rows: Vec::with_capacity((eh_frame.bytes.len() / 2).min(MOST_ROWS)),
            counts: Counts::default(),
            remembered: Vec::new(),
        })
    }

    fn collect(&mut self) -> Result<(), TableError> {
        let mut section = gimli::EhFrame::new(&self.eh_frame.bytes, gimli::LittleEndian);
        section.set_address_size(8);
        let bases = bases(self.eh_frame);
        let mut entries = Entries::new(&section, &bases, &self.eh_frame.bytes);
        while let Some(entry) = entries.next() {
            match entry {
                Entry::Function(fde, cie) => self.add(&fde, cie, &section, &bases),
                Entry::Malformed => self.counts.malformed += 1,
            }
            if self.rows.len() > MOST_ROWS || self.functions.len() > MOST_FUNCTIONS {
                return Err(TableError::TooLarge);
            }
        }
        Ok(())
    }

    fn add(
        &mut self,
        fde: &FrameDescriptionEntry<Bytes<'data>>,
        cie: &Cie<'data>,
        section: &gimli::EhFrame<Bytes<'data>>,
        bases: &BaseAddresses,
    ) {
        // Linkers leave the entries of functions that they dropped: at address 0, or without length.
        let Some(Range { start, end }) = self.offsets(fde.initial_address(), fde.len()) else { return };
        let first_row = self.rows.len();
        let unsupported = self.counts.unsupported;
        if self.evaluate(fde, cie, section, bases, start..end).is_none() {
            self.rows.truncate(first_row);
            self.rows.push(Row::new(start, Rule::NONE));
            self.counts.unsupported = unsupported;
            self.counts.malformed += 1;
        } else {
            self.counts.functions += 1;
        }
        self.functions.push(Function { start, end, rows: first_row as u32..self.rows.len() as u32 });
    }

    /// Adds the rows of one function. `None` if its instructions cannot be understood.
    fn evaluate(
        &mut self,
        fde: &FrameDescriptionEntry<Bytes<'data>>,
        cie: &Cie<'data>,
        section: &gimli::EhFrame<Bytes<'data>>,
        bases: &BaseAddresses,
        offsets: Range<u32>,
    ) -> Option<()> {
        if !is_understood(&cie.entry) {
            return None;
        }
        let start = fde.initial_address();
        let is_signal = fde.is_signal_trampoline();
        let evaluation = Evaluation::new(&cie.entry, cie.state, start, &mut self.remembered);
        let mut last = None;
        let outcome = evaluation.run(fde.instructions(section, bases), |address, state| {
            let distance = address - start;
            if distance >= u64::from(offsets.end - offsets.start) {
                return;
            }
            let rule = rule(state, is_signal, &self.eh_frame.bytes);
            self.counts.unsupported += usize::from(rule.kind() == kind::NONE);
            if last != Some(rule) {
                self.rows.push(Row::new(offsets.start + distance as u32, rule));
                last = Some(rule);
            }
        });
        outcome.ok()
    }

    /// Where in the file the code at an address is, up to the end of its segment.
    fn offsets(&self, address: u64, length: u64) -> Option<Range<u32>> {
        let after = self.code.partition_point(|segment| segment.address <= address);
        let segment = self.code[after.checked_sub(1)?];
        let start = segment.offset_of(address)?;
        let end = start.checked_add(length)?.min(segment.offsets.end);
        if start < end { Some(start as u32..end as u32) } else { None }
    }

    /// Brings the functions into the order of the code, without overlaps and with the gaps marked.
    fn merge(&mut self) -> Vec<Row> {
        // Stable: those that start together stay in the order of the section.
        self.functions.sort_by_key(|function| function.start);
        self.functions.dedup_by_key(|function| function.start);
        let mut merged = Merged { rows: Vec::with_capacity(self.rows.len()) };
        let mut covered = None;
        for (index, function) in self.functions.iter().enumerate() {
            if let Some(covered) = covered.filter(|covered| function.start - covered >= SMALLEST_GAP) {
                merged.push(Row::new(covered, Rule::NONE));
            }
            let end = self.functions.get(index + 1).map_or(function.end, |next| next.start.min(function.end));
            let rows = &self.rows[function.rows.start as usize..function.rows.end as usize];
            rows.iter().filter(|row| row.offset() < end).for_each(|row| merged.push(*row));
            covered = Some(end);
        }
        if let Some(covered) = covered {
            merged.push(Row::new(covered, Rule::NONE));
        }
        merged.rows
    }
}

/// Rows of which equal neighbours become one.
struct Merged {
    rows: Vec<Row>,
}

impl Merged {
    fn push(&mut self, row: Row) {
        if self.rows.last().is_none_or(|last| last.rule() != row.rule()) {
            self.rows.push(row);
        }
    }
}

/// Whether a CIE is about the registers of this processor.
fn is_understood(cie: &CommonInformationEntry<Bytes<'_>>) -> bool {
    cie.return_address_register() == X86_64::RA && cie.address_size() == 8
}

fn bases(eh_frame: &EhFrame) -> BaseAddresses {
    let mut bases = BaseAddresses::default().set_eh_frame(eh_frame.address);
    bases.eh_frame.text = eh_frame.text_address;
    bases.eh_frame.data = eh_frame.got_address;
    bases
}
