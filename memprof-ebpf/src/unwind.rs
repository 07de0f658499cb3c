//! Whole stacks without frame pointers: the caller of each frame, by the rules that `.eh_frame` holds for its pc.
//!
//! For each frame, find the rule for its pc: the canonical frame address (CFA) is a register plus a constant, the return
//! address lies just below it, and `rbp` was saved at a distance from it or not at all (System V ABI for AMD64, section 3.7;
//! DWARF 5, section 6.4). Then the CFA is the caller's stack pointer, and the return address its pc.
//!
//! What makes it cheap:
//! - *A window.* One read of 4 KiB of the target's stack serves all frames of most; a read of eight bytes costs as much.
//! - *A cache* from pc to rule, exact and without a lock.
//! - *Eight frames a loop.* The state stays in registers over eight frames; the verifier sees a loop of sixteen.
//!
//! [`unwind`] is a global function, which the verifier checks once, by itself: so no tail calls.

use aya_ebpf::helpers::generated::bpf_probe_read_user;
use memprof_common::{
    MAX_FRAMES,
    tables::{CachedRule, MappedCode, Run, code_flags, ended, unwind_mode},
    unwind::{RBP_AT_RBP, RBP_LOST, Rule, kind, sigcontext},
};

use crate::{
    arch,
    maps::{CACHE, MAPPINGS, ROWS, SPACES, Walk},
    measure,
    return_probes::original_return_address,
    stack::{NO_WINDOW, mix, walk_in},
};

/// Frames of one turn of the loop.
const FRAMES_A_TURN: usize = 8;

/// Turns: enough for [`MAX_FRAMES`] and one more, which shows that there were more.
const TURNS: usize = (MAX_FRAMES + 1).div_ceil(FRAMES_A_TURN);

/// No frame is larger.
const LARGEST_FRAME: u64 = 8 << 20;

/// Steps of a binary search over a target's mappings, at most 4,096.
const MAPPING_STEPS: usize = 13;

/// Steps of a binary search over an object's rows, at most 16 million.
const ROW_STEPS: usize = 24;

/// Bytes of the window, a power of two.
pub const WINDOW_BYTES: u64 = 4096;

/// In a word of [`find_rule`] and of the cache: there is a rule.
const FOUND: u64 = 1 << 32;

/// How to unwind, one of [`unwind_mode`]. The loader sets it.
#[unsafe(no_mangle)]
static UNWIND_MODE: u32 = unwind_mode::AUTO;

/// What a step needs of the frame that it leaves. `ip` is a return address; where a signal interrupted a frame, it is one
/// more than the interrupted pc, so that one less is within the right instruction in any case.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Registers {
    /// See above.
    pub ip: u64,
    /// The stack pointer.
    pub sp: u64,
    /// The frame pointer, or whatever is in its place.
    pub bp: u64,
}

/// A walk. The functions here call each other by slot, and each looks up the same memory, so there is no reference to it: the
/// compiler would take what it has read for unchanged over a call.
#[derive(Clone, Copy)]
pub struct Cursor {
    slot: u32,
    /// The memory.
    pub walk: *mut Walk,
}

impl Cursor {
    /// That in this scratch slot.
    #[inline(always)]
    pub fn at(slot: u32) -> Option<Self> {
        Some(Self { slot, walk: walk_in(slot)? })
    }

    /// Those in the walk: what it begins with, and what an uncommon step leaves and leads to.
    #[inline(always)]
    pub fn registers(self) -> Registers {
        // SAFETY: a map value, valid while the program runs; so in all of this block.
        unsafe { Registers { ip: (*self.walk).ip, sp: (*self.walk).sp, bp: (*self.walk).bp } }
    }

    /// See [`Self::registers`].
    #[inline(always)]
    pub fn set_registers(self, registers: Registers) {
        // SAFETY: see `registers`.
        unsafe {
            (*self.walk).ip = registers.ip;
            (*self.walk).sp = registers.sp;
            (*self.walk).bp = registers.bp;
        }
    }

    #[inline(always)]
    fn push(self, depth: u64, pc: u64) {
        // SAFETY: see `registers`; the index is masked.
        unsafe { (*self.walk).pcs[depth as usize & MAX_FRAMES] = pc };
    }

