//! What crosses between memprof's BPF programs and its userspace side: map keys and values, ring buffer records, and
//! the attach cookie. Everything is `repr(C)` without padding, in the machine's own byte order, and its size is
//! asserted beside it, so that both sides agree or do not compile. Unwind tables have a module of their own, [`unwind`].
//!
//! Words: an *image* is one program in one address space, from its `execve` (or from the attach) until the next
//! `execve` or its end. Events belong to images, not to pids: a pid is handed out again, and an `execve` forgets the
//! heap. A *target* is what the probes of one process are attached as; its current image is `TARGETS[target]`.
#![no_std]

pub mod buckets;
mod counts;
pub mod kernel_structs;
mod probes;
mod records;
pub mod sampling;
pub mod tables;
pub mod unwind;

pub use counts::*;
pub use probes::*;
pub use records::*;

/// Most frames kept of one stack.
pub const MAX_FRAMES: usize = 127;

/// Images whose number has this bit were numbered by the kernel side, at an `execve`; the others by userspace, at an
/// attach. So neither has to ask the other for a number.
pub const IMAGE_FROM_EXEC: u32 = 1 << 31;

/// The stack of an allocation whose stack could not be kept.
pub const UNKNOWN_STACK: u64 = 0;

/// Capacity of the `TARGETS` array: processes that can be probed at once.
pub const MAX_TARGETS: u32 = 4096;

/// Capacity of the `SITES` array: distinct probed functions.
pub const MAX_SITES: u32 = 4096;

/// `TRACKED`: a process whose `execve` and exit are of interest. Key: its pid (thread group id).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tracked {
    /// Index into `TARGETS`.
    pub target: u32,
    /// 1 once the main thread is gone, though others may live on.
    pub leader_exited: u32,
    /// 1 if the process runs in the memory of the one that forked it (`vfork`), whose target it shares until it executes a program.
    pub is_guest: u32,
}

/// Value of `NURSERY`, by [`buckets::block_key`]: what is known of a live block.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NurseryEntry {
    /// Bytes requested.
    pub size: u64,
    /// The allocating stack's name, or [`UNKNOWN_STACK`].
    pub stack: u64,
    /// When the allocator returned: nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// The image that allocated it.
    pub image: u32,
    /// Zero.
    pub reserved: u32,
}

/// This bit tells the name of a stack in a [`StackCopyRecord`], which has it, from one that is a hash of its frames.
pub const IS_COPY: u64 = 1;

/// `IN_FLIGHT`: the allocator calls that one thread is in. Key: `bpf_get_current_pid_tgid()`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    /// How many of `calls` are in use.
    pub depth: u64,
    /// What it has allocated last.
    pub newest: NewestBlock,
    /// Outermost first.
    pub calls: [Call; MAX_CALLS],
}

/// The block that a thread has allocated last, freed since or not.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewestBlock {
    /// The pointer; zero if there was none yet.
    pub address: u64,
    /// See [`NurseryEntry::time`].
    pub time: u64,
    /// See [`NurseryEntry::stack`].
    pub stack: u64,
}

/// Allocator calls of one thread that can be open at once: one that runs, and those of signal handlers on top of it.
pub const MAX_CALLS: usize = 4;

/// An allocator call that has been entered and has not returned.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Call {
    /// At the entry, where it points to the return address. The return finds its call by it.
    pub stack_pointer: u64,
    /// The probe's [`Cookie`].
    pub cookie: u64,
    /// Address of the probed instruction.
    pub instruction_pointer: u64,
    /// Image that was entered.
    pub image: u32,
    /// 1 if `old` was taken out of the nursery at the entry.
    pub old_is_taken: u32,
    /// 1 if it is counted as missed, since it looks as if it will not return.
    pub is_missed: u32,
    /// How many calls were taken for nested in it.
    pub nested: u32,
    /// Bytes requested.
    pub size: u64,
    /// `realloc`'s old pointer, or where `posix_memalign` is to write the new one.
    pub argument: u64,
    /// When `realloc` was entered: a free at this time cannot remove what another thread is given afterwards.
    pub time: u64,
    /// Where the function has no return probe, and keeps its return address: that. Zero otherwise.
    pub return_address: u64,
    /// What the nursery held about `realloc`'s old pointer.
    pub old: NurseryEntry,
}

/// The programs' constant `FOLLOWS`: which processes are followed that are forked.
pub mod follows {
    /// None.
    pub const NOBODY: u32 = 0;
    /// Those of the processes that are observed.
    pub const CHILDREN: u32 = 1;
    /// All, but memprof's own.
    pub const EVERYONE: u32 = 2;
}

/// Capacity of `SPARES`: processes that can be forked before userspace hears of the first.
pub const MAX_SPARES: u32 = 512;

const _: () = {
    assert!(size_of::<Tracked>() == 12);
    assert!(size_of::<NurseryEntry>() == 32);
    assert!(size_of::<Call>() == 104);
    assert!(size_of::<InFlight>() == 8 + size_of::<NewestBlock>() + MAX_CALLS * 104);
};

#[cfg(feature = "userspace")]
mod pod {
    macro_rules! plain_old_data {
        ($($name:ident),*) => { $(
            // SAFETY: `repr(C)`, integers only, and without padding, as the asserted sizes show.
            unsafe impl aya::Pod for super::$name {}
        )* };
    }
    // SAFETY: an integer, transparently.
    unsafe impl aya::Pod for super::unwind::Row {}
    // SAFETY: `repr(C)`, integers only, without padding.
    unsafe impl aya::Pod for super::buckets::Directory {}
    // SAFETY: `repr(C)`, integers only, without padding.
    unsafe impl aya::Pod for super::kernel_structs::KernelOffsets {}
    // SAFETY: `repr(C)`, integers only, without padding.
    unsafe impl aya::Pod for super::kernel_structs::AreaOffsets {}
    plain_old_data!(Binding, Calls, Site, Tracked, NurseryEntry, StackTotals, StackTurn, ImageTotals);
}
