//! Opening files that a stranger names: a profiled process chooses what lies at a path, so nothing but regular files is
//! ever opened for reading. A FIFO would block the reader, a device might act on being opened.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process::Stdio,
};

use rustix::fs::{FileType, MemfdFlags, Mode, OFlags, ResolveFlags, fstat, memfd_create, open, openat2};

/// Opens the regular file at `path`, following symbolic links.
///
/// # Errors
/// Those of `open(2)`, and [`io::ErrorKind::InvalidInput`] for anything that is not a regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    // `O_PATH` touches nothing but the name, and what was checked is then opened by descriptor: no race with a rename.
    open_place(&open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

/// Opens the regular file of that name in a directory. No link is followed, and no path leads out of the directory.
///
/// # Errors
/// As [`open_regular`]; a symbolic link is no regular file.
pub fn open_regular_in(directory: &impl AsFd, name: &str) -> io::Result<File> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    open_place(&openat2(directory, name, flags, Mode::empty(), within)?)
}

/// Opens the regular file at that path below a directory. Links are followed, as far as they do not lead out of the directory.
///
/// # Errors
/// As [`open_regular`].
pub fn open_regular_below(directory: &impl AsFd, path: &Path) -> io::Result<File> {
    let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    open_place(&openat2(directory, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), within)?)
}

fn open_place(place: &OwnedFd) -> io::Result<File> {
    if FileType::from_raw_mode(fstat(place)?.st_mode) != FileType::RegularFile {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    Ok(open(descriptor_path(place), flags, Mode::empty())?.into())
}

/// For a child that is told nothing, or whose words nobody reads: an empty file in memory, since a bare root has no `/dev/null`.
///
/// # Errors
/// Those of `memfd_create(2)`.
pub fn nothing() -> io::Result<Stdio> {
    Ok(memfd_create("memprof-nothing", MemfdFlags::CLOEXEC)?.into())
}

/// The path by which this process reaches an open file, whatever has become of its name.
pub fn descriptor_path(file: &impl std::os::fd::AsRawFd) -> std::path::PathBuf {
    Path::new("/proc/self/fd").join(file.as_raw_fd().to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use std::io::Read as _;

    use super::*;

    #[test]
    fn a_regular_file_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, "content").unwrap();
        let mut content = String::new();
        open_regular(&path).unwrap().read_to_string(&mut content).unwrap();
        assert_eq!(content, "content");
    }

    #[test]
    fn fifos_devices_and_directories_are_refused_without_blocking() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, FileType::Fifo, Mode::RUSR, 0).unwrap();
        for path in [fifo.as_path(), Path::new("/dev/zero"), directory.path()] {
            assert_eq!(open_regular(path).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{}", path.display());
        }
    }

    #[test]
    fn in_a_directory_nothing_but_its_own_files_is_opened() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("file"), "content").unwrap();
        std::os::unix::fs::symlink("file", directory.path().join("link")).unwrap();
        let opened = File::open(directory.path()).unwrap();
        assert!(open_regular_in(&opened, "file").is_ok());
        for name in ["link", "../file", "/etc/passwd", ".", "absent"] {
            assert!(open_regular_in(&opened, name).is_err(), "{name}");
        }
        std::os::unix::fs::symlink("/etc/passwd", directory.path().join("out")).unwrap();
        assert!(open_regular_below(&opened, Path::new("link")).is_ok());
        for name in ["out", "../file", "/etc/passwd", ".", "absent"] {
            assert!(open_regular_below(&opened, Path::new(name)).is_err(), "{name}");
        }
    }
}
