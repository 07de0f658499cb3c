//! The kernel's vdso, as a file. All 64-bit processes have the same one, so ours will do.

use std::{
    fs::File,
    io::{self, Write as _},
    ops::Range,
    path::Path,
};

use rustix::fs::{MemfdFlags, memfd_create};

use super::maps::executable_mappings;
use crate::model::Timestamp;

/// A kernel's vdso has a handful of pages.
const MOST_BYTES: u64 = 1 << 20;

/// Copies our own vdso to an in-memory file. `None` where there is none.
pub(super) fn copy_vdso() -> Option<File> {
    let maps = std::fs::read("/proc/self/maps").ok()?;
    let mapping = executable_mappings(&maps, 0, Timestamp(0)).find(|mapping| mapping.path == Path::new("[vdso]"))?;
    copy(mapping.addresses).ok()
}

fn copy(vdso: Range<u64>) -> io::Result<File> {
    let length = vdso.end.saturating_sub(vdso.start).min(MOST_BYTES);
    // Not by `/proc/self/mem`, which is root's if memprof has its privileges from its file.
    // SAFETY: the vdso is mapped there, to be read, for as long as this process lives, and nobody writes to it.
    let image = unsafe { std::slice::from_raw_parts(vdso.start as *const u8, length as usize) };
    let mut copy = File::from(memfd_create("vdso", MemfdFlags::CLOEXEC)?);
    copy.write_all(image)?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use super::*;

    #[test]
    fn the_copy_is_an_elf_file_with_the_vdsos_functions() {
        let functions = crate::elf::defined_functions(&copy_vdso().unwrap(), &["__vdso_gettimeofday"]).unwrap();
        assert_eq!(functions.len(), 1);
    }
}
