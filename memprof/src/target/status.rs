//! `/proc/PID/status`, field by field. Names in it may be no text, so it is taken as bytes.

use std::{fs, io};

use crate::model::Memory;

/// What memory a process has. Nothing if it is gone, or has ended.
pub fn memory(pid: u32) -> Option<Memory> {
    Status::read(pid).ok()?.memory()
}

/// The file's content.
#[derive(Clone, Debug)]
pub struct Status(Vec<u8>);

impl Status {
    /// That of a file with this content.
    pub fn of(content: Vec<u8>) -> Self {
        Self(content)
    }

    /// Reads it.
    pub(super) fn read(pid: u32) -> io::Result<Self> {
        fs::read(format!("/proc/{pid}/status")).map(Self)
    }

    /// The process of a thread.
    pub fn thread_group(&self) -> Option<u32> {
        self.number("Tgid:")
    }

    /// The pid of the parent.
    pub fn parent(&self) -> Option<u32> {
        self.number("PPid:")
    }

    /// The effective user id, which `ps` shows too.
    pub fn user(&self) -> Option<u32> {
        self.values("Uid:")?.nth(1)?.parse().ok()
    }

    /// What memory it has; nothing of a kernel thread, or of a process that has ended.
    pub fn memory(&self) -> Option<Memory> {
        let swapped = self.bytes("VmSwap:").unwrap_or_default();
        Some(Memory {
            anonymous: self.bytes("RssAnon:")?,
            swapped,
            file: self.bytes("RssFile:")?,
            shared: self.bytes("RssShmem:")?,
        })
    }

    fn bytes(&self, field: &str) -> Option<u64> {
        let mut values = self.values(field)?;
        let kibibytes: u64 = values.next()?.parse().ok()?;
        (values.next() == Some("kB")).then(|| kibibytes.saturating_mul(1024))
    }

    fn number(&self, field: &str) -> Option<u32> {
        self.values(field)?.next()?.parse().ok()
    }

    fn values(&self, field: &str) -> Option<std::str::SplitWhitespace<'_>> {
        let line = self.0.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(field.as_bytes()))?;
        Some(std::str::from_utf8(line).ok()?.split_whitespace())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use super::*;

    const STATUS: &[u8] = b"Name:\t\xff\xfe\nUmask:\t0022\nTgid:\t123\nPid:\t124\nPPid:\t7\nUid:\t1000\t0\t33\t0\n\
        VmRSS:\t    1744 kB\nRssAnon:\t     112 kB\nRssFile:\t    1632 kB\nRssShmem:\t       0 kB\nVmSwap:\t       8 kB\n";

    #[test]
    fn fields_are_read_whatever_the_name() {
        let status = Status(STATUS.to_vec());
        assert_eq!((status.thread_group(), status.parent(), status.user()), (Some(123), Some(7), Some(0)));
        let memory = Memory { anonymous: 112 << 10, swapped: 8 << 10, file: 1632 << 10, shared: 0 };
        assert_eq!(status.memory(), Some(memory));
        assert_eq!(memory.all_anonymous(), 120 << 10);
    }

    #[test]
    fn kernel_threads_and_zombies_have_no_memory() {
        let status = Status(b"Name:\tkthreadd\nTgid:\t2\nPPid:\t0\nUid:\t0\t0\t0\t0\n".to_vec());
        assert_eq!((status.memory(), status.parent()), (None, Some(0)));
        assert_eq!(Status(b"Name:\tx\n".to_vec()).thread_group(), None);
    }

    #[test]
    fn this_process_has_memory() {
        assert!(Status::read(std::process::id()).unwrap().memory().unwrap().anonymous > 0);
    }
}
