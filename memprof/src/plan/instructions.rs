//! What a probe site is chosen by: the instructions of a function, one after the other, and the only user of the decoder
//! in this stage.

use iced_x86::{
    ConditionCode, Decoder, DecoderOptions, FlowControl, Instruction as Decoded, InstructionInfoFactory, Mnemonic,
    OpAccess, OpKind, Register, UsedMemory, UsedRegister,
};

use crate::model::Emulation;

/// What an instruction may do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// Go on, or leave the function: no place in it is gone to, but by a return.
    Next,
    /// Jump to this offset from the function's beginning, or go on.
    Jump(u64),
    /// Call what is at this offset from the function's beginning.
    Call(u64),
    /// Jump to a place that is known at run time only.
    Indirect,
}

/// An instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    /// Offset from the function's beginning.
    pub(super) offset: u64,
    /// What it is called.
    pub(super) name: String,
    /// Where it leads.
    pub(super) flow: Flow,
    /// Whether the kernel emulates it under a probe; `None` if it single-steps it.
    pub(super) emulation: Option<Emulation>,
    /// Whether the program behind it finds what its caller handed over just as it was: it writes neither memory nor the
    /// stack pointer nor a register of one of the function's first arguments, as many as are asked for, and goes on to the next
    /// instruction.
    pub(super) is_harmless: bool,
}

/// Decodes a function from its first byte to its last; `None` stands for what is no instruction, and is the end. `arguments`
/// is how many of its first arguments are to be kept.
pub(super) fn decode(code: &[u8], arguments: usize) -> impl Iterator<Item = Option<Instruction>> {
    let mut decoder = Decoder::new(64, code, DecoderOptions::NONE);
    let mut information = InstructionInfoFactory::new();
    let mut has_failed = false;
    std::iter::from_fn(move || {
        if has_failed || !decoder.can_decode() {
            return None;
        }
        let offset = decoder.position();
        let decoded = decoder.decode();
        has_failed = decoded.is_invalid();
        let bytes = code.get(offset..decoder.position())?;
        Some((!has_failed).then(|| Instruction {
            offset: offset as u64,
            name: format!("{:?}", decoded.mnemonic()).to_lowercase(),
            flow: flow(&decoded),
            emulation: emulation(bytes),
            is_harmless: is_harmless(&decoded, arguments, &mut information),
        }))
    })
}

/// Where an instruction leads, by addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// To the next one.
    Next,
    /// To the next one, and it does nothing: `endbr64`, `nop`.
    Nothing,
    /// To the next one, or elsewhere.
    Branch(u64),
    /// Elsewhere.
    Jump(u64),
    /// To where the word at this address points.
    JumpThrough(u64),
    /// To the next one, when what is called has returned.
    Call(u64),
    /// To the next one, when what the word at this address points to has returned.
    CallThrough(u64),
    /// To the next one, when what is called has returned, which is not known.
    CallSomewhere,
    /// To the caller.
    Return,
    /// Nobody knows, or nowhere.
    Unknown,
}

/// The instruction that the bytes at `address` begin with, and its length. `None` for what is none.
pub(super) fn step(bytes: &[u8], address: u64) -> Option<(Step, u64)> {
    let decoded = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).decode();
    if decoded.is_invalid() {
        return None;
    }
    let through = (decoded.is_ip_rel_memory_operand() && decoded.op0_kind() == OpKind::Memory)
        .then(|| decoded.ip_rel_memory_address());
    let is_near = matches!(decoded.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64);
    let step = match decoded.flow_control() {
        FlowControl::Next if matches!(decoded.mnemonic(), Mnemonic::Endbr64 | Mnemonic::Nop) => Step::Nothing,
        FlowControl::Next => Step::Next,
        FlowControl::ConditionalBranch if is_near => Step::Branch(decoded.near_branch_target()),
        FlowControl::UnconditionalBranch if is_near => Step::Jump(decoded.near_branch_target()),
        FlowControl::Call if is_near => Step::Call(decoded.near_branch_target()),
        // The system call too.
        FlowControl::Call => Step::CallSomewhere,
        FlowControl::IndirectBranch => through.map_or(Step::Unknown, Step::JumpThrough),
        FlowControl::IndirectCall => through.map_or(Step::CallSomewhere, Step::CallThrough),
        FlowControl::Return if decoded.op_count() == 0 => Step::Return,
        _ => Step::Unknown,
    };
    Some((step, decoded.len() as u64))
}

