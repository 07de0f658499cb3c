//! Reads `/proc/PID/maps`, line by line and byte by byte: the names in it are the target's choice and may be no UTF-8,
//! or look like something else (`procfs` fails on the former and panics on some of the latter).

use std::{
    ffi::OsStr,
    fs,
    ops::Range,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use super::TargetError;
use crate::model::{FileIdentity, MappingEvent, Timestamp};

/// The executable mappings of a process, in the order of their addresses, as of `time`.
///
/// `pid` may be any living thread of the process: if the first one has exited, only the others still have mappings.
///
/// # Errors
/// [`TargetError::NoSuchProcess`], [`TargetError::PermissionDenied`], [`TargetError::Unreadable`].
pub fn read_mappings(pid: u32, time: Timestamp) -> Result<Vec<MappingEvent>, TargetError> {
    let maps = fs::read(format!("/proc/{pid}/maps")).map_err(|error| TargetError::of_io(pid, error))?;
    Ok(executable_mappings(&maps, pid, time).collect())
}

/// The file that this process has mapped at an address.
pub(super) fn identity_at(address: u64) -> Option<FileIdentity> {
    let maps = fs::read("/proc/self/maps").ok()?;
    let mut lines = maps.split(|byte| *byte == b'\n').filter_map(Line::parse);
    lines.find(|line| line.addresses.contains(&address))?.identity
}

/// The lines that can be understood, as proc_pid_maps(5) describes them; the kernel writes no others.
pub fn executable_mappings(maps: &[u8], pid: u32, time: Timestamp) -> impl Iterator<Item = MappingEvent> {
    maps.split(|byte| *byte == b'\n').filter_map(Line::parse).filter(|line| line.executable).map(move |line| {
        MappingEvent {
            pid,
            addresses: line.addresses,
            offset_in_file: line.offset_in_file,
            identity: line.identity,
            path: line.path.to_owned(),
            time,
        }
    })
}

#[derive(Debug, PartialEq, Eq)]
struct Line<'a> {
    addresses: Range<u64>,
    executable: bool,
    offset_in_file: u64,
    identity: Option<FileIdentity>,
    path: &'a Path,
}

impl<'a> Line<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let mut fields = line.splitn(6, |byte| *byte == b' ');
        let mut text = || std::str::from_utf8(fields.next()?).ok();
        let (start, end) = text()?.split_once('-')?;
        let addresses = hexadecimal(start)?..hexadecimal(end)?;
        let executable = text()?.as_bytes().get(2)? == &b'x';
        let offset_in_file = hexadecimal(text()?)?;
        let (major, minor) = text()?.split_once(':')?;
        let inode = text()?.parse().ok()?;
        let identity = FileIdentity::of_mapping(device_number(major)?, device_number(minor)?, inode);
        let path = fields.next().unwrap_or_default().trim_ascii_start();
        (!addresses.is_empty()).then_some(Self {
            addresses,
            executable,
            offset_in_file,
            identity,
            path: Path::new(OsStr::from_bytes(path)),
        })
    }
}

fn hexadecimal(digits: &str) -> Option<u64> {
    u64::from_str_radix(digits, 16).ok()
}

fn device_number(digits: &str) -> Option<u32> {
    u32::from_str_radix(digits, 16).ok()
}

/// The path without the note that the kernel puts behind that of a file whose name is gone.
pub(super) fn without_deletion_mark(path: &Path) -> PathBuf {
    let bytes = path.as_os_str().as_bytes();
    OsStr::from_bytes(bytes.strip_suffix(b" (deleted)").unwrap_or(bytes)).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use proptest::prelude::*;

    use super::*;

    fn read(maps: &[u8]) -> Vec<MappingEvent> {
        executable_mappings(maps, 7, Timestamp(9)).collect()
    }

    #[test]
    fn a_line_gives_all_that_is_in_it() {
        let line = b"7f00c0a00000-7f00c0b57000 r-xp 00026000 103:1f 1572870    /usr/lib/libc.so.6\n";
        assert_eq!(
            read(line),
            [MappingEvent {
                pid: 7,
                addresses: 0x7f00_c0a0_0000..0x7f00_c0b5_7000,
                offset_in_file: 0x26000,
                identity: Some(FileIdentity { device_major: 0x103, device_minor: 0x1f, inode: 1_572_870 }),
                path: "/usr/lib/libc.so.6".into(),
                time: Timestamp(9),
            }]
        );
    }

    #[test]
    fn only_executable_mappings_count() {
        let maps =
            b"1000-2000 r--p 00000000 08:01 1 /a\n2000-3000 --xp 00001000 08:01 1 /a\n3000-4000 rw-p 0 08:01 1 /a";
        let starts: Vec<_> = read(maps).iter().map(|mapping| mapping.addresses.start).collect();
        assert_eq!(starts, [0x2000]);
    }

    #[test]
    fn memory_that_is_no_file_has_no_identity() {
        let maps = b"1000-2000 r-xp 00000000 00:00 0 \n3000-4000 r-xp 00000000 00:00 0    [vdso]\n";
        let mappings = read(maps);
        assert_eq!(mappings.iter().map(|mapping| mapping.identity).collect::<Vec<_>>(), [None, None]);
        assert_eq!(mappings[0].path, Path::new(""));
        assert_eq!(mappings[1].path, Path::new("[vdso]"));
    }

    #[test]
    fn names_may_hold_spaces_and_bytes_that_are_no_text() {
        let maps = b"1000-2000 r-xp 00000000 08:01 1    /a b  c/\xff\xfe (deleted)\n";
        assert_eq!(read(maps)[0].path.as_os_str().as_bytes(), b"/a b  c/\xff\xfe (deleted)");
        assert_eq!(without_deletion_mark(&read(maps)[0].path).as_os_str().as_bytes(), b"/a b  c/\xff\xfe");
    }

    #[test]
    fn malformed_lines_are_passed_over() {
        let maps: [&[u8]; 8] = [
            b"",
            b"nonsense",
            b"1000-2000",
            b"1000 r-xp 0 08:01 1 /a",
            b"2000-1000 r-xp 0 08:01 1 /a",
            b"1000-2000 r-xp 0 0801 1 /a",
            b"1000-2000 r- 0 08:01 1 /a",
            b"11112222333344445-2 r-xp 0 08:01 1 /a",
        ];
        assert!(read(&maps.join(b"\n".as_slice())).is_empty());
    }

    #[test]
    fn our_own_maps_are_read_whole() {
        let mappings = read_mappings(std::process::id(), Timestamp(0)).unwrap();
        assert!(mappings.iter().any(|mapping| mapping.path == Path::new("[vdso]")));
        let own = super::read_mappings as *const () as u64;
        assert!(mappings.iter().any(|mapping| mapping.addresses.contains(&own)));
    }

    proptest! {
        #[test]
        fn no_input_is_too_strange(maps in prop::collection::vec(any::<u8>(), 0..200)) {
            read(&maps);
        }
    }
}
