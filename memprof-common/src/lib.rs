//! What crosses between memprof's BPF programs and its userspace side: map keys and values, ring buffer records, and
//! the attach cookie. Everything is `repr(C)` without padding, in the machine's own byte order, and its size is
//! asserted below, so that both sides agree or do not compile. Unwind tables have a module of their own, [`unwind`].
//!
//! Words: an *image* is one program in one address space, from its `execve` (or from the attach) until the next
//! `execve` or its end. Events belong to images, not to pids: a pid is handed out again, and an `execve` forgets the
//! heap. A *target* is what the probes of one process are attached as; its current image is `TARGETS[target]`.
#![no_std]

pub mod buckets;
pub mod kernel_structs;
pub mod sampling;
pub mod tables;
pub mod unwind;

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

/// The attach cookie of a probe: which process (target) and which function (site) fired, and since which of the times
/// that the target was probed anew (generation). Probes of an older generation, which are on their way out, mean nothing.
///
/// A probe that is attached for one window only, in which allocations are observed, says which; and each says whether the
/// kernel steps through what it probes.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie(pub u64);

impl Cookie {
    const SITE_MASK: u64 = (1 << 15) - 1;
    const STEPPED: u64 = 1 << 15;
    /// In place of a target, none of which has this number.
    const EVERYONE: u32 = u16::MAX as u32;

    /// Packs a target (index into `TARGETS`, below [`MAX_TARGETS`]), its generation, and a site (index into `SITES`, below
    /// [`MAX_SITES`]).
    pub const fn new(target: u32, generation: u16, site: u32) -> Self {
        Self((generation as u64) << 48 | (target as u64) << 32 | site as u64 & Self::SITE_MASK)
    }

    /// The same for one window, from 1; 0 is for all of them.
    #[must_use]
    pub const fn in_window(self, window: u16) -> Self {
        Self(self.0 | (window as u64) << 16)
    }

    /// Of a site that is probed in every process that maps it. Which target it is of, the programs find by the pid
    /// ([`Self::of_target`]).
    pub const fn of_everyone(site: u32) -> Self {
        Self::new(Self::EVERYONE, 0, site)
    }

    /// Whether it is of every process.
    pub const fn is_of_everyone(self) -> bool {
        self.target() == Self::EVERYONE
    }

    /// The same, of one target's probes of a generation.
    #[must_use]
    pub const fn of_target(self, target: u32, generation: u32) -> Self {
        Self(self.0 & u32::MAX as u64 | (generation as u64) << 48 | (target as u64) << 32)
    }

    /// The same at an instruction that the kernel single-steps.
    #[must_use]
    pub const fn stepped(self, is_stepped: bool) -> Self {
        Self(if is_stepped { self.0 | Self::STEPPED } else { self.0 })
    }

    /// Index into `TARGETS`.
    pub const fn target(self) -> u32 {
        (self.0 >> 32) as u16 as u32
    }

    /// The generation of the target's probes that it belongs to.
    pub const fn generation(self) -> u32 {
        (self.0 >> 48) as u32
    }

    /// Index into `SITES`.
    pub const fn site(self) -> u32 {
        (self.0 & Self::SITE_MASK) as u32
    }

    /// The window that the probe is for; 0 if for all.
    pub const fn window(self) -> u32 {
        (self.0 >> 16) as u16 as u32
    }

    /// 1 if the kernel single-steps the probed instruction, 0 if it emulates it.
    pub const fn manner(self) -> usize {
        (self.0 >> 15 & 1) as usize
    }
}

/// `BINDINGS`, by target: the probes that count. Only userspace writes it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// Their generation.
    pub generation: u32,
    /// The thread that they are bound to, and go with; zero if there are none.
    pub thread: u32,
    /// The window whose probes count, of those that are for one window.
    pub window: u32,
    /// 1 while allocations are not observed: between windows.
    pub is_closed: u32,
}

