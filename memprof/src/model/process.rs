//! What can be known of a process from outside: whose it is, and what memory it has.

use serde::{Deserialize, Serialize};

/// Whose a process is. What is not known is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// The name of the user as whom it runs, as the machine knows it; its number where it has no name.
    pub user: Option<String>,
    /// The id of the innermost container that it is in: 64 hexadecimal digits, or the name that an LXC container has.
    pub container: Option<String>,
    /// The systemd unit: the innermost service or scope.
    pub unit: Option<String>,
}

/// What memory a process has, in bytes. The kernel counts whole pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Of its own and from no file, in RAM: heaps, stacks, and what it wrote to private mappings of files.
    pub anonymous: u64,
    /// Likewise, swapped out.
    pub swapped: u64,
    /// Pages of files, in RAM, others' as well as its own.
    pub file: u64,
    /// Shared memory, in RAM.
    pub shared: u64,
}

impl Memory {
    /// All that is anonymous, wherever it is: to swap something out frees none of it.
    pub fn all_anonymous(&self) -> u64 {
        self.anonymous.saturating_add(self.swapped)
    }
}

/// A process at one look at the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Its pid.
    pub pid: u32,
    /// When it began, in the kernel's ticks since boot: together with the pid it means one process for ever.
    pub began: u64,
    /// The pid of its parent.
    pub parent: u32,
    /// What memory it has.
    pub memory: Memory,
}
