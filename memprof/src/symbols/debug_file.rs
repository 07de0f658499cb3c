//! Finds the separate file with an object's debug information, where gdb finds it
//! (<https://sourceware.org/gdb/current/onlinedocs/gdb.html/Separate-Debug-Files.html>).

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use super::origin::beside;
use crate::{
    elf::{self, DebugLink},
    model::BuildId,
    regular_file::{descriptor_path, open_regular},
};

/// The first candidate that belongs to the object: by its build id or, if the object has none, by its checksum.
pub(super) fn find(object: &File, debug_directories: &[PathBuf]) -> Option<File> {
    let build_id = elf::build_id(object);
    let link = elf::debug_link(object).ok().flatten();
    let by_id = build_id.iter().flat_map(|id| debug_directories.iter().filter_map(|root| path_by_build_id(root, id)));
    let by_link = link.iter().flat_map(|link| paths_by_link(object, link, debug_directories));
    by_id.chain(by_link).filter_map(|path| open_regular(&path).ok()).find(|candidate| {
        elf::has_debug_information(candidate).unwrap_or(false)
            && match (&build_id, &link) {
                (Some(id), _) => elf::build_id(candidate).as_ref() == Some(id),
                (None, Some(link)) => checksum(candidate).is_ok_and(|checksum| checksum == link.checksum),
                (None, None) => false,
            }
    })
}

fn path_by_build_id(root: &Path, id: &BuildId) -> Option<PathBuf> {
    let digits = id.to_string();
    let (first, rest) = digits.split_at_checked(2)?;
    Some(root.join(".build-id").join(first).join(format!("{rest}.debug")))
}

fn paths_by_link(object: &File, link: &DebugLink, debug_directories: &[PathBuf]) -> Vec<PathBuf> {
    let Some(directory) = beside(object) else { return Vec::new() };
    let below_root = directory.strip_prefix("/").unwrap_or(&directory);
    let roots = debug_directories.iter().map(|root| root.join(below_root));
    [directory.clone(), directory.join(".debug")].into_iter().chain(roots).map(|place| place.join(&link.name)).collect()
}

/// The CRC-32 of a file's content.
fn checksum(file: &File) -> io::Result<u32> {
    let mut reader = File::open(descriptor_path(file))?;
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
