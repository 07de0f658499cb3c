//! Debug information: whether it is there, and which other files it is in.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, Write as _},
    os::unix::ffi::OsStringExt as _,
};

use object::{Object as _, ObjectSection as _};
use rustix::fs::{MemfdFlags, memfd_create};

use super::{
    ElfError,
    reader::{read_bounded, with_elf},
};

/// Files that name others and are larger have debug information for nobody.
const MOST_COPIED_BYTES: u64 = 512 << 20;

/// A `.gnu_debuglink`: the name of the file that holds the debug information.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugLink {
    /// Its name, without a directory.
    pub name: OsString,
    /// CRC-32 of its content.
    pub checksum: u32,
}

/// Whether the file itself holds debug information (line tables).
///
/// # Errors
/// Where the file cannot be read as an ELF file.
pub fn has_debug_information(file: &File) -> Result<bool, ElfError> {
    with_elf(file, |elf| {
        let names = [".debug_line", ".zdebug_line"];
        Ok(names.iter().filter_map(|name| elf.section_by_name(name)).any(|section| section.size() > 0))
    })
}

/// The separate file that holds the debug information, if the file names one. A name with a directory is none.
///
/// # Errors
/// Where the file cannot be read as an ELF file.
pub fn debug_link(file: &File) -> Result<Option<DebugLink>, ElfError> {
    with_elf(file, |elf| {
        let link = elf.gnu_debuglink()?;
        Ok(link
            .filter(|(name, _)| !name.is_empty() && !name.contains(&b'/') && *name != b"..")
            .map(|(name, checksum)| DebugLink { name: OsString::from_vec(name.to_vec()), checksum }))
    })
}

/// Sections that name another file: with debug information, or with what several files' has in common.
const SECTIONS_WITH_NAMES: [&[u8]; 3] = [b".gnu_debuglink\0", b".gnu_debugaltlink\0", b".debug_sup\0"];

/// Whether the file may name other files that its debug information is in. What cannot be read may.
pub fn names_files(file: &File) -> bool {
    let names = with_elf(file, |elf| {
        let mut names = false;
        for section in elf.sections() {
            let name = section.name_bytes()?;
            names |= SECTIONS_WITH_NAMES.iter().any(|section| section.strip_suffix(b"\0") == Some(name));
        }
        Ok(names)
    });
    names.unwrap_or(true)
}

/// A copy of the file, in memory, in which the sections that name other files are called something else.
///
/// # Errors
/// Where the file cannot be read, or is too large.
pub fn without_names_of_files(file: &File) -> io::Result<File> {
    let length = file.metadata()?.len();
    if length > MOST_COPIED_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = read_bounded(file, &(0..length), length)?;
    // Whoever finds such a section finds its name somewhere in the file.
    for section in SECTIONS_WITH_NAMES {
        let places: Vec<_> = memchr::memmem::find_iter(&bytes, section).collect();
        places.into_iter().for_each(|place| bytes[place] = b'_');
    }
    let mut copy = File::from(memfd_create("object", MemfdFlags::CLOEXEC)?);
    copy.write_all(&bytes)?;
    Ok(copy)
}