    /// `pc`. But if the walk that was here before had the same one at this depth, it is taken from there: then the processor, which
    /// expects that, looks for the next rule before this pc has come from the window.
    #[inline(always)]
    fn as_last_time(self, depth: u64, pc: u64) -> u64 {
        // SAFETY: see `registers`; the index is masked.
        let last = unsafe { &raw const (*self.walk).pcs[depth as usize & MAX_FRAMES] };
        // SAFETY: within the walk.
        unsafe { if last.read_volatile() == pc { last.read_volatile() } else { pc } }
    }

    #[inline(always)]
    fn flag(self, flag: u32) {
        // SAFETY: see `registers`.
        unsafe { (*self.walk).ended |= flag };
    }

    /// Ends the walk for this reason.
    #[inline(always)]
    fn end(self, reason: u32) -> bool {
        self.flag(reason);
        false
    }

    /// Whether it cannot go on.
    #[inline(always)]
    pub fn has_failed(self) -> bool {
        // SAFETY: see `registers`.
        unsafe { (*self.walk).ended & ended::REASON != ended::COMPLETE }
    }

    /// A word of the target's stack. If it cannot be read: zero, and that is the end.
    #[inline(always)]
    pub fn load(self, address: u64) -> u64 {
        if !self.has(address) && move_window(self.slot, address) == 0 {
            self.flag(ended::UNREADABLE);
            return 0;
        }
        self.word(address)
    }

    /// Whether the window holds the word.
    #[inline(always)]
    pub fn has(self, address: u64) -> bool {
        // SAFETY: see `registers`.
        self.offset(address) <= unsafe { (*self.walk).window_last }
    }

    /// A word that the window holds.
    #[inline(always)]
    pub fn word(self, address: u64) -> u64 {
        let index = (self.offset(address) / 8) as usize & (WINDOW_BYTES / 8 - 1) as usize;
        // SAFETY: see `registers`. Volatile, lest the compiler look through the mask that the verifier needs.
        unsafe { core::ptr::read_volatile(&raw const (*self.walk).window[index]) }
    }

    /// Reads a window that is no longer than need be, if there is none yet.
    #[inline(always)]
    pub fn begin_window(self, start: u64, bytes: u64) {
        // SAFETY: see `registers`.
        if unsafe { (*self.walk).window_start } == NO_WINDOW {
            read_window(self, start & !7, bytes);
        }
    }

    /// The rule for a pc, from the cache if it is there.
    #[inline(always)]
    pub fn rule_at(self, target: u32, generation: u64, pc: u64) -> Rule {
        if mode() == unwind_mode::FRAME_POINTERS {
            return Rule::NONE;
        }
        measure::cache::looked_up();
        let key = CachedRule::key(pc, generation);
        let Some(entry) = CACHE.get_ptr_mut(CachedRule::index(key)) else { return Rule::NONE };
        // SAFETY: a map value, valid while the program runs. What is read while another CPU writes does not check.
        let (cached_key, value) = unsafe {
            (core::ptr::read_volatile(&raw const (*entry).key), core::ptr::read_volatile(&raw const (*entry).value))
        };
        if cached_key == key && value >> 32 == CachedRule::check(key) {
            return Rule(value as u32);
        }
        measure::cache::missed();
        let found = find_rule(target, pc);
        if found as u32 == Rule::NONE.0 && arch::may_be_trampoline(pc.wrapping_add(1)) {
            return Rule(Rule::TRAMPOLINE.0 | (found >> 32) as u32);
        }
        if found & FOUND == 0 {
            self.flag(ended::IN_UNKNOWN_CODE);
            return Rule::NONE;
        }
        let fresh = CachedRule::new(key, found as u32);
        // SAFETY: see above.
        unsafe {
            core::ptr::write_volatile(&raw mut (*entry).key, fresh.key);
            core::ptr::write_volatile(&raw mut (*entry).value, fresh.value);
        }
        Rule(found as u32)
    }

    #[inline(always)]
    fn offset(self, address: u64) -> u64 {
        // SAFETY: see `registers`.
        address.wrapping_sub(unsafe { (*self.walk).window_start })
    }
}

