//! What the stages ask of an ELF file, and the only user of the ELF reader: plain data out, nothing borrowed.
//!
//! Files are read, not mapped: a file that its owner truncates meanwhile gives an error here, not a `SIGBUS`.
//! Everything in them is taken for hostile: sizes are checked against the file's before memory is asked for.

mod debug;
mod eh_frame;
mod functions;
mod reader;
mod segments;

use std::{ffi::OsString, fs::File, io, os::unix::ffi::OsStringExt as _, path::PathBuf};

use object::{
    Endianness, Object as _, elf,
    read::elf::{FileHeader as _, ProgramHeader as _},
};

use self::reader::{Elf, check_identification, with_elf};
pub use self::{
    debug::{DebugLink, debug_link, has_debug_information, names_files, without_names_of_files},
    eh_frame::{EhFrame, eh_frame},
    functions::{
        Function, Slot, defined_functions, function_starts, has_symbol_table, is_glibc_loader, slots, symbol_addresses,
    },
    segments::{Segment, bytes, code, has_code, original_segments, pieces, segments},
};
use crate::model::BuildId;

/// Build ids are 16 or 20 bytes; a linker may be told to write others, within reason.
const MOST_BUILD_ID_BYTES: usize = 64;

/// The kernel takes no longer ones (`PATH_MAX`).
const MOST_PATH_BYTES: usize = 4096;

/// Why a file could not be read as an ELF file.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// It is something else.
    #[error("not an ELF file")]
    NotElf,
    /// It is for a 32-bit process.
    #[error("a 32-bit ELF file, which memprof does not support")]
    ThirtyTwoBit,
    /// It is for another processor.
    #[error("an ELF file for another processor")]
    OtherProcessor,
    /// It contradicts itself, or ends early.
    #[error("a malformed ELF file: {0}")]
    Malformed(#[from] object::Error),
    /// It has more of something than any real file.
    #[error("an ELF file with more {0} than any program has")]
    TooMany(&'static str),
    /// It could not be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
}

/// Whether the file begins as a 32-bit ELF file does. Anything that cannot be read does not.
pub fn is_32_bit(file: &File) -> bool {
    matches!(check_identification(file), Err(ElfError::ThirtyTwoBit))
}

/// The build id; `None` if there is none, or it is of no sensible length, or the file is no readable ELF file.
pub fn build_id(file: &File) -> Option<BuildId> {
    with_elf(file, |elf| {
        let id = elf.build_id()?.filter(|id| !id.is_empty() && id.len() <= MOST_BUILD_ID_BYTES);
        Ok(id.map(|id| BuildId(id.into())))
    })
    .ok()?
}

/// The program interpreter (dynamic loader) that an executable asks for; `None` for a static one, or a library.
///
/// # Errors
/// Where the file cannot be read as an ELF file.
pub fn interpreter(file: &File) -> Result<Option<PathBuf>, ElfError> {
    with_elf(file, |elf| {
        let mut headers = elf.elf_program_headers().iter();
        let Some(header) = headers.find(|header| header.p_type(elf.endian()) == elf::PT_INTERP) else {
            return Ok(None);
        };
        let path = header.interpreter(elf.endian(), elf.data())?.filter(|path| path.len() <= MOST_PATH_BYTES);
        Ok(path.map(|path| OsString::from_vec(path.to_vec()).into()))
    })
}

/// Whether the file is a program, and no library: it has fixed addresses, asks for a loader, or says that it is a static PIE.
///
/// # Errors
/// Where the file cannot be read as an ELF file.
pub fn is_executable(file: &File) -> Result<bool, ElfError> {
    with_elf(file, |elf| {
        let endian = elf.endian();
        let has_loader = elf.elf_program_headers().iter().any(|header| header.p_type(endian) == elf::PT_INTERP);
        let is_pie = dynamic_section(elf)?
            .iter()
            .any(|entry| entry.d_tag.get(endian) == elf::DT_FLAGS_1 && entry.d_val.get(endian) & elf::DF_1_PIE.0 != 0);
        Ok(has_loader || is_pie || elf.elf_header().e_type(endian) == elf::ET_EXEC)
    })
}

/// Whether the file has a name by which others load it (`DT_SONAME`), as libraries have; also those that can be run, such as libc.
///
/// # Errors
/// Where the file cannot be read as an ELF file.
pub fn is_named_library(file: &File) -> Result<bool, ElfError> {
    with_elf(file, |elf| Ok(dynamic_section(elf)?.iter().any(|entry| entry.d_tag.get(elf.endian()) == elf::DT_SONAME)))
}

/// What the dynamic loader goes by; nothing in a static executable.
fn dynamic_section<'data>(elf: &Elf<'data>) -> Result<&'data [elf::Dyn64<Endianness>], ElfError> {
    let mut headers = elf.elf_program_headers().iter();
    let header = headers.find(|header| header.p_type(elf.endian()) == elf::PT_DYNAMIC);
    let entries = header.map(|header| header.dynamic(elf.endian(), elf.data())).transpose()?;
    Ok(entries.flatten().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use std::io::Write as _;

    use super::*;

    fn file_of(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn what_is_no_elf_file_is_said_to_be_none() {
        for content in [b"".as_slice(), b"\x7fELF", b"#!/bin/sh\necho a script\n", &[0; 4096]] {
            assert!(matches!(segments(&file_of(content)), Err(ElfError::NotElf)));
            assert_eq!(build_id(&file_of(content)), None);
        }
    }

    #[test]
    fn a_32_bit_file_is_recognised_by_its_class() {
        let mut header = [0; 64];
        header[..5].copy_from_slice(b"\x7fELF\x01");
        assert!(is_32_bit(&file_of(&header)));
        assert!(!is_32_bit(&File::open("/proc/self/exe").unwrap()));
    }

    #[test]
    fn this_program_is_a_dynamic_executable_with_code() {
        let file = File::open("/proc/self/exe").unwrap();
        assert!(interpreter(&file).unwrap().unwrap().is_absolute());
        assert_eq!(segments(&file).unwrap().iter().filter(|segment| segment.executable).count(), 1);
    }

    #[test]
    fn every_truncation_of_a_program_is_an_error_or_an_answer() {
        let whole = std::fs::read("/bin/true").unwrap();
        for length in (0..whole.len()).step_by(97) {
            let file = file_of(&whole[..length]);
            let _ = (segments(&file), interpreter(&file), build_id(&file), debug_link(&file));
            let _ = (defined_functions(&file, &["malloc"]), is_glibc_loader(&file), has_debug_information(&file));
            let _ = eh_frame(&file);
        }
    }
}