/// `CALLS`, by target, for each CPU: how often its probes fired, from the start. Each by [`Cookie::manner`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    /// Returns from functions that only allocate.
    pub allocations: [u64; 2],
    /// Returns from functions that resize.
    pub resizes: [u64; 2],
    /// Entries of functions that free.
    pub frees: [u64; 2],
}

/// `SITES`: where a probed instruction lies within the executable segment that holds it, in bytes. From the address at
/// which the probe fires this gives the range of the object's code, wherever it is mapped. And what the function's
/// arguments mean, for the programs that are not made for one behaviour.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Site {
    /// From the start of the segment to the probed instruction.
    pub bytes_before: u64,
    /// From the probed instruction to the end of the segment.
    pub bytes_after: u64,
    /// The argument that is the size, or [`NO_ARGUMENT`].
    pub size: u8,
    /// The argument by which the size is to be multiplied, or [`NO_ARGUMENT`].
    pub factor: u8,
    /// The argument that is a block, or that points to where the new one will be written, or [`NO_ARGUMENT`].
    pub block: u8,
    /// 1 if the call frees that block when it succeeds.
    pub resizes: u8,
    /// What the function returns, one of [`result`].
    pub result: u8,
    /// 1 if the function has no return probe, but probes at its `ret` instructions.
    pub has_exits: u8,
    /// Zero.
    pub reserved: u16,
}

/// What a function returns.
pub mod result {
    /// The new block; null is a failure.
    pub const POINTER: u8 = 0;
    /// The new block; null is a failure, which frees the old block too.
    pub const POINTER_OR_FREED: u8 = 1;
    /// Zero, after the new block was written to where the argument points; anything else is a failure.
    pub const WRITTEN: u8 = 2;
    /// The size that the block has, which stays where it is; less than asked for is a failure.
    pub const SIZE: u8 = 3;
}

/// In a [`Site`]: no argument means that.
pub const NO_ARGUMENT: u8 = u8::MAX;

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

/// Value of `STACKS` and `MORE_STACKS`, by the stack's 64-bit name: all allocations made there since it was entered, freed since or
/// not. While sampling, each of those taken counts as [`sampling::units`] says.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackTotals {
    /// Number of allocations.
    pub allocations: u64,
}

/// What counts of touched memory are made of, in [`StackTotals`] and as the size of a [`StackCopyRecord`]: a page faulted in.
pub const TOUCHED_PAGE: u64 = 1;

/// See [`TOUCHED_PAGE`]: what a huge page has beyond its first page. The lower bits have room for 10^12 pages.
pub const TOUCHED_HUGE_PAGE: u64 = 1 << 40;

/// `STACK_TURN`, one element: which of the two tables of stacks is in use. Userspace has the programs go on with the other one, which
/// is empty, when one fills up, and then empties that.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackTurn {
    /// 0: `STACKS`; 1: `MORE_STACKS`. Only userspace writes it.
    pub table: u64,
    /// How many stacks were entered into each since it was emptied.
    pub entered: [u64; 2],
}

/// This bit tells the name of a stack in a [`StackCopyRecord`], which has it, from one that is a hash of its frames.
pub const IS_COPY: u64 = 1;

/// Value of `TOTALS`, by image, for each CPU: what happened, and what was lost, by cause.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageTotals {
    /// Successful allocations, lost or not.
    pub allocations: u64,
    /// Bytes requested by them.
    pub allocated_bytes: u64,
    /// Frees of blocks that were still in the nursery. Userspace counts the others.
    pub frees: u64,
    /// Bytes of those blocks.
    pub freed_bytes: u64,
    /// Allocations forgotten because the nursery was full, and the ring too or, while sampling, only the nursery.
    pub nursery_full: u64,
    /// Frees forgotten because the ring was full.
    pub frees_ring_full: u64,
    /// Allocations without their stack because the ring was full.
    pub stacks_ring_full: u64,
    /// Allocations without their stack because the stack table was full.
    pub stacks_table_full: u64,
    /// Allocations without their stack because it could not be read.
    pub stacks_unreadable: u64,
    /// Calls that entered the allocator and were never seen to return, though their thread went on, and calls that were
    /// taken for nested in one of those. Modulo 2^64 on each CPU: one that returns after all is taken back where it does.
    pub missed_returns: u64,
    /// Calls not followed because `IN_FLIGHT` had no room for their thread.
    pub in_flight_full: u64,
    /// Page faults of which it could not be found what is mapped there.
    pub faults_unresolved: u64,
}