/// Walks the stack of the registers in scratch slot `slot`: leaves pcs, their hash, and how it ended there. Returns the
/// number of frames.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn unwind(slot: u32) -> u32 {
    let Some(cursor) = Cursor::at(slot) else { return 0 };
    let mut registers = cursor.registers();
    // SAFETY: a map value, valid while the program runs.
    let (mut hash, target, generation) =
        unsafe { ((*cursor.walk).hash, (*cursor.walk).target, (*cursor.walk).generation) };
    let mut depth: u64 = 0;
    'walk: for _ in 0..TURNS {
        for _ in 0..FRAMES_A_TURN {
            if depth >= MAX_FRAMES as u64 {
                cursor.flag(ended::TOO_DEEP);
                break 'walk;
            }
            cursor.push(depth, registers.ip);
            depth += 1;
            hash = mix(hash ^ registers.ip);
            let rule = cursor.rule_at(target, generation, registers.ip.wrapping_sub(1));
            let goes_on = if is_common(rule) {
                step(cursor, rule, depth, &mut registers)
            } else {
                uncommon_step(cursor, rule, depth, &mut registers)
            };
            if !goes_on {
                break 'walk;
            }
        }
    }
    // SAFETY: a map value, valid while the program runs.
    unsafe {
        (*cursor.walk).hash = hash;
        (*cursor.walk).depth = depth;
    }
    depth as u32
}

/// Whether the CFA is a register plus a constant, and rbp unchanged or saved at a distance from it.
#[inline(always)]
pub fn is_common(rule: Rule) -> bool {
    // RSP and RBP are neighbours.
    rule.kind().wrapping_sub(kind::RSP) <= 1 && rule.rbp() != RBP_AT_RBP && rule.rbp() != RBP_LOST
}

/// Where a common rule leads.
pub struct Step {
    /// The caller's stack pointer.
    pub cfa: u64,
    /// Of the return address.
    pub ip_place: u64,
    /// Of the saved rbp, below the return address; the same place if there is none.
    pub bp_place: u64,
    /// Whether there is one.
    pub saves_bp: bool,
}

impl Step {
    /// Nothing if there cannot be such a frame.
    #[inline(always)]
    pub fn by(rule: Rule, registers: Registers) -> Option<Self> {
        let base = if rule.kind() == kind::RSP { registers.sp } else { registers.bp };
        let cfa = base.wrapping_add(bytes(rule.cfa()));
        if !is_plausible(cfa, registers.sp) {
            return None;
        }
        let words = rule.rbp();
        let ip_place = cfa.wrapping_sub(8);
        let bp_place = if words == 0 { ip_place } else { cfa.wrapping_add(bytes(words)) };
        Some(Self { cfa, ip_place, bp_place, saves_bp: words != 0 })
    }
}

/// Goes from the last of `depth` frames to its caller by a common rule; `false` at the end, with the reason in the walk.
#[inline(always)]
fn step(cursor: Cursor, rule: Rule, depth: u64, registers: &mut Registers) -> bool {
    let Some(Step { cfa, ip_place, bp_place, saves_bp }) = Step::by(rule, *registers) else {
        return cursor.end(ended::IMPLAUSIBLE);
    };
    if (!cursor.has(bp_place) || !cursor.has(ip_place)) && move_window(cursor.slot, bp_place) == 0 {
        return cursor.end(ended::UNREADABLE);
    }
    if !cursor.has(ip_place) {
        return uncommon_step(cursor, rule, depth, registers);
    }
    let bp = cursor.word(bp_place);
    let ip = cursor.as_last_time(depth, cursor.word(ip_place));
    *registers = Registers { ip, sp: cfa, bp: if saves_bp { bp } else { registers.bp } };
    ip != 0
}

#[inline(always)]
fn uncommon_step(cursor: Cursor, rule: Rule, depth: u64, registers: &mut Registers) -> bool {
    cursor.set_registers(*registers);
    // SAFETY: a map value, valid while the program runs.
    unsafe { (*cursor.walk).depth = depth };
    let goes_on = step_by_any_rule(cursor.slot, rule.0) != 0;
    *registers = cursor.registers();
    goes_on
}

/// As [`step`], by any rule, from and to the registers in the walk.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn step_by_any_rule(slot: u32, rule: u32) -> u32 {
    let Some(cursor) = Cursor::at(slot) else { return 0 };
    let rule = Rule(rule);
    let rule = if rule.kind() == kind::TRAMPOLINE { look_behind_trampoline(cursor, rule) } else { rule };
    let goes_on = match rule.kind() {
        kind::STOP => false,
        kind::SIGNAL => leave_signal_frame(cursor, rule),
        kind::NONE => step_by_frame_pointer(cursor),
        _ => step_by_rule(cursor, rule),
    };
    u32::from(goes_on && cursor.registers().ip != 0)
}

