//! Stacks that are as they were. A memo says which words of a target's stack a walk went by, and what they held. While they hold the
//! same, a walk from the same registers would find the same frames, and need not be made.
//!
//! A walk goes by the return addresses, and by a saved rbp if a CFA is made of it. What else is on the stack may change.
//!
//! Each CPU has memos of its own, in sets, by the registers that walks begin with. A memo is made when a stack is found again. Of code it
//! says nothing: the seed of its hash holds the generation of the address space, as the keys of the rule cache do.

use memprof_common::{tables::ended, unwind::kind};

use crate::{
    maps::MEMOS,
    measure,
    stack::mix,
    unwind::{Cursor, Registers, Step, WINDOW_BYTES, is_common, move_window},
};

/// Sets of a CPU's memos, a power of two.
const SETS: u32 = 64;

/// Memos of a set: stacks that the same registers lead to. A power of two.
const WAYS: u32 = 4;

/// Memos of a CPU.
pub const MEMOS_A_CPU: u32 = SETS * WAYS;

/// Words that one can hold. Deeper stacks have no memo.
const MOST_WORDS: usize = 64;

/// The scratch slot that memos are for. Nearly all walks are in it, and only one at a time is on a CPU.
const SLOT: u32 = 0;

/// What a stack was known by.
#[repr(C)]
pub struct Memo {
    start: Start,
    hash: u64,
    /// How far the words go that are within a window's length of the stack pointer, in bytes.
    stretch: u64,
    /// How many words there are; zero while they are not noted.
    count: u64,
    /// 1 if rbp must be the same to begin with.
    needs_bp: u32,
    /// 1 if the words could not be noted.
    is_refused: u32,
    /// Of the first of a set: how often one of the set was replaced.
    replaced: u64,
    words: [Noted; MOST_WORDS],
}

/// What a walk begins with.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Start {
    /// The caller's.
    pub registers: Registers,
    /// Of the hash.
    pub seed: u64,
}

impl Start {
    #[inline(always)]
    fn first_of_set(self) -> u32 {
        let Registers { ip, sp, .. } = self.registers;
        ((mix(ip ^ sp.rotate_left(32) ^ self.seed) >> 24) as u32 & (SETS - 1)) * WAYS
    }

    /// But for rbp.
    #[inline(always)]
    fn is_like(self, other: Self) -> bool {
        (self.registers.ip, self.registers.sp, self.seed) == (other.registers.ip, other.registers.sp, other.seed)
    }
}

/// A word of a target's stack.
#[repr(C)]
#[derive(Clone, Copy)]
struct Noted {
    /// Its address.
    place: u64,
    /// What it held.
    word: u64,
}

/// The hash of the stack that the registers in scratch slot `slot` lead to, if it is as it was; else zero.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn recall(slot: u32) -> u64 {
    if slot != SLOT || measure::NO_MEMOS {
        return 0;
    }
    let Some(cursor) = Cursor::at(slot) else { return 0 };
    // SAFETY: map values, valid while the program runs; the slot is claimed, and with it the CPU's memos. So in all of this module.
    let start = unsafe {
        (*cursor.walk).start = Start { registers: cursor.registers(), seed: (*cursor.walk).hash };
        (*cursor.walk).start
    };
    measure::memos::looked_up();
    for way in 0..WAYS {
        let number = start.first_of_set() + way;
        let Some(memo) = MEMOS.get_ptr(number) else { return 0 };
        // SAFETY: see above.
        let Memo { start: before, hash, count, needs_bp, .. } = unsafe { &*memo };
        let hash = *hash;
        let begins_alike = before.is_like(start) && (*needs_bp == 0 || before.registers.bp == start.registers.bp);
        if *count != 0 && begins_alike && are_same(slot, number) != 0 {
            measure::memos::found();
            return hash;
        }
    }
    0
}

/// Whether the words of a memo are what they were.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn are_same(slot: u32, number: u32) -> u32 {
    let (Some(cursor), Some(memo)) = (Cursor::at(slot), MEMOS.get_ptr(number)) else { return 0 };
    // SAFETY: see `recall`.
    let (count, sp, stretch) = unsafe { ((*memo).count, (*memo).start.registers.sp, (*memo).stretch) };
    cursor.begin_window(sp, stretch);
    for index in 0..MOST_WORDS {
        if index as u64 >= count {
            break;
        }
        // SAFETY: see `recall`; within the array.
        let Noted { place, word } = unsafe { (*memo).words[index] };
        if !cursor.has(place) && move_window(slot, place) == 0 {
            return 0;
        }
        if cursor.word(place) != word {
            return 0;
        }
    }
    1
}

