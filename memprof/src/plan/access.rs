//! What an instruction does to memory.

use iced_x86::{Decoder, DecoderOptions, InstructionInfoFactory, OpAccess};

/// Whether the instruction at the beginning of `bytes` reads memory and writes none. `false` if it is none that is known.
pub fn only_reads(bytes: &[u8]) -> bool {
    let instruction = Decoder::new(64, bytes, DecoderOptions::NONE).decode();
    if instruction.is_invalid() {
        return false;
    }
    let mut factory = InstructionInfoFactory::new();
    let memory = factory.info(&instruction).used_memory();
    let is_read = |access| matches!(access, OpAccess::Read | OpAccess::CondRead);
    let is_none = |access| matches!(access, OpAccess::None | OpAccess::NoMemAccess);
    memory.iter().any(|used| is_read(used.access()))
        && memory.iter().all(|used| is_read(used.access()) || is_none(used.access()))
}

#[cfg(test)]
mod tests {
    use super::only_reads;

    #[test]
    fn loads_and_comparisons_only_read() {
        assert!(only_reads(&[0x8b, 0x07]), "mov (%rdi),%eax");
        assert!(only_reads(&[0x80, 0x3f, 0x00]), "cmpb $0,(%rdi)");
        assert!(only_reads(&[0x0f, 0xb6, 0x04, 0x07]), "movzbl (%rdi,%rax),%eax");
        assert!(only_reads(&[0xf3, 0x0f, 0x6f, 0x07]), "movdqu (%rdi),%xmm0");
        assert!(only_reads(&[0xc3]), "ret");
    }

    #[test]
    fn what_writes_too_does_not() {
        assert!(!only_reads(&[0x88, 0x07]), "mov %al,(%rdi)");
        assert!(!only_reads(&[0xfe, 0x07]), "incb (%rdi)");
        assert!(!only_reads(&[0xf3, 0xa4]), "rep movsb");
        assert!(!only_reads(&[0xf3, 0xaa]), "rep stosb");
        assert!(!only_reads(&[0xff, 0x17]), "call *(%rdi)");
        assert!(!only_reads(&[0xf0, 0x0f, 0xb1, 0x0f]), "lock cmpxchg %ecx,(%rdi)");
    }

    #[test]
    fn what_touches_no_memory_and_what_is_no_instruction_does_not() {
        assert!(!only_reads(&[0x90]), "nop");
        assert!(!only_reads(&[0x48, 0x8d, 0x07]), "lea (%rdi),%rax");
        assert!(!only_reads(&[0x06]) && !only_reads(&[]));
    }
}
