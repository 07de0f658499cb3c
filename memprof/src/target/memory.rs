//! What of a process is in memory.

use std::fs;

use crate::model::ResidentMemory;

/// As `/proc/PID/status` tells it. Nothing if the process is gone, or has ended.
pub fn resident_memory(pid: u32) -> Option<ResidentMemory> {
    parse(&fs::read(format!("/proc/{pid}/status")).ok()?)
}

/// A process without memory (a zombie, a kernel thread) has no such lines.
fn parse(status: &[u8]) -> Option<ResidentMemory> {
    let line = |name: &[u8]| status.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name));
    let bytes = |name: &str| {
        let text = std::str::from_utf8(line(name.as_bytes())?).ok()?;
        let kibibytes: u64 = text.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kibibytes * 1024)
    };
    Some(ResidentMemory {
        anonymous: bytes("RssAnon:")?,
        file: bytes("RssFile:")?,
        shared: bytes("RssShmem:")?,
        swapped: bytes("VmSwap:").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use super::*;

    #[test]
    fn memory_is_read_whatever_the_name() {
        let status =
            b"Name:\t\xff RssAnon:\nVmSwap:\t      8 kB\nRssAnon:\t  1234 kB\nRssFile:\t 5 kB\nRssShmem:\t0 kB\n";
        let memory = ResidentMemory { anonymous: 1234 << 10, file: 5 << 10, shared: 0, swapped: 8 << 10 };
        assert_eq!(parse(status), Some(memory));
        assert_eq!(parse(b"Name:\tkthreadd\n"), None);
    }

    #[test]
    fn this_process_has_memory_and_nobody_has_none() {
        let memory = resident_memory(std::process::id()).unwrap();
        assert!(memory.anonymous > 0 && memory.file > 0, "{memory:?}");
        assert_eq!(resident_memory(u32::MAX), None);
    }
}
