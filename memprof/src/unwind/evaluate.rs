//! Call frame instructions, evaluated for the registers that a walk needs (DWARF 5, section 6.4.3).

use gimli::{
    BaseAddresses, CallFrameInstruction, CallFrameInstructionIter, CommonInformationEntry, EhFrame, Register, X86_64,
};

use super::{Bytes, Expression};

/// More instructions than any function has; the largest ones have some thousands.
const MOST_INSTRUCTIONS: usize = 1 << 16;

/// Compilers remember one state, or two.
const MOST_REMEMBERED: usize = 16;

/// The instructions cannot be understood, or contradict each other.
#[derive(Debug)]
pub(super) struct Malformed;

/// How the CFA is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum CfaState {
    Register(Register, i64),
    Expression(Expression),
}

/// Where the caller's value of a register is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// Nothing is said.
    #[default]
    Unsaid,
    /// In the register itself.
    Same,
    /// Nowhere.
    Undefined,
    /// In memory, at so many bytes from the CFA.
    AtCfa(i64),
    /// In memory, where the expression says.
    At(Expression),
    /// It is the CFA plus so many bytes.
    CfaPlus(i64),
    /// Anything else: in another register, or computed.
    Other,
}

/// What holds at one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) cfa: CfaState,
    pub(super) rbp: Place,
    pub(super) rsp: Place,
    pub(super) return_address: Place,
}

impl State {
    /// Before any instruction.
    const UNSAID: Self = Self {
        cfa: CfaState::Register(X86_64::RAX, 0),
        rbp: Place::Unsaid,
        rsp: Place::Unsaid,
        return_address: Place::Unsaid,
    };

    fn place(&mut self, register: Register) -> Option<&mut Place> {
        match register {
            X86_64::RBP => Some(&mut self.rbp),
            X86_64::RSP => Some(&mut self.rsp),
            X86_64::RA => Some(&mut self.return_address),
            _ => None,
        }
    }
}

/// The state that a CIE's own instructions set up.
pub(super) fn initial_state<'data>(
    cie: &CommonInformationEntry<Bytes<'data>>,
    section: &EhFrame<Bytes<'data>>,
    bases: &BaseAddresses,
) -> Result<State, Malformed> {
    let mut remembered = Vec::new();
    let mut evaluation = Evaluation::new(cie, State::UNSAID, 0, &mut remembered);
    evaluation.is_initial = true;
    let mut state = State::UNSAID;
    evaluation.run(cie.instructions(section, bases), |_, at_end| state = *at_end)?;
    Ok(state)
}

/// Evaluates one program.
pub(super) struct Evaluation<'memory> {
    code_factor: u64,
    data_factor: i64,
    initial: State,
    /// There is nothing to restore yet.
    is_initial: bool,
    address: u64,
    state: State,
    remembered: &'memory mut Vec<State>,
}

impl<'memory> Evaluation<'memory> {
    /// Of a function that starts at `address` in the state that its CIE sets up. `remembered` is memory to use.
    pub(super) fn new(
        cie: &CommonInformationEntry<Bytes<'_>>,
        initial: State,
        address: u64,
        remembered: &'memory mut Vec<State>,
    ) -> Self {
        remembered.clear();
        Self {
            code_factor: cie.code_alignment_factor(),
            data_factor: cie.data_alignment_factor(),
            initial,
            is_initial: false,
            address,
            state: initial,
            remembered,
        }
    }

    /// Tells `found` each address, in ascending order, and the state that holds from there on.
    pub(super) fn run(
        mut self,
        mut instructions: CallFrameInstructionIter<'_, Bytes<'_>>,
        mut found: impl FnMut(u64, &State),
    ) -> Result<(), Malformed> {
        let mut count = 0;
        loop {
            // Looked at where it is: moving it out of the result took a quarter of a table's time.
            let next = instructions.next();
            let instruction = match &next {
                Ok(Some(instruction)) => instruction,
                Ok(None) => break,
                Err(_) => return Err(Malformed),
            };
            count += 1;
            if count > MOST_INSTRUCTIONS {
                return Err(Malformed);
            }
            match instruction {
                CallFrameInstruction::AdvanceLoc { delta } => {
                    let delta = u64::from(*delta).wrapping_mul(self.code_factor);
                    self.advance(self.address.checked_add(delta).ok_or(Malformed)?, &mut found);
                }
                CallFrameInstruction::SetLoc { address } if *address >= self.address => {
                    self.advance(*address, &mut found);
                }
                CallFrameInstruction::SetLoc { .. } => return Err(Malformed),
                other => self.apply(other)?,
            }
        }
        found(self.address, &self.state);
        Ok(())
    }

