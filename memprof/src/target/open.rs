//! Reaches the very file that a process has mapped, in whatever mount namespace, even if it has no name any more.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

use rustix::{
    fs::{fstat, major, minor},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};

use super::{
    maps::{identity_at, without_deletion_mark},
    process::threads,
    read_mappings,
};
use crate::{
    model::{FileIdentity, MappingEvent},
    regular_file::open_regular,
};

/// Opens the mapped file, by the first of these ways that works:
///
/// 1. `/proc/PID/map_files`, of the process or, if its first thread has exited, of another one. The link *is* the
///    file that is mapped there now. Where `fstat` tells another device and inode than the event, that is still the right one
///    on btrfs and overlayfs, and a wrong one if something else was mapped there since: `/proc/PID/maps` tells.
/// 2. the path, as the process sees it;
/// 3. `/proc/PID/exe`, which is the executable also if it has no name any more, and may be read where `map_files` may not;
/// 4. the path, as we see it, for a process that is gone.
///
/// The latter three count only if device and inode are those of the mapping.
///
/// # Errors
/// Those of the last way tried.
pub(super) fn open_mapped(event: &MappingEvent, identity: FileIdentity) -> io::Result<File> {
    let addresses = format!("{:x}-{:x}", event.addresses.start, event.addresses.end);
    let link = |thread: u32| PathBuf::from(format!("/proc/{thread}/map_files/{addresses}"));
    let path = without_deletion_mark(&event.path);
    let open_link = |thread| {
        let file = open_regular(&link(thread))?;
        let is_right = identity_of(&file)? == identity || is_mapped(thread, event);
        if is_right { Ok(file) } else { Err(other_file()) }
    };
    open_link(event.pid)
        .or_else(|error| threads(event.pid).find(|thread| *thread != event.pid).map_or(Err(error), open_link))
        .or_else(|_| open_identical(&in_root_of(event.pid, &path), identity))
        .or_else(|_| open_identical(&PathBuf::from(format!("/proc/{}/exe", event.pid)), identity))
        .or_else(|_| open_identical(&path, identity))
}

/// The path of a process's file, as we reach it while the process lives.
fn in_root_of(pid: u32, path: &Path) -> PathBuf {
    let below_root = path.strip_prefix("/").unwrap_or(path);
    PathBuf::from(format!("/proc/{pid}/root")).join(below_root)
}

fn open_identical(path: &Path, identity: FileIdentity) -> io::Result<File> {
    let file = open_regular(path)?;
    let is_right = identity_of(&file)? == identity || identity_if_mapped(&file) == Some(identity);
    if is_right { Ok(file) } else { Err(other_file()) }
}

/// What `/proc/PID/maps` says of a file that is mapped, which is not what `fstat` says on btrfs and overlayfs: it is mapped, to see.
fn identity_if_mapped(file: &File) -> Option<FileIdentity> {
    let page = rustix::param::page_size();
    // SAFETY: a new mapping at a place of the kernel's choosing, of which nobody reads a byte.
    let place = unsafe { mmap(std::ptr::null_mut(), page, ProtFlags::empty(), MapFlags::PRIVATE, file, 0) }.ok()?;
    let identity = identity_at(place as u64);
    // SAFETY: it is the mapping of above, which nobody else knows.
    let _ = unsafe { munmap(place, page) };
    identity
}

/// Whether a process has the event's file mapped at the event's place now.
fn is_mapped(pid: u32, event: &MappingEvent) -> bool {
    let is_it = |now: &MappingEvent| now.addresses == event.addresses && now.identity == event.identity;
    read_mappings(pid, event.time).is_ok_and(|mappings| mappings.iter().any(is_it))
}

fn other_file() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "another file has taken its place")
}

/// The identity of an open file, as `fstat` tells it.
///
/// # Errors
/// Those of `fstat(2)`.
pub(super) fn identity_of(file: &File) -> io::Result<FileIdentity> {
    let stat = fstat(file)?;
    Ok(FileIdentity { device_major: major(stat.st_dev), device_minor: minor(stat.st_dev), inode: stat.st_ino })
}
