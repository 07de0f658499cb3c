//! The choice of sites: on the beginnings of allocators' functions and on code made for each rule here, on random code, and on
//! the allocators of this machine.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod code;
mod objdump;
mod random;
mod real;

use super::choose::{Chosen, beginnings, choose};
use crate::model::{Choice, Emulation, EntryReason};

/// The bytes of a hexadecimal listing.
fn bytes(listing: &str) -> Vec<u8> {
    listing.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
}

/// With all arguments kept.
fn chosen(listing: &str) -> Chosen {
    chosen_with(listing, 6)
}

fn chosen_with(listing: &str, arguments: usize) -> Chosen {
    choose(&bytes(listing), arguments)
}

fn emulated(instruction: &str) -> Chosen {
    let choice = Choice::EmulatedEntry { instruction: instruction.into(), emulation: Emulation::Always };
    Chosen { skipped: 0, choice }
}

fn later(skipped: u64, instruction: &str, entry: &str) -> Chosen {
    later_by(Emulation::Always, skipped, instruction, entry)
}

fn later_by(emulation: Emulation, skipped: u64, instruction: &str, entry: &str) -> Chosen {
    Chosen { skipped, choice: Choice::Later { instruction: instruction.into(), emulation, entry: entry.into() } }
}

fn none_emulated(entry: &str, before: Option<&str>) -> Chosen {
    Chosen::entry(EntryReason::NoneEmulated { entry: entry.into(), before: before.map(Into::into) })
}

#[test]
fn glibc_of_debian_12() {
    // malloc: push %r12; push %rbp; push %rbx; mov %rdi,%rbx
    assert_eq!(chosen("41 54 55 53 48 89 fb"), emulated("push"));
    // free: test %rdi,%rdi; je; push %rbp; lea -0x10(%rdi),%rsi
    assert_eq!(chosen("48 85 ff 0f 84 bf 00 00 00 55 48 8d 77 f0"), later(3, "je", "test"));
    // posix_memalign: cmpb $0,…(%rip); push %r12
    assert_eq!(chosen("80 3d 01 02 14 00 00 41 54 49 89 d4 55"), later(7, "push", "cmp"));
    // memalign: cmpb $0,…(%rip); je; jmp
    assert_eq!(chosen("80 3d 71 0e 14 00 00 74 07 e9 32 f6 ff ff 66 90"), later(7, "je", "cmp"));
    // reallocarray: mov %rsi,%rax; mul %rdx; which destroys the third argument.
    assert_eq!(chosen("48 89 f0 48 f7 e2 48 89 c6 70 05 e9 40 b8 f8 ff"), none_emulated("mov", Some("mul")));
}

#[test]
fn glibc_with_endbr64_as_ubuntu_and_fedora_build_it() {
    // malloc of Ubuntu 22.04: endbr64; push %r12; push %rbp; push %rbx
    assert_eq!(chosen("f3 0f 1e fa 41 54 55 53 48 83 ec 10"), later(4, "push", "endbr64"));
    // free: endbr64; test %rdi,%rdi; je
    assert_eq!(chosen("f3 0f 1e fa 48 85 ff 0f 84 b7 00 00 00 55"), later(7, "je", "endbr64"));
    // posix_memalign: endbr64; cmpb $0,…(%rip); push %r12
    assert_eq!(chosen("f3 0f 1e fa 80 3d 01 02 14 00 00 41 54"), later(11, "push", "endbr64"));
    // With frame pointers, as of Ubuntu 24.04 and Fedora 38: endbr64; push %rbp; mov %rsp,%rbp
    assert_eq!(chosen("f3 0f 1e fa 55 48 89 e5 41 54 53"), later(4, "push", "endbr64"));
    assert_eq!(chosen("f3 0f 1e fa 48 85 ff 74 10 55 48 89 e5"), later(7, "je", "endbr64"));
}

#[test]
fn glibc_of_debian_13() {
    // malloc of 2.41: push %r12; push %rbp; push %rbx; mov %rdi,%rbx
    assert_eq!(chosen("41 54 55 53 48 89 fb 48 83 ec 10 80 3d c6 a6 14 00 00"), emulated("push"));
    // free: test %rdi,%rdi; je; push %r15
    assert_eq!(chosen("48 85 ff 0f 84 7f 01 00 00 41 57 41 56 41 55"), later(3, "je", "test"));
    // calloc: push %r14; mov %rdi,%rax
    assert_eq!(chosen("41 56 48 89 f8 41 55 41 54 55 53 48 83 ec 10 48 f7 e6"), emulated("push"));
    // aligned_alloc: push %rbx; mov %rdi,%rbx
    assert_eq!(chosen("53 48 89 fb 48 83 ec 10 80 3d 99 95 14 00 00"), emulated("push"));
    // posix_memalign, valloc: cmpb $0,…(%rip); push
    assert_eq!(chosen("80 3d d1 87 14 00 00 41 54 49 89 d4 55"), later(7, "push", "cmp"));
    assert_eq!(chosen("80 3d 31 95 14 00 00 53 48 89 fb 74 1b"), later(7, "push", "cmp"));
}