    #[inline]
    fn advance(&mut self, address: u64, found: &mut impl FnMut(u64, &State)) {
        if address != self.address {
            found(self.address, &self.state);
            self.address = address;
        }
    }

    #[inline]
    fn apply(&mut self, instruction: &CallFrameInstruction<usize>) -> Result<(), Malformed> {
        use CallFrameInstruction as Cfi;
        match *instruction {
            Cfi::DefCfa { register, offset } => self.state.cfa = CfaState::Register(register, offset as i64),
            Cfi::DefCfaSf { register, factored_offset } => {
                self.state.cfa = CfaState::Register(register, self.scaled(factored_offset));
            }
            Cfi::DefCfaRegister { register } => *self.cfa_register()?.0 = register,
            Cfi::DefCfaOffset { offset } => *self.cfa_register()?.1 = offset as i64,
            Cfi::DefCfaOffsetSf { factored_offset } => {
                let offset = self.scaled(factored_offset);
                *self.cfa_register()?.1 = offset;
            }
            Cfi::DefCfaExpression { expression } => self.state.cfa = CfaState::Expression(expression),
            Cfi::Undefined { register } => self.set(register, Place::Undefined),
            Cfi::SameValue { register } => self.set(register, Place::Same),
            Cfi::Offset { register, factored_offset } => {
                self.set(register, Place::AtCfa(self.scaled(factored_offset as i64)));
            }
            Cfi::OffsetExtendedSf { register, factored_offset } => {
                self.set(register, Place::AtCfa(self.scaled(factored_offset)));
            }
            Cfi::ValOffset { register, factored_offset } => {
                self.set(register, Place::CfaPlus(self.scaled(factored_offset as i64)));
            }
            Cfi::ValOffsetSf { register, factored_offset } => {
                self.set(register, Place::CfaPlus(self.scaled(factored_offset)));
            }
            Cfi::Expression { register, expression } => self.set(register, Place::At(expression)),
            Cfi::Register { dest_register: register, .. } | Cfi::ValExpression { register, .. } => {
                self.set(register, Place::Other);
            }
            Cfi::Restore { register } => self.restore(register)?,
            Cfi::RememberState => self.remember()?,
            Cfi::RestoreState => self.state = self.remembered.pop().ok_or(Malformed)?,
            Cfi::ArgsSize { .. } | Cfi::Nop => {}
            // Those above, in `run`, or of another processor.
            _ => return Err(Malformed),
        }
        Ok(())
    }

    fn scaled(&self, factored_offset: i64) -> i64 {
        factored_offset.wrapping_mul(self.data_factor)
    }

    fn cfa_register(&mut self) -> Result<(&mut Register, &mut i64), Malformed> {
        match &mut self.state.cfa {
            CfaState::Register(register, offset) => Ok((register, offset)),
            CfaState::Expression(_) => Err(Malformed),
        }
    }

    fn set(&mut self, register: Register, place: Place) {
        if let Some(known) = self.state.place(register) {
            *known = place;
        }
    }

    fn restore(&mut self, register: Register) -> Result<(), Malformed> {
        if self.is_initial {
            return Err(Malformed);
        }
        if let Some(place) = self.initial.place(register).copied() {
            self.set(register, place);
        }
        Ok(())
    }

    fn remember(&mut self) -> Result<(), Malformed> {
        if self.remembered.len() == MOST_REMEMBERED {
            return Err(Malformed);
        }
        self.remembered.push(self.state);
        Ok(())
    }
}