/// Remembers what the walk in this slot has found, which [`recall`] has not.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn remember(slot: u32) -> u32 {
    let Some(cursor) = Cursor::at(slot) else { return 0 };
    // SAFETY: see `recall`.
    let (hash, ended, start) = unsafe { ((*cursor.walk).hash, (*cursor.walk).ended, (*cursor.walk).start) };
    if slot != SLOT || measure::NO_MEMOS || ended != ended::COMPLETE {
        return 0;
    }
    let first = start.first_of_set();
    for way in 0..WAYS {
        let Some(memo) = MEMOS.get_ptr(first + way) else { return 0 };
        // SAFETY: see `recall`.
        let Memo { start: before, hash: known, is_refused, .. } = unsafe { &*memo };
        if *known == hash && before.is_like(start) {
            return if *is_refused == 0 { note_words(slot, first + way) } else { 0 };
        }
    }
    let Some(memo) = MEMOS.get_ptr_mut(first) else { return 0 };
    // SAFETY: see `recall`.
    let way = unsafe {
        (*memo).replaced += 1;
        (*memo).replaced as u32 & (WAYS - 1)
    };
    let Some(memo) = MEMOS.get_ptr_mut(first + way) else { return 0 };
    // SAFETY: see `recall`.
    unsafe { ((*memo).start, (*memo).hash, (*memo).count, (*memo).is_refused) = (start, hash, 0, 0) };
    0
}

/// Walks once more, and notes what it goes by. Nothing is noted of a stack that takes an uncommon step.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn note_words(slot: u32, number: u32) -> u32 {
    let (Some(cursor), Some(memo)) = (Cursor::at(slot), MEMOS.get_ptr_mut(number)) else { return 0 };
    // SAFETY: see `recall`.
    unsafe {
        let start = (*cursor.walk).start;
        cursor.set_registers(start.registers);
        ((*cursor.walk).hash, (*cursor.walk).bp_place) = (start.seed, 0);
        ((*memo).start, (*memo).needs_bp, (*memo).count, (*memo).stretch) = (start, 0, 0, 0);
    }
    for _ in 0..=MOST_WORDS {
        match note_step(slot, number) {
            GOES_ON => {}
            // SAFETY: see `recall`.
            IS_WHOLE if unsafe { (*memo).hash == (*cursor.walk).hash } => return 1,
            _ => break,
        }
    }
    // SAFETY: see `recall`.
    unsafe { ((*memo).count, (*memo).is_refused) = (0, 1) };
    0
}

/// Of [`note_step`]: there is a caller.
const GOES_ON: u32 = 1;

/// Of [`note_step`]: there is none.
const IS_WHOLE: u32 = 2;

/// Steps from the frame of the registers in the walk to its caller. A function of its own, which the verifier looks at once.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn note_step(slot: u32, number: u32) -> u32 {
    let (Some(cursor), Some(memo)) = (Cursor::at(slot), MEMOS.get_ptr_mut(number)) else { return 0 };
    let registers = cursor.registers();
    if registers.ip == 0 {
        return IS_WHOLE;
    }
    // SAFETY: see `recall`.
    let (target, generation, bp_place) = unsafe {
        (*cursor.walk).hash = mix((*cursor.walk).hash ^ registers.ip);
        ((*cursor.walk).target, (*cursor.walk).generation, (*cursor.walk).bp_place)
    };
    let rule = cursor.rule_at(target, generation, registers.ip.wrapping_sub(1));
    if rule.kind() == kind::STOP {
        return IS_WHOLE;
    }
    if !is_common(rule) {
        return 0;
    }
    if rule.kind() == kind::RBP {
        if bp_place == 0 {
            // SAFETY: see `recall`.
            unsafe { (*memo).needs_bp = 1 };
        } else if !note(memo, bp_place, registers.bp) {
            return 0;
        }
    }
    let Some(step) = Step::by(rule, registers) else { return 0 };
    let ip = cursor.load(step.ip_place);
    let mut caller = Registers { ip, sp: step.cfa, bp: registers.bp };
    if step.saves_bp {
        // SAFETY: see `recall`.
        unsafe { (*cursor.walk).bp_place = step.bp_place };
        caller.bp = cursor.load(step.bp_place);
    }
    if cursor.has_failed() || !note(memo, step.ip_place, ip) {
        return 0;
    }
    cursor.set_registers(caller);
    GOES_ON
}

/// Says whether there was room.
#[inline(always)]
fn note(memo: *mut Memo, place: u64, word: u64) -> bool {
    // SAFETY: see `recall`; within the array.
    unsafe {
        let count = (*memo).count;
        if count >= MOST_WORDS as u64 {
            return false;
        }
        (*memo).words[count as usize & (MOST_WORDS - 1)] = Noted { place, word };
        (*memo).count = count + 1;
        let end = place.wrapping_sub((*memo).start.registers.sp).wrapping_add(8);
        if end <= WINDOW_BYTES && end > (*memo).stretch {
            (*memo).stretch = end;
        }
    }
    true
}
