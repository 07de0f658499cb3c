//! The entries of `.eh_frame`: CIEs, each kept with the state that its instructions set up, and FDEs, one a function.

use gimli::{BaseAddresses, CommonInformationEntry, EhFrame, EhFrameOffset, FrameDescriptionEntry, UnwindSection as _};

use super::{
    Bytes,
    evaluate::{State, initial_state},
};

/// Marks a length of eight bytes.
const LONG_LENGTH: u32 = u32::MAX;

/// Compilers write one a source file at most, and linkers merge them. What refers to any more than these is malformed.
const MOST_CIES: usize = 1 << 18;

/// A CIE and what every function that refers to it begins with.
pub(super) struct Cie<'data> {
    offset: usize,
    pub(super) entry: CommonInformationEntry<Bytes<'data>>,
    pub(super) state: State,
}

/// Walks the entries in the order of the section. An entry that cannot be understood is skipped by its length.
pub(super) struct Entries<'data, 'section> {
    section: &'section EhFrame<Bytes<'data>>,
    bases: &'section BaseAddresses,
    bytes: &'data [u8],
    next: usize,
    /// By offset, which is the order in which they come.
    cies: Vec<Cie<'data>>,
    /// Of the function before, whose CIE is the likeliest one.
    last_cie: usize,
}

/// What one FDE is.
pub(super) enum Entry<'data, 'entries> {
    Function(FrameDescriptionEntry<Bytes<'data>>, &'entries Cie<'data>),
    Malformed,
}

impl<'data, 'section> Entries<'data, 'section> {
    pub(super) fn new(
        section: &'section EhFrame<Bytes<'data>>,
        bases: &'section BaseAddresses,
        bytes: &'data [u8],
    ) -> Self {
        Self { section, bases, bytes, next: 0, cies: Vec::new(), last_cie: 0 }
    }

    /// The next function, or one that cannot be understood; `None` at the end.
    pub(super) fn next(&mut self) -> Option<Entry<'data, '_>> {
        loop {
            let offset = self.next;
            let (body, end) = self.bounds(offset)?;
            self.next = end;
            let pointer = u32_at(self.bytes, body).filter(|_| body + 4 <= end)?;
            if pointer == 0 {
                self.keep_cie(offset);
                continue;
            }
            let Some(cie) = body.checked_sub(pointer as usize).and_then(|offset| self.find_cie(offset)) else {
                return Some(Entry::Malformed);
            };
            self.last_cie = cie;
            let cie = &self.cies[cie];
            let parse = |_: &_, _: &_, _| Ok(cie.entry.clone());
            return Some(match self.section.fde_from_offset(self.bases, EhFrameOffset(offset), parse) {
                Ok(function) => Entry::Function(function, cie),
                Err(_) => Entry::Malformed,
            });
        }
    }

    /// Where the body of the entry at `offset` starts, and where it ends; `None` at the terminator and at the end.
    fn bounds(&self, offset: usize) -> Option<(usize, usize)> {
        let (body, length) = match u32_at(self.bytes, offset)? {
            0 => return None,
            LONG_LENGTH => {
                let length = self.bytes.get(offset + 4..)?.first_chunk()?;
                (offset + 12, usize::try_from(u64::from_le_bytes(*length)).ok()?)
            }
            length => (offset + 4, length as usize),
        };
        let end = body.checked_add(length).filter(|end| *end <= self.bytes.len())?;
        Some((body, end))
    }

    fn keep_cie(&mut self, offset: usize) {
        if self.cies.len() == MOST_CIES {
            return;
        }
        let Ok(entry) = self.section.cie_from_offset(self.bases, EhFrameOffset(offset)) else { return };
        let Ok(state) = initial_state(&entry, self.section, self.bases) else { return };
        self.cies.push(Cie { offset, entry, state });
    }

    fn find_cie(&self, offset: usize) -> Option<usize> {
        if self.cies.get(self.last_cie).is_some_and(|cie| cie.offset == offset) {
            return Some(self.last_cie);
        }
        self.cies.binary_search_by_key(&offset, |cie| cie.offset).ok()
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(offset..)?.first_chunk()?))
}