/// `IN_FLIGHT`: the allocator calls that one thread is in. Key: `bpf_get_current_pid_tgid()`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InFlight {
    /// How many of `calls` are in use.
    pub depth: u64,
    /// Outermost first.
    pub calls: [Call; MAX_CALLS],
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

/// Kinds of ring buffer records: the first word of each.
pub mod kind {
    /// [`super::FreeRecord`], in `EVENTS`.
    pub const FREE: u32 = 1;
    /// [`super::StackRecord`], in `EVENTS`.
    pub const STACK: u32 = 2;
    /// [`super::ExecRecord`], in `CONTROL`.
    pub const EXEC: u32 = 3;
    /// [`super::ProbedThreadExitRecord`], in `CONTROL`.
    pub const PROBED_THREAD_EXIT: u32 = 4;
    /// [`super::Header`] alone, in `CONTROL`: the nursery passed its fill mark.
    pub const NURSERY_FILLING: u32 = 5;
    /// [`super::StackCopyRecord`], in `EVENTS`.
    pub const STACK_COPY: u32 = 6;
    /// [`super::AllocationRecord`], in `EVENTS`.
    pub const ALLOCATION: u32 = 7;
    /// [`super::Header`] alone, in `CONTROL`: the table of stacks passed its fill mark.
    pub const STACKS_FILLING: u32 = 8;
    /// [`super::ForkRecord`], in `CONTROL`.
    pub const FORK: u32 = 9;
}

/// Starts every record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// One of [`kind`].
    pub kind: u32,
    /// The image concerned; zero where there is none.
    pub image: u32,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
}

/// A block that was not in the nursery was freed: it was drained before, or allocated before the attach.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FreeRecord {
    /// [`kind::FREE`]; the time of the free.
    pub header: Header,
    /// The pointer.
    pub address: u64,
}

/// A block was allocated for which the nursery had no place.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AllocationRecord {
    /// [`kind::ALLOCATION`]; when the allocator returned.
    pub header: Header,
    /// The pointer that the allocator returned.
    pub address: u64,
    /// Bytes requested.
    pub size: u64,
    /// See [`NurseryEntry::stack`].
    pub stack: u64,
}

/// A stack seen for the first time. On the wire only `depth` frames follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackRecord {
    /// [`kind::STACK`].
    pub header: Header,
    /// Its name, the key in `STACKS` or `MORE_STACKS`.
    pub stack: u64,
    /// Number of frames.
    pub depth: u32,
    /// How the walk ended, see [`tables::ended`].
    pub ended: u32,
    /// From the allocator's caller outwards.
    pub frames: [StackFrame; MAX_FRAMES],
}

/// A frame of a [`StackRecord`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackFrame {
    /// The return address. Of a frame that a signal interrupted, the address of the instruction, plus one: so that less one
    /// is within the right instruction, as it is for the others.
    pub address: u64,
    /// What it lies in, a [`tables::FrameWord`].
    pub place: u64,
}

impl StackRecord {
    /// Bytes before the first frame.
    pub const PREFIX: usize = core::mem::offset_of!(Self, frames);
}

/// The stack of one allocation that runs through code in no known mapping, as it was, to be unwound when the mapping is
/// known. On the wire only `bytes` bytes of it follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackCopyRecord {
    /// [`kind::STACK_COPY`].
    pub header: Header,
    /// A name that no other stack has; in no table.
    pub stack: u64,
    /// The registers of the allocator's caller, to which it has returned.
    pub ip: u64,
    /// See `ip`. The copy begins here.
    pub sp: u64,
    /// See `ip`.
    pub bp: u64,
    /// Bytes copied.
    pub bytes: u64,
    /// Bytes that the allocation requested.
    pub size: u64,
    /// The stack from `sp` on.
    pub words: [u64; STACK_COPY_BYTES / 8],
}

