//! What depends on the processor: registers, and the place of the return address.

use aya_ebpf::{
    EbpfContext,
    helpers::{bpf_get_attach_cookie, bpf_probe_read_user},
    programs::{ProbeContext, RetProbeContext},
};
use memprof_common::Cookie;

/// The cookie that the probe was attached with.
#[inline(always)]
pub fn cookie(ctx: &impl EbpfContext) -> Cookie {
    // SAFETY: the context is the program's own.
    Cookie(unsafe { bpf_get_attach_cookie(ctx.as_ptr()) })
}

/// The stack pointer at the function's entry, where it points to the return address.
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
