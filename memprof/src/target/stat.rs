//! `/proc/PID/task/TID/stat`, what memprof needs of it (proc_pid_stat(5)). The command's name in it may be anything, a `)` and digits too
//! (`procfs` panics on what the kernel does not write, and needs text).

use std::{fs, io};

/// `PF_KTHREAD` in the kernel's `include/linux/sched.h`.
const KERNEL_THREAD: u32 = 0x0020_0000;

/// `PF_EXITING`, there.
const EXITING: u32 = 4;

/// SIGKILL among pending signals: what every thread has of a process that ends, until it runs.
const KILLED: u64 = 1 << (libc::SIGKILL - 1);

/// A thread, as the kernel sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// One letter.
    pub state: u8,
    /// `PF_…`.
    pub flags: u32,
    /// When it began, in clock ticks since the boot.
    pub started: u64,
    /// Where its process's stack ends; zero if memprof may not know.
    pub stack_end: u64,
    /// Signals that wait for this thread alone, those below 32: a bit each.
    pub pending: u64,
}

impl Stat {
    /// Reads that of a thread.
    pub(super) fn read(pid: u32, thread: u32) -> io::Result<Self> {
        let content = fs::read(format!("/proc/{pid}/task/{thread}/stat"))?;
        Self::parse(&content).ok_or_else(|| io::ErrorKind::InvalidData.into())
    }

    /// What a file with this content says; nothing if it is another one.
    pub fn parse(content: &[u8]) -> Option<Self> {
        let name_end = content.iter().rposition(|byte| *byte == b')')?;
        let rest = str::from_utf8(&content[name_end + 1..]).ok()?;
        // From the third field on.
        let fields: Vec<_> = rest.split_ascii_whitespace().take(29).collect();
        let &[state] = fields.first()?.as_bytes() else { return None };
        Some(Self {
            state,
            flags: fields.get(6)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
            stack_end: fields.get(25)?.parse().ok()?,
            pending: fields.get(28)?.parse().ok()?,
        })
    }

    /// Whether it has not ended, and is not about to.
    pub(super) fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X') && self.flags & EXITING == 0 && self.pending & KILLED == 0
    }

    /// Whether it is the kernel's own.
    pub(super) fn is_of_kernel(&self) -> bool {
        self.flags & KERNEL_THREAD != 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use super::*;

    const REST: &str = " S 1 2 3 4 -1 2097216 7 8 9 10 11 12 13 14 20 0 1 0 12345 22 23 18446744073709551615 25 26 140000 29 30 513 32\n";

    #[test]
    fn names_may_hold_anything() {
        let expected = Stat { state: b'S', flags: 0x20_0040, started: 12345, stack_end: 140_000, pending: 513 };
        for name in [b"(a)".as_slice(), b"(a) Z 1 (b))", b"(\xff\n)", b"()"] {
            let content = [b"7 ", name, REST.as_bytes()].concat();
            assert_eq!(Stat::parse(&content), Some(expected));
        }
        assert!(expected.is_alive() && expected.is_of_kernel());
        let content = format!("7 (a){REST}");
        let last = content.find("513").unwrap();
        assert!((0..=last).all(|length| Stat::parse(&content.as_bytes()[..length]).is_none()));
    }

    #[test]
    fn what_is_about_to_end_is_not_alive() {
        let stat = Stat::parse(format!("7 (a){REST}").as_bytes()).unwrap();
        assert!(stat.is_alive());
        let ending =
            [Stat { state: b'Z', ..stat }, Stat { flags: stat.flags | 4, ..stat }, Stat { pending: 1 << 8, ..stat }];
        assert!(!ending.iter().any(Stat::is_alive));
    }

    #[test]
    fn this_process_is_alive_and_not_the_kernels() {
        let pid = std::process::id();
        let stat = Stat::read(pid, pid).unwrap();
        assert!(stat.is_alive() && !stat.is_of_kernel() && stat.started > 0);
    }
}
