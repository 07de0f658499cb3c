//! Segments: which bytes of the file lie where in memory, and what they are.

use std::{fs::File, ops::Range, os::unix::fs::FileExt as _};

use object::{Endianness, elf, read::elf::ProgramHeader as _};

use super::{
    ElfError,
    reader::{Elf, read_bounded, with_elf},
};

/// Linkers make some five; a file could have any number, all of the same bytes.
const MOST_SEGMENTS: usize = 64;

/// Code that is only searched is read by such pieces.
const PIECE_BYTES: usize = 1 << 20;

/// So much of an object's segments is searched or decoded, in all.
const MOST_CODE_BYTES: u64 = 1 << 30;

/// A loadable segment: where bytes of the file lie in the object's own addresses (as in its symbol table).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Offsets in the file.
    pub offsets: Range<u64>,
    /// Address of the first byte.
    pub address: u64,
    /// Whether code runs from it.
    pub executable: bool,
}

impl Segment {
    /// Offset in the file of the byte at `address`, if it is in this segment.
    pub fn offset_of(&self, address: u64) -> Option<u64> {
        let distance = address.checked_sub(self.address)?;
        (distance < self.offsets.end - self.offsets.start).then(|| self.offsets.start + distance)
    }

    /// Address of the byte at `offset` in the file, if it is in this segment.
    pub fn address_of(&self, offset: u64) -> Option<u64> {
        self.offsets.contains(&offset).then(|| self.address.wrapping_add(offset - self.offsets.start))
    }
}

/// The loadable segments, those without bytes in the file left out.
///
/// # Errors
/// Where the file cannot be read as an ELF file.
pub fn segments(file: &File) -> Result<Vec<Segment>, ElfError> {
    with_elf(file, |elf| {
        let endian = elf.endian();
        let headers = loads(elf)?;
        Ok(headers
            .into_iter()
            .filter_map(|header| {
                let offset = header.p_offset(endian);
                Some(Segment {
                    offsets: offset..offset.checked_add(header.p_filesz(endian))?,
                    address: header.p_vaddr(endian),
                    executable: header.p_flags(endian).contains(elf::PF_X),
                })
            })
            .collect())
    })
}

/// Whether the file has the bytes of its code, all of them. Of what `objcopy --only-keep-debug` made, there may be the headers that lie before.
///
/// # Errors
/// Where the file cannot be read as an ELF file.
pub fn has_code(file: &File) -> Result<bool, ElfError> {
    with_elf(file, |elf| {
        let endian = elf.endian();
        let is_code = |header: &&elf::ProgramHeader64<_>| {
            header.p_type(endian) == elf::PT_LOAD && header.p_flags(endian).contains(elf::PF_X)
        };
        let mut code = elf.elf_program_headers().iter().filter(is_code);
        Ok(code.any(|header| header.p_filesz(endian) > 0 && header.p_filesz(endian) == header.p_memsz(endian)))
    })
}

/// The loadable segments of the object from which this file is what `objcopy --only-keep-debug` made: where they lay in *its* file. Those of
/// the file itself if it has their bytes.
///
/// What is left of such a file has its segments' addresses and sizes, but not their offsets. Those follow: linkers put segments one behind the
/// other, each at the first offset that is congruent with its address modulo its alignment, as mapping it requires.
///
/// # Errors
/// Where the file cannot be read as an ELF file.
pub fn original_segments(file: &File) -> Result<Vec<Segment>, ElfError> {
    if has_code(file)? {
        return segments(file);
    }
    with_elf(file, |elf| {
        let endian = elf.endian();
        let mut end = 0_u64;
        let segment = |header: &elf::ProgramHeader64<_>| {
            let (address, alignment) = (header.p_vaddr(endian), header.p_align(endian).max(1));
            let (wanted, reached) = (address % alignment, end % alignment);
            let distance = if wanted >= reached { wanted - reached } else { alignment - reached + wanted };
            let start = end.checked_add(distance)?;
            end = start.checked_add(header.p_memsz(endian))?;
            Some(Segment { offsets: start..end, address, executable: header.p_flags(endian).contains(elf::PF_X) })
        };
        Ok(loads(elf)?.into_iter().map_while(segment).collect())
    })
}

/// The code of an object: of each executable segment the bytes, from its first one on. The end of what is larger than any real code is left
/// out.
///
/// # Errors
/// Where the file cannot be read.
pub fn code<'segments>(
    file: &File,
    segments: &'segments [Segment],
) -> Result<Vec<(&'segments Segment, Vec<u8>)>, ElfError> {
    let mut left = MOST_CODE_BYTES;
    let executable = segments.iter().filter(|segment| segment.executable);
    let read = |segment: &'segments Segment| {
        let bytes = read_bounded(file, &segment.offsets, left)?;
        left -= bytes.len() as u64;
        Ok((segment, bytes))
    };
    executable.map(read).collect()
}

/// Bytes of the file, all of them or none.
///
/// # Errors
/// Where the file cannot be read, or ends before.
pub fn bytes(file: &File, offset: u64, length: usize) -> Result<Vec<u8>, ElfError> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// Shows the bytes of segments piece by piece, each with its segment and the offset in the file of its first byte. A piece begins
/// with the last `overlap` bytes of the one before, so that whatever is not longer than one more than that is whole in some piece. The end of what
/// is larger than any real code is left out.
///
/// # Errors
/// Where the file cannot be read.
pub fn pieces<'segments>(
    file: &File,
    segments: impl IntoIterator<Item = &'segments Segment>,
    overlap: usize,
    mut show: impl FnMut(&Segment, u64, &[u8]),
) -> Result<(), ElfError> {
    let file_end = file.metadata()?.len();
    let mut piece = vec![0; PIECE_BYTES + overlap];
    let mut pieces_left = MOST_CODE_BYTES / PIECE_BYTES as u64;
    for segment in segments {
        let end = segment.offsets.end.min(file_end);
        let mut start = segment.offsets.start;
        while start < end && pieces_left > 0 {
            let length = piece.len().min((end - start) as usize);
            file.read_exact_at(&mut piece[..length], start)?;
            show(segment, start, &piece[..length]);
            start += PIECE_BYTES as u64;
            pieces_left -= 1;
        }
    }
    Ok(())
}

/// The headers of what is loaded.
fn loads<'data>(elf: &Elf<'data>) -> Result<Vec<&'data elf::ProgramHeader64<Endianness>>, ElfError> {
    let headers = elf.elf_program_headers().iter();
    let loads: Vec<_> =
        headers.filter(|header| header.p_type(elf.endian()) == elf::PT_LOAD).take(MOST_SEGMENTS + 1).collect();
    if loads.len() > MOST_SEGMENTS { Err(ElfError::TooMany("segments")) } else { Ok(loads) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_and_addresses_convert_within_the_segment_only() {
        let segment = Segment { offsets: 0x1000..0x2000, address: 0x40_1000, executable: true };
        assert_eq!(segment.offset_of(0x40_1234), Some(0x1234));
        assert_eq!(segment.offset_of(0x40_2000), None);
        assert_eq!(segment.offset_of(0x40_0fff), None);
        assert_eq!(segment.address_of(0x1234), Some(0x40_1234));
        assert_eq!(segment.address_of(0x2000), None);
    }
}
