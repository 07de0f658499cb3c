//! Which functions are probed, and where: an attach plan is printable data, made before anything is attached.

use std::ops::Range;

use super::ObjectId;

/// Where a function's requested size comes from; arguments count from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// It allocates nothing.
    None,
    /// One argument, in bytes.
    Argument(u8),
    /// The product of two adjacent arguments, the first of which is named.
    Product(u8),
}

/// Where a function's new pointer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pointer {
    /// It allocates nothing.
    None,
    /// The return value; null is a failure.
    Returned,
    /// Written to where this argument points; a return value other than zero is a failure.
    WrittenTo(u8),
    /// That of the block that is resized, which stays where it is; the return value is the size that it has then, and less
    /// than was asked for is a failure.
    InPlace,
}

/// What a function gives back to the allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// Nothing.
    None,
    /// The block that this argument points to, always.
    Always(u8),
    /// The block that this argument points to, unless the function fails.
    OnSuccess(u8),
}

/// An allocator function, described as data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocatorFunction {
    /// Its symbol.
    pub name: &'static str,
    /// Where its size comes from.
    pub size: Size,
    /// Where its pointer comes from.
    pub pointer: Pointer,
    /// What it frees.
    pub release: Release,
    /// Whether an exception may leave it. Then its return address must stay where it is, or no `catch` is found: no return
    /// probe, which changes it.
    pub throws: bool,
    /// Whether what it calls, in whatever object, is its own doing. Otherwise that goes for calls from its own object only.
    pub owns_calls: bool,
    /// Whether programs hardly call it: then its probes need not be the cheapest, but may be those that are in and out soonest.
    pub is_rare: bool,
}

impl AllocatorFunction {
    /// Of so many first arguments must the programs see the values.
    pub fn arguments(&self) -> usize {
        let of_size = match self.size {
            Size::None => 0,
            Size::Argument(index) => usize::from(index) + 1,
            Size::Product(first) => usize::from(first) + 2,
        };
        let of_pointer = match self.pointer {
            Pointer::WrittenTo(index) => usize::from(index) + 1,
            Pointer::None | Pointer::Returned | Pointer::InPlace => 0,
        };
        let of_release = match self.release {
            Release::None => 0,
            Release::Always(index) | Release::OnSuccess(index) => usize::from(index) + 1,
        };
        of_size.max(of_pointer).max(of_release)
    }
}

/// Which kernels emulate an instruction that is under a probe, and need not single-step it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Emulation {
    /// All that memprof runs on.
    Always,
    /// The newest only.
    NewerKernels,
}

/// Which instruction of a function is probed, and why. Instructions have their mnemonics, in small letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The first, which is emulated.
    EmulatedEntry {
        /// The first.
        instruction: String,
        /// By which kernels.
        emulation: Emulation,
    },
    /// A later one that is emulated, where the first is not, or by fewer kernels.
    Later {
        /// That one.
        instruction: String,
        /// By which kernels.
        emulation: Emulation,
        /// The first.
        entry: String,
    },
    /// The first, although it is not emulated.
    Entry(EntryReason),
}

/// Why a function is probed at its entry, although something else could be cheaper. Places are offsets from the entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryReason {
    /// Instructions of this processor are not known here.
    OtherProcessor,
    /// The symbol does not say how large the function is.
    SizeUnknown,
    /// It is larger than any allocator function is, or than the code of the object.
    TooLarge,
    /// Not all of it is instructions.
    NotDecoded,
    /// Nothing that is emulated comes before something that cannot be skipped.
    NoneEmulated {
        /// The first instruction.
        entry: String,
        /// What cannot be skipped, if anything is near.
        before: Option<String>,
    },
    /// It jumps back to its first bytes.
    JumpBack {
        /// The place of the jump.
        from: u64,
    },
    /// It jumps to somewhere that is known at run time only.
    IndirectJump {
        /// The place of the jump.
        from: u64,
    },
    /// A symbol is within the first bytes: the function can be entered there.
    SymbolInside {
        /// Where.
        at: u64,
    },
    /// Code elsewhere in the object jumps into the first bytes, or looks as if it did.
    JumpFromElsewhere {
        /// To where.
        to: u64,
    },
}

/// A place to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeSite {
    /// The object.
    pub object: ObjectId,
    /// Offset in its file of the probed instruction.
    pub offset_in_file: u64,
    /// Offset in its file of the function's first instruction. Sites are told apart by it.
    pub entry_in_file: u64,
    /// Why it is this instruction of the function.
    pub choice: Choice,
    /// Offsets in the file of the executable segment around it.
    pub segment: Range<u64>,
    /// What the function does.
    pub function: &'static AllocatorFunction,
    /// Offsets in the file of the instructions by which it returns, where it must have no return probe.
    pub exits: Option<Vec<u64>>,
    /// Other symbols of the same entry: they need no probe of their own.
    pub aliases: Vec<&'static str>,
}

/// An object that was searched for allocator functions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchedObject {
    /// The object.
    pub object: ObjectId,
    /// Its path as the target sees it.
    pub path: std::path::PathBuf,
    /// How many sites it has, or why it was left out.
    pub outcome: Result<usize, String>,
    /// Functions of it that are not probed, each with the reason.
    pub left_out: Vec<String>,
    /// Why it may have allocator functions that cannot be found: it has lost its symbols.
    pub unnamed: Option<&'static str>,
}

/// All places to probe in one image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttachPlan {
    /// In the order of the objects, then of the table of functions.
    pub sites: Vec<ProbeSite>,
    /// Every object that was looked at.
    pub searched: Vec<SearchedObject>,
}
