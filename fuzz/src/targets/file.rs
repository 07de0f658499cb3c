//! A file with given bytes, in memory.

use std::{fs::File, os::unix::fs::FileExt as _};

use rustix::fs::{MemfdFlags, memfd_create};

pub(super) fn of(bytes: &[u8]) -> File {
    let file = File::from(memfd_create("input", MemfdFlags::CLOEXEC).expect("a file in memory"));
    file.write_all_at(bytes, 0).expect("a file that can be written");
    file
}