/// Puts the return address itself into the trampoline's place, in the registers and among the frames, and returns its rule. What
/// begins a page and has no rows looks like the trampoline, and stays as it is.
#[inline(always)]
fn look_behind_trampoline(cursor: Cursor, rule: Rule) -> Rule {
    let registers = cursor.registers();
    let ip = original_return_address(registers.sp.wrapping_sub(8));
    // SAFETY: a map value, valid while the program runs.
    let (target, depth) = unsafe { ((*cursor.walk).target, (*cursor.walk).depth) };
    let found = if ip == 0 { (rule.0 as u64 & 1) << 32 } else { find_rule(target, ip.wrapping_sub(1)) };
    if found & FOUND == 0 {
        cursor.flag(ended::IN_UNKNOWN_CODE);
    }
    if ip != 0 {
        cursor.set_registers(Registers { ip, ..registers });
        cursor.push(depth.wrapping_sub(1), ip);
    }
    Rule(found as u32)
}

#[inline(always)]
fn step_by_rule(cursor: Cursor, rule: Rule) -> bool {
    let Registers { ip, sp, bp } = cursor.registers();
    let cfa = match rule.kind() {
        kind::PLT => {
            let has_pushed = (ip.wrapping_sub(1) & 15) as i32 >= rule.high();
            sp.wrapping_add(bytes(rule.low() + has_pushed as i32))
        }
        kind::RBP => bp.wrapping_add(bytes(rule.cfa())),
        kind::DEREF_RBP => cursor.load(bp.wrapping_add(bytes(rule.low()))).wrapping_add(bytes(rule.high())),
        kind::DEREF_RSP => cursor.load(sp.wrapping_add(bytes(rule.low()))).wrapping_add(bytes(rule.high())),
        _ => sp.wrapping_add(bytes(rule.cfa())),
    };
    if rule.rbp() == RBP_LOST {
        cursor.set_registers(Registers { ip, sp, bp: 0 });
    }
    let bp_place = match rule.rbp() {
        0 | RBP_LOST => 0,
        RBP_AT_RBP => bp,
        words => cfa.wrapping_add(bytes(words)),
    };
    go_to(cursor, cfa, bp_place, ended::IMPLAUSIBLE)
}

/// Where there is no rule: the frame pointer's convention, rbp and the return address at rbp (System V ABI for AMD64, section
/// 3.2.2).
#[inline(always)]
fn step_by_frame_pointer(cursor: Cursor) -> bool {
    let mode = mode();
    if mode == unwind_mode::TABLES {
        return cursor.end(ended::NO_ROWS);
    }
    if mode == unwind_mode::AUTO {
        cursor.flag(ended::BY_FRAME_POINTER);
    }
    let bp = cursor.registers().bp;
    if bp == 0 {
        return false;
    }
    go_to(cursor, bp.wrapping_add(16), bp, ended::NO_ROWS)
}

/// Goes to the frame above `cfa`. `reason` is that of the end if it cannot be one.
#[inline(always)]
fn go_to(cursor: Cursor, cfa: u64, bp_place: u64, reason: u32) -> bool {
    let registers = cursor.registers();
    if !is_plausible(cfa, registers.sp) {
        return cursor.end(reason);
    }
    let bp = if bp_place == 0 { registers.bp } else { cursor.load(bp_place) };
    cursor.set_registers(Registers { ip: cursor.load(cfa.wrapping_sub(8)), sp: cfa, bp });
    !cursor.has_failed()
}

/// Out of a signal handler: the kernel has put the interrupted registers on the stack (`struct rt_sigframe` in
/// arch/x86/include/asm/sigframe.h).
#[inline(always)]
fn leave_signal_frame(cursor: Cursor, rule: Rule) -> bool {
    let context = cursor.registers().sp.wrapping_add(bytes(rule.cfa()));
    let bp = cursor.load(context.wrapping_add(sigcontext::RBP));
    let sp = cursor.load(context.wrapping_add(sigcontext::RSP));
    let ip = cursor.load(context.wrapping_add(sigcontext::RIP)).wrapping_add(1);
    cursor.set_registers(Registers { ip, sp, bp });
    !cursor.has_failed()
}

/// Words, as rules count in, in bytes.
#[inline(always)]
fn bytes(words: i32) -> u64 {
    (i64::from(words) * 8) as u64
}

