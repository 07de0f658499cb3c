//! How a stack is walked by rules: the specification of what the BPF programs do, without their caches and windows.
//!
//! Of each frame three registers are known: `rip`, `rsp`, `rbp`. The rule for the frame's place in the code gives those
//! of its caller, until there is none, or something does not add up:
//!
//! 1. Keep `rip` as a frame. If that was the last one that there is room for, the walk is over.
//! 2. Look the rule up: at `rip - 1`, since a return address may be past the end of the function that called; at `rip`
//!    itself where the frame did not call but was interrupted, by the probe (a probe at an entry) or by a signal. Where
//!    no object is known, it is `NONE`.
//! 3. `STOP`: the walk is over, and the stack is whole.
//! 4. `SIGNAL`: the three registers are in the `struct sigcontext`, and the next frame is an interrupted one. The stack
//!    may go on anywhere: on the alternate stack's far side.
//! 5. `NONE`: the stack is in doubt from here on. If `rbp` is zero, this was the outermost frame by the ABI's convention
//!    (System V ABI, AMD64 supplement, section 3.4.1), and the walk is over. Else the CFA is `rbp + 16`, and the caller's
//!    `rbp` is at `CFA - 16`.
//! 6. Else compute the CFA, and where the caller's `rbp` is.
//! 7. A CFA must be of whole words, above `rsp`, and by less than [`MOST_FRAME_BYTES`]; if not, the walk is over.
//! 8. Read the return address at `CFA - 8`, and `rbp`. A return address of zero has no caller: the walk is over. Else
//!    they, and the CFA as `rsp`, are the caller's registers.

use memprof_common::unwind::{Cfa, Rbp, Rule, Step, sigcontext};

/// No frame is larger than a usual stack.
pub const MOST_FRAME_BYTES: u64 = 8 << 20;

/// The registers of a frame that a walk needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Registers {
    /// `rip`.
    pub ip: u64,
    /// `rsp`.
    pub sp: u64,
    /// `rbp`.
    pub bp: u64,
}

/// What the first frame's `ip` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// The instruction that would have been executed next.
    Interrupted,
    /// A return address: the callee has just returned, and `sp` is the CFA of its frame.
    Returned,
}

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At the outermost frame.
    Outermost,
    /// At the most frames that were asked for.
    Depth,
    /// The stack could not be read.
    Unreadable,
    /// What was found cannot be a caller.
    Implausible,
}

/// A stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Walk {
    /// From the first frame outwards: its `ip`, return addresses, and what signals interrupted.
    pub frames: Vec<u64>,
    /// How it ended.
    pub end: End,
    /// From which frame on there is doubt: for the way from it to its caller there was no rule, and the frame pointer
    /// was tried. Callers may be missing or made up.
    pub doubtful_from: Option<usize>,
}

impl Walk {
    /// Whether these are all the frames, and no others.
    pub fn is_whole(&self) -> bool {
        self.end == End::Outermost && self.doubtful_from.is_none()
    }
}

/// Walks a stack, up to `most_frames`, which is at least 1.
///
/// `rule` gives the rule for an *address of code*, not of a return: `None` where nothing is known to be mapped.
/// `read_stack` reads the word at an address.
pub fn walk(
    registers: Registers,
    start: Start,
    most_frames: usize,
    mut rule: impl FnMut(u64) -> Option<Rule>,
    mut read_stack: impl FnMut(u64) -> Option<u64>,
) -> Walk {
    let mut walk = Walk { frames: Vec::new(), end: End::Depth, doubtful_from: None };
    let mut frame = Frame { registers, start };
    while walk.frames.len() < most_frames {
        walk.frames.push(frame.registers.ip);
        let step = rule(frame.address_for_lookup()).unwrap_or(Rule::NONE).decode();
        if step == Step::FramePointer && walk.doubtful_from.is_none() {
            walk.doubtful_from = Some(walk.frames.len() - 1);
        }
        match frame.caller(step, &mut read_stack) {
            Ok(caller) => frame = caller,
            Err(end) => {
                walk.end = end;
                break;
            }
        }
    }
    walk
}

struct Frame {
    registers: Registers,
    start: Start,
}

impl Frame {
    fn address_for_lookup(&self) -> u64 {
        match self.start {
            Start::Interrupted => self.registers.ip,
            Start::Returned => self.registers.ip.wrapping_sub(1),
        }
    }

    fn caller(&self, step: Step, read_stack: &mut impl FnMut(u64) -> Option<u64>) -> Result<Self, End> {
        let mut read = |address| read_stack(address).ok_or(End::Unreadable);
        let Registers { sp, bp, .. } = self.registers;
        let (cfa, rbp) = match step {
            Step::Stop => return Err(End::Outermost),
            Step::Signal { offset } => return interrupted(plus(sp, offset), read),
            Step::FramePointer if bp == 0 => return Err(End::Outermost),
            Step::FramePointer => (bp.wrapping_add(16), Rbp::AtCfa(-16)),
            Step::Caller { cfa, rbp } => (self.cfa(cfa, &mut read)?, rbp),
        };
        if cfa <= sp || cfa - sp >= MOST_FRAME_BYTES || cfa % 8 != 0 {
            return Err(End::Implausible);
        }
        let ip = read(cfa - 8)?;
        let bp = match rbp {
            Rbp::Unchanged => bp,
            Rbp::Lost => 0,
            Rbp::AtRbp => read(bp)?,
            Rbp::AtCfa(offset) => read(plus(cfa, offset))?,
        };
        if ip == 0 {
            return Err(End::Outermost);
        }
        Ok(Self { registers: Registers { ip, sp: cfa, bp }, start: Start::Returned })
    }

