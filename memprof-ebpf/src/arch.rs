//! What depends on the processor: registers, and the place of the return address.

use core::mem::offset_of;

use aya_ebpf::{
    EbpfContext,
    bindings::pt_regs,
    helpers::{
        bpf_get_attach_cookie, bpf_probe_read_user,
        generated::{bpf_get_current_task_btf, bpf_task_pt_regs},
    },
    programs::{ProbeContext, RetProbeContext},
};
use memprof_common::{Call, Cookie, StackTotals};

use crate::{kernel_structs::word, sampling};

use crate::following;

/// What a program knows of a function that returns: from its return probe, or at its `ret` instruction.
pub trait Returning: EbpfContext {
    /// The caller's registers, once the function has returned.
    fn caller(&self) -> Registers;

    /// What the function returns.
    fn value(&self) -> u64;

    /// As what the call counts at its stack.
    #[inline(always)]
    fn counts(&self, call: &Call) -> StackTotals {
        sampling::counts(call.size)
    }
}

/// The registers that unwinding begins with.
#[derive(Clone, Copy)]
pub struct Registers {
    /// The instruction pointer.
    pub ip: u64,
    /// The stack pointer.
    pub sp: u64,
    /// The frame pointer, whatever it is used for.
    pub bp: u64,
}

impl Returning for RetProbeContext {
    #[inline(always)]
    fn caller(&self) -> Registers {
        // SAFETY: the kernel passes valid registers.
        let registers = unsafe { &*self.regs };
        Registers { ip: registers.rip, sp: registers.rsp, bp: registers.rbp }
    }

    #[inline(always)]
    fn value(&self) -> u64 {
        self.ret()
    }
}

/// A probe at a `ret` instruction: all registers but the stack pointer are as the caller will find them.
impl Returning for ProbeContext {
    #[inline(always)]
    fn caller(&self) -> Registers {
        // SAFETY: the kernel passes valid registers.
        let registers = unsafe { &*self.regs };
        Registers { ip: return_address(registers.rsp), sp: registers.rsp.wrapping_add(8), bp: registers.rbp }
    }

    #[inline(always)]
    fn value(&self) -> u64 {
        // SAFETY: the kernel passes valid registers.
        unsafe { (*self.regs).rax }
    }
}

/// The registers that the current thread came into the kernel with, with the address of the instruction plus one where it was
/// interrupted there, as in [`memprof_common::StackFrame::address`]; after a system call they are those of its return.
#[inline(always)]
pub fn at_kernel_entry() -> Registers {
    // SAFETY: the helpers have no preconditions.
    let registers = unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as u64;
    let read = |offset: usize| word(registers, offset as u32);
    let is_system_call = read(offset_of!(pt_regs, orig_rax)) as i64 >= 0;
    let ip = read(offset_of!(pt_regs, rip));
    let ip = if is_system_call { ip } else { ip.wrapping_add(1) };
    Registers { ip, sp: read(offset_of!(pt_regs, rsp)), bp: read(offset_of!(pt_regs, rbp)) }
}

/// The cookie that the probe was attached with, or would have been, if it was the running process's own.
#[inline(always)]
pub fn cookie(ctx: &impl EbpfContext) -> Cookie {
    // SAFETY: the context is the program's own.
    let cookie = Cookie(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) });
    if cookie.is_of_everyone() { Cookie(following::own_cookie(cookie.0)) } else { cookie }
}

/// The stack pointer at the function's entry, or at its `ret`, where it points to the return address.
#[inline(always)]
pub fn stack_pointer_at_entry(ctx: &ProbeContext) -> u64 {
    // SAFETY: the kernel passes valid registers.
    unsafe { (*ctx.regs).rsp }
}

/// The stack pointer that the function was entered with, seen from its return, which has taken the return address off.
#[inline(always)]
pub fn stack_pointer_at_entry_from_return(ctx: &RetProbeContext) -> u64 {
    // SAFETY: the kernel passes valid registers.
    unsafe { (*ctx.regs).rsp.wrapping_sub(8) }
}

/// The argument of that index, zero if there is none. All are read, and then one is taken: the verifier wants constant offsets.
#[inline(always)]
pub fn argument_at(ctx: &ProbeContext, index: u8) -> u64 {
    let read = |register: *const u64| {
        // SAFETY: callers pass a field of the registers, which the kernel passes.
        unsafe { core::ptr::read_volatile(register) }
    };
    let registers = ctx.regs;
    // SAFETY: the addresses of fields, not yet read.
    let [r0, r1, r2, r3, r4, r5] = unsafe {
        [
            &raw const (*registers).rdi,
            &raw const (*registers).rsi,
            &raw const (*registers).rdx,
            &raw const (*registers).rcx,
            &raw const (*registers).r8,
            &raw const (*registers).r9,
        ]
    }
    .map(read);
    match index {
        0 => r0,
        1 => r1,
        2 => r2,
        3 => r3,
        4 => r4,
        5 => r5,
        _ => 0,
    }
}

/// The address of the probed instruction.
#[inline(always)]
pub fn instruction_pointer(ctx: &ProbeContext) -> u64 {
    // SAFETY: the kernel passes valid registers.
    unsafe { (*ctx.regs).rip }
}

/// The word at `stack_pointer`: a return address, or what a uretprobe put in its place. Zero if it cannot be read.
#[inline(always)]
pub fn return_address(stack_pointer: u64) -> u64 {
    // SAFETY: the helper checks the address, which is the target's.
    unsafe { bpf_probe_read_user(stack_pointer as *const u64) }.unwrap_or(0)
}

/// Whether a word can be the kernel's uretprobe trampoline, which replaces the return address of a call that has not
/// returned. The trampoline is the first instruction of the `[uprobes]` page (`arch_uprobe_trampoline` in
/// kernel/events/uprobes.c), so it is a whole page's address, as hardly any return address or data word is.
#[inline(always)]
pub fn may_be_trampoline(word: u64) -> bool {
    const PAGE_MASK: u64 = 0xfff;
    word != 0 && word & PAGE_MASK == 0
}