/// Whether a frame can reach from `sp` to `cfa`.
#[inline(always)]
fn is_plausible(cfa: u64, sp: u64) -> bool {
    cfa.wrapping_sub(sp).wrapping_sub(1) < LARGEST_FRAME && cfa & 7 == 0
}

#[inline(always)]
fn mode() -> u32 {
    // SAFETY: a plain read of a constant that the loader may have replaced.
    unsafe { core::ptr::read_volatile(&raw const UNWIND_MODE) }
}

/// Reads the window from `address` on; zero if not even its page can be read.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn move_window(slot: u32, address: u64) -> u32 {
    const PAGE: u64 = 4096;
    let Some(cursor) = Cursor::at(slot) else { return 0 };
    let start = address & !7;
    // Wraps where `start` lies above the main thread's stack: then there is no such end.
    // SAFETY: a map value, valid while the program runs.
    let to_stack_end = unsafe { (*cursor.walk).stack_end }.wrapping_sub(start);
    let to_page_end = PAGE - (start & (PAGE - 1));
    u32::from(read_window(cursor, start, to_stack_end) || read_window(cursor, start, to_page_end))
}

#[inline(always)]
fn read_window(cursor: Cursor, start: u64, bytes: u64) -> bool {
    let bytes = if bytes > WINDOW_BYTES { WINDOW_BYTES } else { bytes };
    if bytes < 8 {
        return false;
    }
    // SAFETY: the window is that long; the helper checks the address, which is the target's.
    let is_read =
        unsafe { bpf_probe_read_user((&raw mut (*cursor.walk).window).cast(), bytes as u32, start as *const _) == 0 };
    // SAFETY: a map value, valid while the program runs.
    unsafe {
        (*cursor.walk).window_start = if is_read { start } else { NO_WINDOW };
        (*cursor.walk).window_last = bytes - 8;
    }
    is_read
}

/// The rule for a pc and [`FOUND`], or zero if it is in no known mapping.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn find_rule(target: u32, pc: u64) -> u64 {
    let Some(mapping) = find_mapping(target, pc) else { return 0 };
    let offset_in_file = mapping.file_bias.wrapping_add(pc);
    if mapping.rows_count == 0 || offset_in_file >> 32 != 0 {
        return FOUND;
    }
    // The last row that does not begin behind it.
    let key = offset_in_file << 32 | u64::from(u32::MAX);
    let (mut low, mut high) = (mapping.rows_first, mapping.rows_first + mapping.rows_count);
    for _ in 0..ROW_STEPS {
        if low >= high {
            break;
        }
        let middle = low + (high - low) / 2;
        let Some(row) = ROWS.get(middle) else { return FOUND };
        if *row <= key {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if low == mapping.rows_first {
        return FOUND;
    }
    match ROWS.get(low - 1) {
        Some(row) => FOUND | row & u64::from(u32::MAX),
        None => FOUND,
    }
}

/// The mapping of a target that contains an address.
#[inline(always)]
pub fn find_mapping(target: u32, address: u64) -> Option<&'static MappedCode> {
    let mapping = last_mapping_below(target, address.wrapping_add(1))?;
    if address < mapping.end && is_certain(target, mapping) { Some(mapping) } else { None }
}

/// What is new may have been replaced before it was told.
#[inline(always)]
fn is_certain(target: u32, mapping: &MappedCode) -> bool {
    if mapping.flags & code_flags::NEW == 0 {
        return true;
    }
    let Some(space) = SPACES.get_ptr(target) else { return false };
    // SAFETY: a map value, valid while the program runs; words that are written as such.
    unsafe {
        core::ptr::read_volatile(&raw const (*space).news) == core::ptr::read_volatile(&raw const (*space).news_known)
    }
}

/// The last mapping of a target that starts below an address.
#[inline(always)]
pub fn last_mapping_below(target: u32, address: u64) -> Option<&'static MappedCode> {
    let space = SPACES.get_ptr(target)?;
    // SAFETY: a map value; one word, read at once.
    let run = Run(unsafe { core::ptr::read_volatile(&raw const (*space).mappings) });
    let first = run.first();
    let (mut low, mut high) = (first, first + run.count());
    for _ in 0..MAPPING_STEPS {
        if low >= high {
            break;
        }
        let middle = low + (high - low) / 2;
        if MAPPINGS.get(middle)?.start < address {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    if low == first {
        return None;
    }
    MAPPINGS.get(low - 1)
}
