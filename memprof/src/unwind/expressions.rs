//! The few DWARF expressions that rules can say, recognised by their operations, one by one.
//!
//! | what | expression | written by |
//! |---|---|---|
//! | PLT stub | `breg7 a; breg16 0; lit15; and; lit T; ge; lit3; shl; plus` | ld, for `.plt` |
//! | word | `breg6 a; deref` or `breg7 a; deref`, then perhaps `plus_uconst b` | gcc, where the stack is realigned; OpenSSL |
//! | address | `breg6 a` or `breg7 a` | gcc, for a saved `rbp`; glibc, for signal frames |

use gimli::{Encoding, Format, Operation, Register, X86_64};
use memprof_common::unwind::Cfa;

use super::{Bytes, Expression};

/// The longest of the expressions above.
const MOST_OPERATIONS: usize = 9;

/// Call frame information has no units: expressions in it are as in a 64-bit one.
const ENCODING: Encoding = Encoding { address_size: 8, format: Format::Dwarf32, version: 5 };

type Op<'data> = Operation<Bytes<'data>>;

/// A CFA by expression, if rules can say it.
pub(super) fn cfa(expression: Expression, section: &[u8]) -> Option<Cfa> {
    let mut operations = [const { None }; MOST_OPERATIONS];
    match parse(expression, section, &mut operations)? {
        [Some(base), Some(Operation::Deref { size: 8, space: false, .. })] => dereferenced(base, 0),
        [Some(base), Some(Operation::Deref { size: 8, space: false, .. }), Some(Operation::PlusConstant { value })] => {
            dereferenced(base, i32::try_from(*value).ok()?)
        }
        [
            Some(base),
            Some(Operation::RegisterOffset { register: X86_64::RA, offset: 0, .. }),
            Some(Operation::UnsignedConstant { value: 15 }),
            Some(Operation::And),
            Some(Operation::UnsignedConstant { value: threshold }),
            Some(Operation::Ge),
            Some(Operation::UnsignedConstant { value: 3 }),
            Some(Operation::Shl),
            Some(Operation::Plus),
        ] => match register_and_offset(base)? {
            (X86_64::RSP, offset) => Some(Cfa::Plt { offset, threshold: i32::try_from(*threshold).ok()? }),
            _ => None,
        },
        _ => None,
    }
}

/// An address that is a register's value plus so many bytes.
pub(super) fn address(expression: Expression, section: &[u8]) -> Option<(Register, i32)> {
    let mut operations = [const { None }; MOST_OPERATIONS];
    match parse(expression, section, &mut operations)? {
        [Some(base)] => register_and_offset(base),
        _ => None,
    }
}

fn parse<'operations, 'data>(
    expression: Expression,
    section: &'data [u8],
    operations: &'operations mut [Option<Op<'data>>; MOST_OPERATIONS],
) -> Option<&'operations [Option<Op<'data>>]> {
    let end = expression.offset.checked_add(expression.length)?;
    let mut bytes = Bytes::new(section.get(expression.offset..end)?, gimli::LittleEndian);
    let mut count = 0;
    while !bytes.is_empty() {
        *operations.get_mut(count)? = Some(Operation::parse(&mut bytes, ENCODING).ok()?);
        count += 1;
    }
    operations.get(..count)
}

fn dereferenced(base: &Op<'_>, addend: i32) -> Option<Cfa> {
    match register_and_offset(base)? {
        (X86_64::RBP, offset) => Some(Cfa::DerefRbp { offset, addend }),
        (X86_64::RSP, offset) => Some(Cfa::DerefRsp { offset, addend }),
        _ => None,
    }
}

fn register_and_offset(operation: &Op<'_>) -> Option<(Register, i32)> {
    match operation {
        Operation::RegisterOffset { register, offset, base_type: gimli::UnitOffset(0) } => {
            Some((*register, i32::try_from(*offset).ok()?))
        }
        _ => None,
    }
}
