//! Calls of allocator functions, one by one, as they are traced.

use std::{path::PathBuf, rc::Rc, time::Duration};

use super::{Frame, ImageId, StackId, Timestamp};

/// A thread, as the kernel numbers them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ThreadId {
    /// Its process.
    pub pid: u32,
    /// Itself.
    pub tid: u32,
}

/// What a call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// A block was allocated.
    Allocated {
        /// Its pointer.
        address: u64,
        /// Bytes requested.
        size: u64,
    },
    /// A block was freed.
    Freed {
        /// Its pointer.
        address: u64,
    },
    /// A block was replaced by another, which may be at the same place.
    Resized {
        /// The pointer that is void.
        old: u64,
        /// The new one.
        new: u64,
        /// Bytes requested.
        size: u64,
    },
    /// A block could not be resized, and stays as it is.
    NotResized {
        /// Its pointer.
        address: u64,
        /// Bytes requested.
        size: u64,
    },
}

impl Deed {
    /// The block that is there since.
    pub fn new_block(&self) -> Option<u64> {
        match *self {
            Self::Allocated { address, .. } => Some(address),
            Self::Resized { new, .. } => Some(new),
            Self::Freed { .. } | Self::NotResized { .. } => None,
        }
    }

    /// The block that is gone.
    pub fn freed_block(&self) -> Option<u64> {
        match *self {
            Self::Freed { address } => Some(address),
            Self::Resized { old, .. } => Some(old),
            Self::Allocated { .. } | Self::NotResized { .. } => None,
        }
    }

    /// Bytes requested.
    pub fn size(&self) -> Option<u64> {
        match *self {
            Self::Allocated { size, .. } | Self::Resized { size, .. } | Self::NotResized { size, .. } => Some(size),
            Self::Freed { .. } => None,
        }
    }
}

/// One call, as the kernel side tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TracedCall {
    /// Whose blocks.
    pub image: ImageId,
    /// Of the free, or of the return.
    pub time: Timestamp,
    /// Who called.
    pub thread: ThreadId,
    /// The return address.
    pub caller: u64,
    /// What it did.
    pub deed: Deed,
    /// The block that a function which resizes was given, and when: from then on it could be another's.
    pub resized: Option<(u64, Timestamp)>,
    /// Where a block was allocated.
    pub stack: StackId,
    /// Which function, of those that free: a number.
    pub function: u32,
    /// Whether it frees a block that nobody has seen allocated, or that is free already.
    pub is_of_unknown: bool,
}

/// What the kernel side tells of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// A call has done something.
    Call(TracedCall),
    /// A thread is about to resize a block.
    Resizing {
        /// Whose block.
        image: ImageId,
        /// Who.
        thread: ThreadId,
        /// The block.
        address: u64,
        /// When.
        time: Timestamp,
    },
}

impl Told {
    /// Whose blocks.
    pub fn image(&self) -> ImageId {
        match self {
            Self::Call(TracedCall { image, .. }) | Self::Resizing { image, .. } => *image,
        }
    }

    /// Who.
    pub fn thread(&self) -> ThreadId {
        match self {
            Self::Call(TracedCall { thread, .. }) | Self::Resizing { thread, .. } => *thread,
        }
    }

    /// When.
    pub fn time(&self) -> Timestamp {
        match self {
            Self::Call(TracedCall { time, .. }) | Self::Resizing { time, .. } => *time,
        }
    }
}

/// Where a call came from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// The return address in the process.
    pub address: u64,
    /// The object that it lies in, as the target sees it.
    pub module: Option<PathBuf>,
    /// The return address as the object numbers its own code (`objdump -d`).
    pub address_in_module: Option<u64>,
    /// The object's symbol before it, and how many bytes before.
    pub symbol: Option<(String, u64)>,
    /// The functions that it lies in, by name: what was inlined comes first.
    pub frames: Vec<Frame>,
}

/// One call, ready to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct TraceEvent {
    /// Wall-clock time.
    pub time: jiff::Timestamp,
    /// Since observation began.
    pub elapsed: Duration,
    /// Who called.
    pub thread: ThreadId,
    /// What it did.
    pub deed: Deed,
    /// Where from.
    pub caller: Rc<Caller>,
    /// The whole stack, from the caller outwards, if that is asked for and known.
    pub stack: Option<Vec<Frame>>,
}
