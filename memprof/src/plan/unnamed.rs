//! Executables that have lost the names of their functions: an allocator may be in them that nobody can find.

use std::fs::File;

use crate::{
    elf::{self, ElfError},
    model::Object,
};

/// What only an allocator's own code has in it, and what it is called.
const MARKS: [(&[u8], &str); 3] = [
    (b"<jemalloc>: ", "it seems to have jemalloc in it, but not its functions' names: it is stripped"),
    (b"mimalloc: ", "it seems to have mimalloc in it, but not its functions' names: it is stripped"),
    (b"TCMALLOC_", "it seems to have tcmalloc in it, but not its functions' names: it is stripped"),
];

const STATIC: &str = "it is statically linked and stripped: its allocator's functions have no names";

/// Why an object that was searched may have an allocator that was not found.
pub(super) fn find(object: &Object, outcome: &Result<usize, String>) -> Option<&'static str> {
    let file = object.file.as_deref().filter(|_| *outcome == Ok(0))?;
    reason(file).unwrap_or_default()
}

fn reason(file: &File) -> Result<Option<&'static str>, ElfError> {
    if !elf::is_executable(file)? || elf::has_symbol_table(file)? {
        return Ok(None);
    }
    if elf::interpreter(file)?.is_none() {
        return Ok(Some(STATIC));
    }
    let mut found = None;
    elf::pieces(file, &elf::segments(file)?, 16, |_, _, bytes| {
        found = found.or_else(|| MARKS.iter().find(|(mark, _)| contains(bytes, mark)));
    })?;
    Ok(found.map(|(_, reason)| *reason))
}

fn contains(bytes: &[u8], mark: &[u8]) -> bool {
    memchr::memmem::find(bytes, mark).is_some()
}