#[test]
fn a_malloc_that_looks_into_its_cache_at_once() {
    // mov …(%rip),%rax; mov %fs:(%rax),%rax; and the size is looked at, or a register saved.
    assert_eq!(chosen("48 8b 05 e9 aa 14 00 64 48 8b 00 48 85 c0 74 20"), later(14, "je", "mov"));
    assert_eq!(chosen("48 8b 05 e9 aa 14 00 64 48 8b 00 55 48 89 fd"), later(11, "push", "mov"));
    assert_eq!(chosen("48 85 ff 78 40 48 8d 47 17 53"), later(3, "js", "test"));
}

#[test]
fn musl_and_others_whose_functions_jump_on() {
    // malloc, free and realloc of musl 1.2.3; posix_memalign of mimalloc
    assert_eq!(chosen("e9 6b 19 00 00"), emulated("jmp"));
    // calloc: push %r12
    assert_eq!(chosen("41 54 49 89 f4 55 53 48 85 f6"), emulated("push"));
    // malloc and calloc of Debian 13's: endbr64; jmp, and endbr64; push %r12
    assert_eq!(chosen("f3 0f 1e fa e9 c7 0b 00 00 0f 1f 80 00 00 00 00"), later(4, "jmp", "endbr64"));
    assert_eq!(chosen("f3 0f 1e fa 41 54 55 53 48 89 f3"), later(4, "push", "endbr64"));
    // valloc: mov %rdi,%rsi destroys the second argument before it jumps on.
    assert_eq!(chosen("48 89 fe bf 00 10 00 00 e9 a3 49 ff ff"), none_emulated("mov", Some("mov")));
}

#[test]
fn jemalloc() {
    // malloc of 5.3: cmp $0x1000,%rdi; ja; lea …(%rip),%rdx
    assert_eq!(chosen("48 81 ff 00 10 00 00 0f 87 8d 00 00 00 48 8d 15 5c 7f 2c 00"), later(7, "ja", "cmp"));
    // free: mov %rdi,%rax; mov …(%rip),%rdx; mov %rdi,%rcx; shr $0x1a,%rax; jne: registers of arguments that it does not have.
    let free = "48 89 f8 48 8b 15 0e 53 0a 00 48 89 f9 48 c1 e8 1a 75 00";
    assert_eq!(chosen_with(free, 1), later(17, "jne", "mov"));
    assert_eq!(chosen_with(free, 3), none_emulated("mov", Some("mov")));
    // calloc: push %r15
    assert_eq!(chosen("41 57 41 56 41 55 41 54"), emulated("push"));
    // malloc and free of Debian 13's, with endbr64: nine more instructions of free's only compute.
    assert_eq!(chosen("f3 0f 1e fa 48 81 ff 00 10 00 00 0f 87 7f 00 00 00"), later(11, "ja", "endbr64"));
    let free = "f3 0f 1e fa 48 89 f8 48 8b 0d 6a 5d 0a 00 48 89 fa 48 c1 e8 17 48 81 e2 00 00 00 f8 25 f0 00 00 00 \
                64 48 03 04 25 00 00 00 00 48 01 c8 48 3b 90 b0 01 00 00 0f 85 86 00 00 00";
    assert_eq!(chosen_with(free, 1), later(52, "jne", "endbr64"));
}

