//! Mapped ELF files: what code lies where.

use std::{
    fmt,
    fs::File,
    ops::Range,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{ObjectId, Timestamp};

/// What makes a file the same file, in whatever mount namespace it is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileIdentity {
    /// Major number of the device, as `/proc/PID/maps` and perf's mmap events print it.
    pub device_major: u32,
    /// Minor number of the device.
    pub device_minor: u32,
    /// Inode number.
    pub inode: u64,
}

impl FileIdentity {
    /// The identity in a line of `/proc/PID/maps` or in a perf mmap event; `None` where inode 0 says that no file is
    /// mapped.
    pub fn of_mapping(device_major: u32, device_minor: u32, inode: u64) -> Option<Self> {
        (inode != 0).then_some(Self { device_major, device_minor, inode })
    }
}

/// The linker's fingerprint of an ELF file (`.note.gnu.build-id`), printed in hex.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BuildId(pub Box<[u8]>);

impl fmt::Display for BuildId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

/// What kind of mapping code runs from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// A file.
    File,
    /// The kernel's vdso.
    Vdso,
    /// Anything else that is executable: JIT code, `[uprobes]`, `[vsyscall]`.
    Other,
}

/// A distinct mapped object. It is opened while its process lives, so that it can be read when the process is gone,
/// its file deleted, or its mount namespace out of reach.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its number.
    pub id: ObjectId,
    /// Its path as the target sees it, or a name in brackets.
    pub path: PathBuf,
    /// What it is.
    pub kind: ObjectKind,
    /// Which file it is, for files.
    pub identity: Option<FileIdentity>,
    /// Its build id, if it has one and could be read.
    pub build_id: Option<BuildId>,
    /// Open for reading, if it could be opened. For the vdso, an in-memory copy.
    pub file: Option<Arc<File>>,
}

impl Object {
    /// A path through which this process reaches the very file that was mapped, as long as `self` lives.
    pub fn reachable_path(&self) -> Option<PathBuf> {
        self.file.as_ref().map(|file| Path::new("/proc/self/fd").join(file.as_raw_fd().to_string()))
    }

    /// Whether functions in it may have been compiled at run time: it is memory, not a program's file. Some runtimes map
    /// such memory twice, to write it and to execute it, and for that give it a file without a name.
    pub fn may_be_jit_code(&self) -> bool {
        const MEMORY: [&str; 4] = ["/memfd:", "/dev/zero", "/anon_hugepage", "/SYSV"];
        let path = self.path.as_os_str().as_encoded_bytes();
        match self.kind {
            ObjectKind::File => MEMORY.iter().any(|prefix| path.starts_with(prefix.as_bytes())),
            ObjectKind::Vdso => false,
            ObjectKind::Other => path != b"[uprobes]" && path != b"[vsyscall]",
        }
    }
}

/// An executable mapping of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Addresses in the process.
    pub addresses: Range<u64>,
    /// Offset in the file of the first byte.
    pub offset_in_file: u64,
    /// What is mapped.
    pub object: ObjectId,
    /// Since when.
    pub since: Timestamp,
}

impl Mapping {
    /// Whether what is mapped at `address` is just what follows.
    pub fn continues_at(&self, address: u64, object: ObjectId, offset_in_file: u64) -> bool {
        let length = self.addresses.end - self.addresses.start;
        self.addresses.end == address
            && self.object == object
            && self.offset_in_file.wrapping_add(length) == offset_in_file
    }
}

/// An executable mapping that the kernel told of when it was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingEvent {
    /// The process.
    pub pid: u32,
    /// Addresses in the process.
    pub addresses: Range<u64>,
    /// Offset in the file of the first byte.
    pub offset_in_file: u64,
    /// The file; nothing for pseudo-files and anonymous memory.
    pub identity: Option<FileIdentity>,
    /// The path as the target sees it, or a name such as `[vdso]` or `//anon`.
    pub path: PathBuf,
    /// When.
    pub time: Timestamp,
}

/// What the kernel tells of address spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MappingNotice {
    /// Code was mapped.
    Mapped(MappingEvent),
    /// A process began a new, empty address space: `execve`.
    Cleared {
        /// The process.
        pid: u32,
        /// When.
        time: Timestamp,
    },
}

impl MappingNotice {
    /// The process.
    pub fn pid(&self) -> u32 {
        match self {
            Self::Mapped(event) => event.pid,
            Self::Cleared { pid, .. } => *pid,
        }
    }

    /// When.
    pub fn time(&self) -> Timestamp {
        match self {
            Self::Mapped(event) => event.time,
            Self::Cleared { time, .. } => *time,
        }
    }
}
