//! Chooses the instruction of a function that is probed.
//!
//! A uprobe is a breakpoint. What was under it is emulated by the kernel where it can be; anything else is single-stepped
//! out of line, which is a second exception, and up to twenty times as dear. So the probe goes to the first instruction
//! that is emulated ([`decode`] knows which), if it is as good as the entry. That it is:
//!
//! 1. *The programs see what they would see at the entry.* They read the arguments, the stack pointer, the return address
//!    that it points to, and the instruction pointer. What is skipped writes neither memory nor the stack pointer nor a
//!    register of an argument that they read: those up to the last that the function's row in the table names
//!    ([`AllocatorFunction::arguments`](crate::model::AllocatorFunction::arguments)). What the function does with the others, as
//!    with all that it computes there, is its own affair: a probe changes no register, and the function goes on with what it
//!    has. The kernel's uretprobe swaps the word at the stack pointer
//!    (`arch_uretprobe_hijack_return_addr`), which is still the return address. The instruction pointer means only the
//!    object (`in_flight.rs` of the programs), and its distance to the object's ends is told for the probed instruction.
//!    Nothing unwinds there: stacks are taken at the return, from the registers of the caller.
//! 2. *Each call comes there.* What is skipped goes from one instruction to the next: no branch, no call, nothing that
//!    waits. It may read memory that is not there; such a call ends in a signal before it has done anything.
//! 3. *Each call comes there once*, and nothing else does. No jump or call of the function leads to the skipped bytes or to the
//!    site: all of its instructions are looked at, one after the other. Where that fails, the entry stays. Nor does any code of the
//!    object jump there from elsewhere, as the cold part of a function does that compilers put aside: all of its code is searched for
//!    32-bit offsets to where these instructions begin, whether what has them are instructions or not. (Jumps with 8 bits do not reach
//!    the other section where a cold part is. What jumps between the bytes of an instruction leaves out a prefix, as old libraries
//!    do with `lock`, and nothing with a `lock` is skipped.) Nor does a symbol of any name begin there, which somebody could call.
//! 4. *Jumps through a register or a table.* A table's labels begin blocks, and a block that begins within the skipped bytes would be a
//!    loop around the function's very beginning, with nothing on the stack. No compiler was seen to write that; but code
//!    that waits in a loop for a lock could be so, and a function with such a jump keeps its entry. None of the allocators' functions that
//!    are worth it has one.
//! 5. *Threads that are there when the probe comes or goes* are before the site or behind it, as with any site: a thread
//!    within the skipped bytes will be seen.
//!
//! The entry and the return probe of a function are always at one site.

use super::instructions::{Flow, Instruction, decode};
use crate::model::{Choice, Emulation, EntryReason};

/// How many bytes are skipped at most. In longer ones, hardly any function has not pushed or written anything: jemalloc's `free` is
/// that with most, 52 after an `endbr64`.
const MOST_SKIPPED_BYTES: u64 = 64;

/// How many instructions are skipped at most.
const MOST_SKIPPED: usize = 12;

/// A site in the code of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// How far it is from the entry, in bytes.
    pub skipped: u64,
    /// Why there.
    pub choice: Choice,
}

impl Chosen {
    /// The entry, for this reason.
    pub(super) fn entry(reason: EntryReason) -> Self {
        Self { skipped: 0, choice: Choice::Entry(reason) }
    }
}

/// Chooses the site of a function, all of whose code is given, and of so many of whose first arguments the values are read. Whether it
/// is entered elsewhere, from without, is not looked at here.
pub fn choose(code: &[u8], arguments: usize) -> Chosen {
    let found = find(code, arguments);
    if found.skipped == 0 {
        return found;
    }
    match check_jumps(code, found.skipped) {
        Ok(()) => found,
        Err(reason) => Chosen::entry(reason),
    }
}

/// Where instructions begin behind the entry, up to the site that many bytes from it.
pub(super) fn beginnings(code: &[u8], skipped: u64) -> Vec<u64> {
    let offsets = decode(code, 0).flatten().map(|instruction| instruction.offset);
    offsets.skip(1).take_while(|offset| *offset <= skipped).collect()
}

/// The first instruction that all kernels emulate, or else the first that newer ones do, if nothing before it matters.
fn find(code: &[u8], arguments: usize) -> Chosen {
    let (mut entry, mut before) = (None, None);
    let mut second_best = None;
    for (index, instruction) in decode(code, arguments).enumerate() {
        let Some(instruction) = instruction else { return Chosen::entry(EntryReason::NotDecoded) };
        if index > MOST_SKIPPED || instruction.offset > MOST_SKIPPED_BYTES {
            break;
        }
        let entry = entry.get_or_insert_with(|| instruction.name.clone());
        match emulation(&instruction) {
            Some(Emulation::Always) => return at(&instruction, Emulation::Always, entry),
            Some(emulation) if second_best.is_none() => second_best = Some(at(&instruction, emulation, entry)),
            _ => {}
        }
        if !instruction.is_harmless {
            before = Some(instruction.name);
            break;
        }
    }
    let entry = entry.unwrap_or_default();
    second_best.unwrap_or_else(|| Chosen::entry(EntryReason::NoneEmulated { entry, before }))
}

/// Whether an instruction is as good as emulated. A call is only at the entry: older kernels emulate it without the shadow
/// stack, and it is not for us to bring that about where the program's own first instruction would not have.
fn emulation(instruction: &Instruction) -> Option<Emulation> {
    let is_later_call = instruction.offset != 0 && matches!(instruction.flow, Flow::Call(_));
    instruction.emulation.filter(|_| !is_later_call)
}

fn at(found: &Instruction, emulation: Emulation, entry: &str) -> Chosen {
    let instruction = found.name.clone();
    let choice = match found.offset {
        0 => Choice::EmulatedEntry { instruction, emulation },
        _ => Choice::Later { instruction, emulation, entry: entry.to_owned() },
    };
    Chosen { skipped: found.offset, choice }
}

/// Whether all of the function can be decoded, and leads nowhere into its first bytes but by calls of itself.
fn check_jumps(code: &[u8], skipped: u64) -> Result<(), EntryReason> {
    for instruction in decode(code, 0) {
        let instruction = instruction.ok_or(EntryReason::NotDecoded)?;
        match instruction.flow {
            Flow::Jump(target) if target <= skipped => return Err(EntryReason::JumpBack { from: instruction.offset }),
            Flow::Call(target) if (1..=skipped).contains(&target) => {
                return Err(EntryReason::JumpBack { from: instruction.offset });
            }
            Flow::Indirect => return Err(EntryReason::IndirectJump { from: instruction.offset }),
            _ => {}
        }
    }
    Ok(())
}