#[test]
fn mimalloc() {
    // malloc of 2.0.9: mov …(%rip),%rax; mov %rdi,%rsi; mov %fs:(%rax),%rdi: the size has gone before anything is emulated.
    assert_eq!(
        chosen("48 8b 05 49 b4 00 00 48 89 fe 64 48 8b 38 48 81 fe 00 04 00 00 77 29"),
        none_emulated("mov", Some("mov"))
    );
    // free: mov %rdi,%rcx; test %rdi,%rdi; je
    assert_eq!(chosen_with("48 89 f9 48 85 ff 74 5d", 1), later(6, "je", "mov"));
    assert_eq!(chosen_with("48 89 f9 48 85 ff 74 5d", 4), none_emulated("mov", Some("mov")));
    // malloc of Debian 13's 3.0.1: the same with endbr64.
    assert_eq!(
        chosen("f3 0f 1e fa 48 8b 05 e5 ae 01 00 48 89 fe 64 48 8b 38 48 81 fe 00 04 00 00 77 2d"),
        none_emulated("endbr64", Some("mov"))
    );
    // free as of 2.1: endbr64 or not, test %rdi,%rdi; je
    assert_eq!(chosen("48 85 ff 74 5d"), later(3, "je", "test"));
}

#[test]
fn what_the_programs_read_is_not_skipped_when_it_is_written() {
    for listing in [
        "bf 00 10 00 00 55",    // mov $0x1000,%edi; push
        "40 b6 01 55",          // mov $1,%sil
        "66 ba 01 00 55",       // mov $1,%dx
        "b5 01 55",             // mov $1,%ch
        "41 b8 01 00 00 00 55", // mov $1,%r8d
        "45 31 c9 55",          // xor %r9d,%r9d
        "48 0f 44 f8 55",       // cmove %rax,%rdi
        "0f 94 c2 55",          // sete %dl
        "48 97 55",             // xchg %rax,%rdi
        "48 83 ec 08 55",       // sub $8,%rsp
        "48 8d 64 24 f8 55",    // lea -8(%rsp),%rsp
        "48 89 07 55",          // mov %rax,(%rdi)
        "48 ff 40 08 55",       // incq 8(%rax)
        "48 87 00 55",          // xchg %rax,(%rax)
        "48 99 55",             // cqo, which writes %rdx
        "58 55",                // pop %rax
        "a4 55",                // movsb
    ] {
        let Chosen { skipped, choice } = chosen(listing);
        assert!(skipped == 0 && matches!(choice, Choice::Entry(EntryReason::NoneEmulated { .. })), "{listing}");
    }
}

#[test]
fn what_traps_waits_or_leaves_is_not_skipped() {
    for listing in [
        "0f 0b 55",       // ud2
        "cc 55",          // int3
        "cd 80 55",       // int $0x80
        "f4 55",          // hlt
        "0f 05 55",       // syscall
        "0f a2 55",       // cpuid
        "0f ae e8 55",    // lfence
        "0f ae f0 55",    // mfence
        "f3 90 55",       // pause
        "48 f7 f0 55",    // div %rax
        "c3 55",          // ret
        "ff d0 55",       // call *%rax
        "f0 48 ff 00 55", // lock incq (%rax)
        "8e d8 55",       // mov %eax,%ds
        "0f 20 c0 55",    // mov %cr0,%rax
        "0f 31 55",       // rdtsc
    ] {
        assert!(matches!(chosen(listing).choice, Choice::Entry(_)), "{listing}");
    }
    // A call is left alone, and the entry where it is the entry.
    assert_eq!(chosen("48 85 ff e8 00 00 00 00 55"), none_emulated("test", Some("call")));
    assert_eq!(chosen("e8 00 10 00 00 55"), emulated("call"));
}

#[test]
fn what_only_computes_is_skipped() {
    // mov %rdi,%rax; lea 7(%rsi),%r10; movzbl (%rdi),%ebx; xor %eax,%eax; cmp %rdi,(%rsi); cmovne %rax,%r11; pxor; push
    let listing = "48 89 f8 4c 8d 56 07 0f b6 1f 31 c0 48 39 3e 4c 0f 45 d8 66 0f ef c0 53";
    assert_eq!(chosen(listing), later(23, "push", "mov"));
}

#[test]
fn instructions_that_some_kernels_refuse_or_step_are_not_chosen() {
    // jmp and je with the prefix 66, je with a hint, bnd jmp, xchg %ax,%ax, push with a prefix
    for listing in ["66 e9 00 00 00 00", "66 74 00", "2e 74 00", "f2 e9 00 01 00 00", "66 90", "66 50", "48 50"] {
        let code = format!("48 85 ff {listing} 53");
        assert_ne!(chosen(&code).skipped, 3, "{listing}");
    }
}

