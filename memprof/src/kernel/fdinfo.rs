//! What the kernel tells of a map or a program in `/proc/self/fdinfo` (Documentation/filesystems/proc.rst, section 3.8).

use std::{
    fs,
    os::fd::{AsRawFd as _, BorrowedFd},
};

/// Lines of a name and a value each.
pub(super) struct FdInfo(String);

impl FdInfo {
    /// Nothing in it if it cannot be read.
    pub(super) fn of(descriptor: BorrowedFd<'_>) -> Self {
        Self(fs::read_to_string(format!("/proc/self/fdinfo/{}", descriptor.as_raw_fd())).unwrap_or_default())
    }

    /// A number by its name.
    pub(super) fn number(&self, name: &str) -> Option<u64> {
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok();
        self.0.lines().find_map(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_one_line_of_many() {
        let info = FdInfo("pos:\t0\nmap_type:\t1\nmemlock:\t25165824\nmap_id:\t7\n".into());
        assert_eq!(info.number("memlock"), Some(25_165_824));
        assert_eq!([info.number("map"), info.number("lock")], [None; 2]);
    }
}
