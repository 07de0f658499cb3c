//! What goes through the ring buffers.

use crate::{MAX_FRAMES, NewestBlock};

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
    /// [`super::CallRecord`], in `EVENTS`, while tracing.
    pub const CALL: u32 = 10;
    /// [`super::ResizingRecord`], in `EVENTS`, while tracing.
    pub const RESIZING: u32 = 11;
    /// [`super::NewestFreeRecord`], in `EVENTS`.
    pub const NEWEST_FREE: u32 = 12;
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

/// As [`FreeRecord`], of a block since which its thread has allocated nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewestFreeRecord {
    /// [`kind::NEWEST_FREE`]; the time of the free.
    pub header: Header,
    /// The block.
    pub block: NewestBlock,
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
    /// See [`crate::NurseryEntry::stack`].
    pub stack: u64,
}

/// While tracing: one call of an allocator function, whatever it did to blocks. Of one that only frees, it is told before the block
/// is free; of the others when they return.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallRecord {
    /// [`kind::CALL`]; the time of the free, or of the return.
    pub header: Header,
    /// `bpf_get_current_pid_tgid()`
    pub thread: u64,
    /// The return address.
    pub caller: u64,
    /// The block that was to be freed or resized; zero if there is none.
    pub old: u64,
    /// The block that was allocated; zero if there is none.
    pub new: u64,
    /// Bytes requested.
    pub size: u64,
    /// See [`crate::NurseryEntry::stack`].
    pub stack: u64,
    /// When a call was entered that resizes: from then on `old` could be another's.
    pub entered: u64,
    /// Whether `old` is free now.
    pub old_is_free: u16,
    /// Whether it is a call that resizes.
    pub resizes: u16,
    /// [`crate::Cookie::site`]
    pub site: u32,
}

/// While tracing: a thread is about to resize a block. What of it is another's before the [`CallRecord`] comes is told by that.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResizingRecord {
    /// [`kind::RESIZING`]; when the function was entered.
    pub header: Header,
    /// `bpf_get_current_pid_tgid()`
    pub thread: u64,
    /// The block.
    pub address: u64,
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
    /// How the walk ended, see [`crate::tables::ended`].
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
    /// What it lies in, a [`crate::tables::FrameWord`].
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
    assert!(size_of::<Header>() == 16);
    assert!(size_of::<FreeRecord>() == 24);
    assert!(size_of::<NewestFreeRecord>() == 40);
    assert!(size_of::<AllocationRecord>() == 40);
    assert!(size_of::<CallRecord>() == 80);
    assert!(size_of::<ResizingRecord>() == 32);
    assert!(StackRecord::PREFIX == 32);
    assert!(size_of::<StackRecord>() == 32 + 16 * MAX_FRAMES);
    assert!(StackCopyRecord::PREFIX == 64);
    assert!(size_of::<StackCopyRecord>() == 64 + STACK_COPY_BYTES);
    assert!(size_of::<ExecRecord>() == 32);
    assert!(size_of::<ForkRecord>() == 32);
    assert!(size_of::<ProbedThreadExitRecord>() == 24);
};