#[test]
fn longer_nops_are_second_choice() {
    // endbr64; nopw 0(%rax,%rax,1); push %rbp
    assert_eq!(chosen("f3 0f 1e fa 66 0f 1f 44 00 00 55"), later(10, "push", "endbr64"));
    // endbr64; nopl 0(%rax); sub $8,%rsp
    let newer = later_by(Emulation::NewerKernels, 4, "nop", "endbr64");
    assert_eq!(chosen("f3 0f 1e fa 0f 1f 40 00 48 83 ec 08"), newer);
    // nopl; push, and nopl; sub
    assert_eq!(chosen("0f 1f 40 00 55"), later(4, "push", "nop"));
    let entry = Choice::EmulatedEntry { instruction: "nop".into(), emulation: Emulation::NewerKernels };
    assert_eq!(chosen("0f 1f 40 00 48 83 ec 08"), Chosen { skipped: 0, choice: entry });
    // Not as assemblers write it.
    assert_eq!(chosen("48 85 ff 0f 1f 47 04 48 83 ec 08"), none_emulated("test", Some("sub")));
}

#[test]
fn no_more_than_twelve_instructions_or_64_bytes_are_skipped() {
    let tests = |count: usize| format!("{} 55", "48 85 ff ".repeat(count));
    assert_eq!(chosen(&tests(12)), later(36, "push", "test"));
    assert_eq!(chosen(&tests(13)), none_emulated("test", None));
    // cmpl $…,…(%rip), ten bytes each, and others of four and five bytes in all
    let comparisons = |fill: &str| format!("{} {fill} 55", "81 3d 00 00 00 00 00 00 00 00 ".repeat(6));
    assert_eq!(chosen(&comparisons("84 c0 84 c0")), later(64, "push", "cmp"));
    assert_eq!(chosen(&comparisons("84 c0 48 85 ff")), none_emulated("cmp", None));
}

#[test]
fn a_function_that_goes_back_to_its_beginning_keeps_its_entry() {
    let back = |from| Chosen::entry(EntryReason::JumpBack { from });
    // test %rdi,%rdi; je +0; jmp to the entry, the site, and what is after it
    assert_eq!(chosen("48 85 ff 74 00 eb f9"), back(5));
    assert_eq!(chosen("48 85 ff 74 00 eb fc"), back(5));
    assert_eq!(chosen("48 85 ff 74 00 eb fe"), later(3, "je", "test"));
    // With 32 bits, with a condition, by `loop` and `jrcxz`, and into the middle of an instruction
    assert_eq!(chosen("48 85 ff 74 00 e9 f6 ff ff ff"), back(5));
    assert_eq!(chosen("48 85 ff 74 00 0f 85 f8 ff ff ff"), back(5));
    assert_eq!(chosen("48 85 ff 74 00 e2 f9"), back(5));
    assert_eq!(chosen("48 85 ff 74 00 e3 f9"), back(5));
    assert_eq!(chosen("48 85 ff 74 00 75 fa"), back(5));
    // The site jumps to itself.
    assert_eq!(chosen("48 85 ff 74 fe c3"), back(3));
    // A call of itself is a call, if it is not one into the middle.
    assert_eq!(chosen("48 85 ff 74 00 e8 f6 ff ff ff c3"), later(3, "je", "test"));
    assert_eq!(chosen("48 85 ff 74 00 e8 f9 ff ff ff c3"), back(5));
}

#[test]
fn instructions_begin_where_one_could_jump_to() {
    // endbr64; mov %rdi,%rax; test %rdi,%rdi; je; and what is behind the site
    let code = bytes("f3 0f 1e fa 48 89 f8 48 85 ff 74 00 c3");
    assert_eq!(beginnings(&code, 10), [4, 7, 10]);
    assert_eq!(beginnings(&code, 0), [0; 0]);
}

#[test]
fn a_function_that_cannot_be_followed_keeps_its_entry() {
    // jmp *%rax; jmp *8(%rax); notrack jmp *%rdx
    for jump in ["ff e0", "ff 60 08", "3e ff e2"] {
        assert_eq!(chosen(&format!("48 85 ff 74 00 {jump}")), Chosen::entry(EntryReason::IndirectJump { from: 5 }));
    }
    // What is no instruction, an instruction that is cut off, and nothing at all
    assert_eq!(chosen("48 85 ff 74 00 06 90"), Chosen::entry(EntryReason::NotDecoded));
    assert_eq!(chosen("48 85 ff 74 00 48 8b"), Chosen::entry(EntryReason::NotDecoded));
    assert_eq!(chosen("48 85 ff 74"), Chosen::entry(EntryReason::NotDecoded));
    assert_eq!(chosen("06"), Chosen::entry(EntryReason::NotDecoded));
    assert_eq!(chosen(""), none_emulated("", None));
}
