//! Finds the separate file with an object's debug information, where gdb finds it
//! (<https://sourceware.org/gdb/current/onlinedocs/gdb.html/Separate-Debug-Files.html>).

use std::{
    fs::File,
    io::{self, Read as _},
    os::{fd::OwnedFd, unix::fs::MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags, open};

use crate::{
    elf,
    model::BuildId,
    regular_file::{descriptor_path, open_regular, open_regular_below},
};

/// Of larger files no checksum is made.
const MOST_BYTES: u64 = 4 << 30;

/// The first candidate that belongs to the object: by its build id or, if the object has none, by its checksum.
///
/// The directories are believed. What lies beside the object is a stranger's: it may be no link to elsewhere, and if it names other files
/// it is copied without these names.
pub(super) fn find(object: &File, debug_directories: &[PathBuf]) -> Option<File> {
    let build_id = elf::build_id(object);
    let link = elf::debug_link(object).ok().flatten();
    let belongs = |candidate: &File| {
        elf::has_debug_information(candidate).unwrap_or(false)
            && match (&build_id, &link) {
                (Some(id), _) => elf::build_id(candidate).as_ref() == Some(id),
                (None, Some(link)) => checksum(candidate).is_ok_and(|checksum| checksum == link.checksum),
                (None, None) => false,
            }
    };
    let by_id = build_id.iter().flat_map(|id| debug_directories.iter().filter_map(|root| path_by_build_id(root, id)));
    if let Some(found) = by_id.filter_map(|path| open_regular(&path).ok()).find(&belongs) {
        return Some(found);
    }
    let name = &link.as_ref()?.name;
    let path = std::fs::read_link(descriptor_path(object)).ok()?;
    let names = [PathBuf::from(name), Path::new(".debug").join(name)];
    let directory = folder_of(object, &path);
    let mut strangers = directory
        .iter()
        .flat_map(|directory| names.iter().filter_map(move |name| open_regular_below(directory, name).ok()));
    if let Some(found) = strangers.find(&belongs) {
        return if elf::names_files(&found) { elf::without_names_of_files(&found).ok() } else { Some(found) };
    }
    let below_root = path.parent()?.strip_prefix("/").ok()?;
    let by_link = debug_directories.iter().map(|root| root.join(below_root).join(name));
    by_link.filter_map(|path| open_regular(&path).ok()).find(&belongs)
}

pub(super) fn path_by_build_id(root: &Path, id: &BuildId) -> Option<PathBuf> {
    let digits = id.to_string();
    let (first, rest) = digits.split_at_checked(2)?;
    Some(root.join(".build-id").join(first).join(format!("{rest}.debug")))
}

/// The folder that an open file is in, in our own mount namespace. Nothing if the file is not there any more, or if its path
/// means another file to us than to those who have it mapped.
fn folder_of(file: &File, path: &Path) -> Option<OwnedFd> {
    let folder = open(path.parent()?, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let there = open_regular_below(&folder, Path::new(path.file_name()?)).ok()?.metadata().ok()?;
    let here = file.metadata().ok()?;
    ((here.dev(), here.ino()) == (there.dev(), there.ino())).then_some(folder)
}

/// The CRC-32 of a file's content.
pub(super) fn checksum(file: &File) -> io::Result<u32> {
    if file.metadata()?.len() > MOST_BYTES {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut reader = File::open(descriptor_path(file))?.take(MOST_BYTES);
    let mut hasher = crc32fast::Hasher::new();
    let mut block = vec![0; 1 << 20];
    loop {
        match reader.read(&mut block)? {
            0 => return Ok(hasher.finalize()),
            length => hasher.update(&block[..length]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_id_is_a_directory_of_one_byte_and_a_name_of_the_others() {
        let id = BuildId(Box::from([0xab, 0xcd, 0x01]));
        let path = path_by_build_id(Path::new("/usr/lib/debug"), &id);
        assert_eq!(path.as_deref(), Some(Path::new("/usr/lib/debug/.build-id/ab/cd01.debug")));
        assert_eq!(path_by_build_id(Path::new("/"), &BuildId(Box::from([]))), None);
    }
}