fn flow(decoded: &Decoded) -> Flow {
    let is_near = matches!(decoded.op0_kind(), OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64);
    match decoded.flow_control() {
        FlowControl::IndirectBranch => Flow::Indirect,
        FlowControl::Call if is_near => Flow::Call(decoded.near_branch_target()),
        // `xbegin` too, whose operand is where an aborted transaction goes on.
        _ if is_near => Flow::Jump(decoded.near_branch_target()),
        _ => Flow::Next,
    }
}

/// Whether the kernel emulates an instruction, by its bytes: `branch_setup_xol_ops` and `push_setup_xol_ops` in
/// arch/x86/kernel/uprobes.c, as they are in all of Linux 5.15 to 6.18.
///
/// - `jmp`, `call` and `jcc` with 8 or 32 bits of offset. With the prefix `66` they cannot be probed at all; with any
///   other they are not worth to be looked into.
/// - `nop`, of one byte. `xchg %ax,%ax` (`66 90`) cannot be probed on Linux 5.15 as it was released.
/// - `push` of a register; with a prefix that must be `41`, which names `r8` to `r15`.
///
/// The longer `nop`s, as assemblers write them, are emulated by newer kernels (measured: 6.18), single-stepped by others.
/// Everything else is single-stepped: so is `endbr64`. (Linux 6.18 and later emulate some more, which is not counted on.)
fn emulation(bytes: &[u8]) -> Option<Emulation> {
    match bytes {
        [0x90] | [0x50..=0x57] | [0x41, 0x50..=0x57] => Some(Emulation::Always),
        [0x70..=0x7f | 0xeb, _] | [0xe8 | 0xe9, _, _, _, _] => Some(Emulation::Always),
        [0x0f, 0x80..=0x8f, _, _, _, _] => Some(Emulation::Always),
        [0x0f, 0x1f, 0x00] | [0x0f, 0x1f, 0x40, 0] | [0x0f, 0x1f, 0x44, 0, 0] | [0x66, 0x0f, 0x1f, 0x44, 0, 0] => {
            Some(Emulation::NewerKernels)
        }
        [0x0f, 0x1f, 0x80, 0, 0, 0, 0] | [0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0] => Some(Emulation::NewerKernels),
        _ => None,
    }
}

/// The argument registers of the System V ABI (AMD64, section 3.2.3), in order.
const ARGUMENTS: [Register; 6] =
    [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];

fn is_harmless(decoded: &Decoded, arguments: usize, information: &mut InstructionInfoFactory) -> bool {
    if decoded.flow_control() != FlowControl::Next || decoded.has_lock_prefix() || !is_plain(decoded) {
        return false;
    }
    let information = information.info(decoded);
    information.used_registers().iter().all(|used| keeps_register(used, &ARGUMENTS[..arguments]))
        && information.used_memory().iter().all(keeps_memory)
}

fn keeps_register(used: &UsedRegister, arguments: &[Register]) -> bool {
    let register = used.register().full_register();
    !may_write(used.access()) || register != Register::RSP && !arguments.contains(&register)
}

fn keeps_memory(used: &UsedMemory) -> bool {
    !may_write(used.access())
}

fn may_write(access: OpAccess) -> bool {
    !matches!(access, OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
}

/// Whether an instruction does nothing but compute: it neither traps, but for an address that is not there, nor orders
/// memory, nor is privileged. What is not listed is not skipped.
fn is_plain(decoded: &Decoded) -> bool {
    use Mnemonic as M;
    // `setcc` and `cmovcc`.
    decoded.condition_code() != ConditionCode::None
        || matches!(
            decoded.mnemonic(),
            M::Nop | M::Endbr64 | M::Mov | M::Movzx | M::Movsx | M::Movsxd | M::Lea | M::Cmp | M::Test | M::Xchg
                | M::Add | M::Adc | M::Sub | M::Sbb | M::Inc | M::Dec | M::Neg | M::Mul | M::Imul
                | M::And | M::Andn | M::Or | M::Xor | M::Not | M::Bt | M::Bswap
                | M::Shl | M::Shr | M::Sar | M::Rol | M::Ror | M::Shld | M::Shrd | M::Shlx | M::Shrx | M::Sarx
                | M::Bsf | M::Bsr | M::Tzcnt | M::Lzcnt | M::Popcnt
                | M::Cbw | M::Cwde | M::Cdqe | M::Cwd | M::Cdq | M::Cqo
                | M::Movd | M::Movq | M::Pxor | M::Xorps
        )
        // Not `mov %ax,%ss` and the like.
        && !(0..decoded.op_count()).any(|operand| decoded.op_register(operand).is_segment_register())
        && !decoded.is_privileged()
}