impl StackCopyRecord {
    /// Bytes before the first word.
    pub const PREFIX: usize = core::mem::offset_of!(Self, words);
}

/// Most bytes of a stack that are copied: three pages, of which the first begins anywhere.
pub const STACK_COPY_BYTES: usize = 3 * 4096;

/// A target replaced its program.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExecRecord {
    /// [`kind::EXEC`]; the image is the new one.
    pub header: Header,
    /// The target (index into `TARGETS`).
    pub target: u32,
    /// The image that is no more.
    pub previous_image: u32,
    /// 1 if another thread than the main one called `execve`: the probes, bound to the main thread, are gone with it.
    pub by_other_thread: u32,
    /// Zero.
    pub reserved: u32,
}

/// A process was forked that is to be followed, or one that was not followed before executed a program. It has been given a target, one of `SPARES`, and an image.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForkRecord {
    /// [`kind::FORK`]; the image is the new one.
    pub header: Header,
    /// The new process's target (index into `TARGETS`).
    pub target: u32,
    /// Its pid.
    pub pid: u32,
    /// The pid of the process that forked it; zero if it has executed a program.
    pub parent: u32,
    /// Zero.
    pub reserved: u32,
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

/// The thread exited that a target's probes are bound to; the process may live on in other threads.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProbedThreadExitRecord {
    /// [`kind::PROBED_THREAD_EXIT`].
    pub header: Header,
    /// The target (index into `TARGETS`).
    pub target: u32,
    /// The thread; its process's number if it was the main one.
    pub thread: u32,
}

const _: () = {
    assert!(MAX_TARGETS <= Cookie::EVERYONE);
    assert!(MAX_SITES as u64 <= Cookie::SITE_MASK + 1);
    assert!(size_of::<Binding>() == 16);
    assert!(size_of::<Calls>() == 48);
    assert!(size_of::<Site>() == 24);
    assert!(size_of::<Tracked>() == 12);
    assert!(size_of::<NurseryEntry>() == 32);
    assert!(size_of::<StackTotals>() == 8);
    assert!(size_of::<StackTurn>() == 24);
    assert!(size_of::<ImageTotals>() == 96);
    assert!(size_of::<Call>() == 104);
    assert!(size_of::<InFlight>() == 8 + MAX_CALLS * 104);
    assert!(size_of::<Header>() == 16);
    assert!(size_of::<FreeRecord>() == 24);
    assert!(size_of::<AllocationRecord>() == 40);
    assert!(StackRecord::PREFIX == 32);
    assert!(size_of::<StackRecord>() == 32 + 16 * MAX_FRAMES);
    assert!(StackCopyRecord::PREFIX == 64);
    assert!(size_of::<StackCopyRecord>() == 64 + STACK_COPY_BYTES);
    assert!(size_of::<ExecRecord>() == 32);
    assert!(size_of::<ForkRecord>() == 32);
    assert!(size_of::<ProbedThreadExitRecord>() == 24);
};

#[cfg(test)]
mod tests {
    use super::Cookie;

    #[test]
    fn a_cookie_holds_all_of_it() {
        let cookie = Cookie::new(4095, 65_535, 4095).in_window(65_535).stepped(true);
        assert_eq!((cookie.target(), cookie.generation(), cookie.site()), (4095, 65_535, 4095));
        assert_eq!((cookie.window(), cookie.manner()), (65_535, 1));
        let plain = Cookie::new(3, 2, 7);
        assert_eq!((plain.window(), plain.manner(), plain.in_window(9).site()), (0, 0, 7));
    }
}

#[cfg(feature = "userspace")]
mod pod {
    macro_rules! plain_old_data {
        ($($name:ident),*) => { $(
            // SAFETY: `repr(C)`, integers only, and without padding, as the sizes asserted above show.
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
