//! The call frame information.

use std::{fs::File, os::unix::fs::FileExt as _};

use object::{
    Object as _, ObjectSection as _, elf,
    read::elf::{ProgramHeader as _, SectionHeader as _},
};

use super::{
    ElfError,
    reader::{Elf, read_bounded, with_elf},
};

/// The `.eh_frame` of a program of 2 GiB has some 100 MB.
pub(super) const MOST_EH_FRAME_BYTES: u64 = 256 << 20;

/// The call frame information that is there for exceptions, and so in stripped files too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EhFrame {
    /// Address of the first byte.
    pub address: u64,
    /// The section's content; where no section header tells its end, more may follow, after the terminator.
    pub bytes: Vec<u8>,
    /// Address of `.text`, to which pointers may be relative; unknown in files without section headers.
    pub text_address: Option<u64>,
    /// Address of the global offset table, to which pointers may be relative.
    pub got_address: Option<u64>,
}

/// The call frame information, found by its section header or else by the program header `PT_GNU_EH_FRAME`; `None` where
/// there is none, or none of sensible size.
///
/// # Errors
/// Where the file cannot be read as an ELF file.
pub fn eh_frame(file: &File) -> Result<Option<EhFrame>, ElfError> {
    with_elf(file, |elf| {
        let address_of = |name| elf.section_by_name(name).map(|section| section.address());
        let found = match eh_frame_by_section(elf)? {
            Some(found) => Some(found),
            None => eh_frame_by_header(elf, file)?,
        };
        Ok(found.map(|(address, bytes)| EhFrame {
            address,
            bytes,
            text_address: address_of(".text"),
            got_address: address_of(".got.plt").or_else(|| address_of(".got")),
        }))
    })
}

fn eh_frame_by_section(elf: &Elf<'_>) -> Result<Option<(u64, Vec<u8>)>, ElfError> {
    let Some(section) = elf.section_by_name(".eh_frame") else { return Ok(None) };
    let has_bytes = section.elf_section_header().sh_type(elf.endian()) != elf::SHT_NOBITS;
    if !has_bytes || section.address() == 0 || section.size() == 0 || section.size() > MOST_EH_FRAME_BYTES {
        return Ok(None);
    }
    Ok(Some((section.address(), section.data()?.to_vec())))
}

/// Follows `PT_GNU_EH_FRAME` (LSB, Core, section 10.6.2) to the `.eh_frame`, whose end is not told: all of its segment's
/// bytes from there on.
fn eh_frame_by_header(elf: &Elf<'_>, file: &File) -> Result<Option<(u64, Vec<u8>)>, ElfError> {
    let endian = elf.endian();
    let headers = elf.elf_program_headers();
    let Some(header) = headers.iter().find(|header| header.p_type(endian) == elf::PT_GNU_EH_FRAME) else {
        return Ok(None);
    };
    let mut start = [0; 12];
    if file.read_at(&mut start, header.p_offset(endian))? < start.len() {
        return Ok(None);
    }
    let Some(address) = eh_frame_pointer(start, header.p_vaddr(endian)) else { return Ok(None) };
    let loads = headers.iter().filter(|header| header.p_type(endian) == elf::PT_LOAD);
    let mut offsets = loads.filter_map(|load| {
        let distance = address.checked_sub(load.p_vaddr(endian))?;
        let offset = load.p_offset(endian);
        (distance < load.p_filesz(endian))
            .then_some(offset.checked_add(distance)?..offset.checked_add(load.p_filesz(endian))?)
    });
    match offsets.next() {
        Some(offsets) => Ok(Some((address, read_bounded(file, &offsets, MOST_EH_FRAME_BYTES)?))),
        None => Ok(None),
    }
}

/// The pointer to `.eh_frame` in an `.eh_frame_hdr` that begins with these bytes at `address`. All linkers write it as
/// four or eight signed bytes relative to itself; other encodings, and other versions, are `None`.
fn eh_frame_pointer(start: [u8; 12], address: u64) -> Option<u64> {
    const PC_RELATIVE_4: u8 = 0x1b;
    const PC_RELATIVE_8: u8 = 0x1c;
    let [1, encoding, _, _, pointer @ ..] = start else { return None };
    let distance = match encoding {
        PC_RELATIVE_4 => i64::from(i32::from_le_bytes([pointer[0], pointer[1], pointer[2], pointer[3]])),
        PC_RELATIVE_8 => i64::from_le_bytes(pointer),
        _ => return None,
    };
    Some(address.wrapping_add(4).wrapping_add_signed(distance))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_points_to_the_section_relative_to_itself() {
        let pointer = |start| eh_frame_pointer(start, 0x1000);
        assert_eq!(pointer([1, 0x1b, 3, 0x3b, 0xfc, 0xff, 0xff, 0xff, 9, 9, 9, 9]), Some(0x1000));
        assert_eq!(pointer([1, 0x1c, 3, 0x3b, 0x10, 0, 0, 0, 1, 0, 0, 0]), Some(0x1_0000_1014));
        assert_eq!(pointer([1, 0xff, 3, 0x3b, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(pointer([2, 0x1b, 3, 0x3b, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }
}