    fn cfa(&self, cfa: Cfa, mut read: impl FnMut(u64) -> Result<u64, End>) -> Result<u64, End> {
        let Registers { ip, sp, bp } = self.registers;
        Ok(match cfa {
            Cfa::Rsp(offset) => plus(sp, offset),
            Cfa::Rbp(offset) => plus(bp, offset),
            Cfa::Plt { offset, threshold } => {
                let pushed = (ip % 16) as i32 >= threshold;
                plus(sp, offset + 8 * i32::from(pushed))
            }
            Cfa::DerefRbp { offset, addend } => plus(read(plus(bp, offset))?, addend),
            Cfa::DerefRsp { offset, addend } => plus(read(plus(sp, offset))?, addend),
        })
    }
}

/// What a signal interrupted, by the `struct sigcontext` at this address.
fn interrupted(context: u64, mut read: impl FnMut(u64) -> Result<u64, End>) -> Result<Frame, End> {
    let mut register = |offset| read(context.wrapping_add(offset));
    let registers =
        Registers { ip: register(sigcontext::RIP)?, sp: register(sigcontext::RSP)?, bp: register(sigcontext::RBP)? };
    Ok(Frame { registers, start: Start::Interrupted })
}

fn plus(address: u64, offset: i32) -> u64 {
    address.wrapping_add_signed(i64::from(offset))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    const SP: u64 = 0x7fff_0000;

    /// Code in which each function has 16 bytes, and a stack.
    #[derive(Default)]
    struct Process {
        functions: HashMap<u64, Rule>,
        stack: HashMap<u64, u64>,
    }

    impl Process {
        fn function(mut self, address: u64, step: Step) -> Self {
            self.functions.insert(address / 16, Rule::encode(step).unwrap_or_default());
            self
        }

        fn word(mut self, address: u64, value: u64) -> Self {
            self.stack.insert(address, value);
            self
        }

        fn walk(&self, start: Start, registers: Registers, most_frames: usize) -> Walk {
            let rule = |address: u64| self.functions.get(&(address / 16)).copied();
            walk(registers, start, most_frames, rule, |address| self.stack.get(&address).copied())
        }
    }

    fn rsp(offset: i32) -> Step {
        Step::Caller { cfa: Cfa::Rsp(offset), rbp: Rbp::Unchanged }
    }

    fn whole(frames: &[u64]) -> Walk {
        Walk { frames: frames.to_vec(), end: End::Outermost, doubtful_from: None }
    }

    const ENTRY: Registers = Registers { ip: 0x1000, sp: SP, bp: 0 };

    #[test]
    fn frames_follow_from_rules_up_to_the_outermost() {
        let process = Process::default()
            .function(0x1000, rsp(8))
            .function(0x2000, Step::Caller { cfa: Cfa::Rsp(32), rbp: Rbp::AtCfa(-16) })
            .function(0x3000, Step::Caller { cfa: Cfa::Rbp(16), rbp: Rbp::AtCfa(-16) })
            .function(0x4000, Step::Stop)
            .word(SP, 0x2004)
            .word(SP + 24, SP + 0x100)
            .word(SP + 32, 0x3004)
            .word(SP + 0x100, 0)
            .word(SP + 0x108, 0x4004);
        let expected = whole(&[0x1000, 0x2004, 0x3004, 0x4004]);
        assert_eq!(process.walk(Start::Interrupted, ENTRY, 127), expected);
        assert!(expected.is_whole());
        let returned = Registers { ip: 0x2004, sp: SP + 8, bp: 0 };
        assert_eq!(process.walk(Start::Returned, returned, 127), whole(&expected.frames[1..]));
    }

    #[test]
    fn a_return_address_past_the_end_of_its_function_belongs_to_it() {
        let process = Process::default()
            .function(0x1000, rsp(8))
            .function(0x2000, rsp(16))
            .function(0x2010, rsp(1024))
            .function(0x3000, Step::Stop)
            .word(SP, 0x2010)
            .word(SP + 16, 0x3001);
        assert_eq!(process.walk(Start::Interrupted, ENTRY, 127), whole(&[0x1000, 0x2010, 0x3001]));
    }

    #[test]
    fn a_signal_may_interrupt_a_functions_first_instruction_on_another_stack() {
        let other = SP + (64 << 20);
        let context = SP + 8 + 40;
        let process = Process::default()
            .function(0x1000, rsp(8))
            // The trampoline's first instruction is where the handler returns to; its rule begins a byte before.
            .function(0x5000 - 16, Step::Signal { offset: 40 })
            .function(0x2000, rsp(8))
            .function(0x2000 - 16, rsp(4096))
            .function(0x3000, Step::Caller { cfa: Cfa::Rbp(16), rbp: Rbp::AtCfa(-16) })
            .function(0x4000, Step::Stop)
            .word(SP, 0x5000)
            .word(context + sigcontext::RIP, 0x2000)
            .word(context + sigcontext::RSP, other)
            .word(context + sigcontext::RBP, other + 0x20)
            .word(other, 0x3001)
            .word(other + 0x20, 7)
            .word(other + 0x28, 0x4001);
        let expected = whole(&[0x1000, 0x5000, 0x2000, 0x3001, 0x4001]);
        assert_eq!(process.walk(Start::Interrupted, ENTRY, 127), expected);
    }

    #[test]
    fn a_plt_stub_has_pushed_from_its_threshold_on() {
        let plt = Step::Caller { cfa: Cfa::Plt { offset: 8, threshold: 11 }, rbp: Rbp::Unchanged };
        let process =
            Process::default().function(0x1000, plt).function(0x2000, Step::Stop).word(SP, 0x2001).word(SP + 8, 0x2002);
        let at = |ip| process.walk(Start::Interrupted, Registers { ip, ..ENTRY }, 127).frames[1];
        assert_eq!((at(0x1000), at(0x100a), at(0x100b), at(0x100f)), (0x2001, 0x2001, 0x2002, 0x2002));
    }

    #[test]
    fn realigned_stacks_keep_their_cfa_and_rbp_in_memory() {
        let bp = SP + 0x40;
        let process = Process::default()
            .function(0x1000, Step::Caller { cfa: Cfa::DerefRbp { offset: -8, addend: 0 }, rbp: Rbp::AtRbp })
            .function(0x2000, Step::Caller { cfa: Cfa::DerefRsp { offset: 16, addend: 8 }, rbp: Rbp::Lost })
            .function(0x3000, Step::Caller { cfa: Cfa::Rbp(16), rbp: Rbp::AtCfa(-16) })
            .word(bp - 8, SP + 0x80)
            .word(bp, 42)
            .word(SP + 0x78, 0x2001)
            .word(SP + 0x90, SP + 0xf8)
            .word(SP + 0xf8, 0x3001);
        let walk = process.walk(Start::Interrupted, Registers { bp, ..ENTRY }, 127);
        // `rbp` was lost on the way to the frame that needs it.
        assert_eq!((walk.frames, walk.end), (vec![0x1000, 0x2001, 0x3001], End::Implausible));
    }

    #[test]
    fn without_a_rule_the_frame_pointer_is_tried_and_the_stack_in_doubt() {
        let bp = SP + 0x20;
        let process = Process::default()
            .function(0x1000, rsp(8))
            .function(0x3000, Step::FramePointer)
            .word(SP, 0x2001)
            .word(bp, 0)
            .word(bp + 8, 0x3001);
        let walk = process.walk(Start::Interrupted, Registers { bp, ..ENTRY }, 127);
        let expected = Walk { frames: vec![0x1000, 0x2001, 0x3001], end: End::Outermost, doubtful_from: Some(1) };
        assert_eq!(walk, expected);
        assert!(!walk.is_whole());
    }

    #[test]
    fn what_cannot_be_a_caller_ends_the_walk() {
        let with = |step| Process::default().function(0x1000, step).walk(Start::Interrupted, ENTRY, 127).end;
        let rbp = Step::Caller { cfa: Cfa::Rbp(16), rbp: Rbp::Unchanged };
        assert_eq!(with(rsp(0)), End::Implausible);
        assert_eq!(with(rsp(-8)), End::Implausible);
        assert_eq!(with(rbp), End::Implausible);
        assert_eq!(with(rsp(8)), End::Unreadable);
        assert_eq!(with(Step::Signal { offset: 40 }), End::Unreadable);
        let ends = Process::default().function(0x1000, rsp(8)).word(SP, 0);
        assert_eq!(ends.walk(Start::Interrupted, ENTRY, 127), whole(&[0x1000]));
        let odd = Registers { sp: SP + 4, ..ENTRY };
        let process = Process::default().function(0x1000, rsp(8));
        assert_eq!(process.walk(Start::Interrupted, odd, 127).end, End::Implausible);
        for bp in [SP - 16, SP + MOST_FRAME_BYTES, u64::MAX - 7] {
            let process = Process::default().function(0x1000, rbp);
            assert_eq!(process.walk(Start::Interrupted, Registers { bp, ..ENTRY }, 127).end, End::Implausible);
        }
    }

    #[test]
    fn an_endless_stack_is_cut_at_its_outer_end() {
        let registers = Registers { ip: 0x1000, sp: SP, bp: 0 };
        let rule = Rule::encode(rsp(8));
        let walk = walk(registers, Start::Interrupted, 127, |_| rule, Some);
        assert_eq!((walk.frames.len(), walk.end), (127, End::Depth));
    }
}
