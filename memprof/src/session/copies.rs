//! Stacks that the kernel side copied because it could not unwind them yet: unwound here, by the same rules.

use memprof_common::{MAX_FRAMES, unwind::Rule};

use super::code::CodeTables;
use crate::{
    kernel::Kernel,
    model::{ObjectId, RawFrame, RawStack, StackCopy, Timestamp, Truncation},
    target::{AddressSpace, ObjectTable},
    unwind::{End, Registers, Start, Walk, walk},
};

/// Unwinds a copy, if all that it runs through is known by now or if it `must_be`. What it runs through may have been unmapped
/// before the unwinder was told of it; so its rows are loaded here.
pub(super) fn unwind_copy(
    kernel: &mut Kernel,
    code: &mut CodeTables,
    objects: &ObjectTable,
    space: &AddressSpace,
    copy: &StackCopy,
    must_be: bool,
) -> Option<RawStack> {
    let mut is_known = true;
    let rule = |address| {
        let place = place_of(space, address, copy.time);
        is_known &= place.is_some();
        place.map(|(object, offset_in_file)| {
            code.load(kernel, objects, object);
            kernel.rule_at(object, offset_in_file).unwrap_or(Rule::NONE)
        })
    };
    let registers = Registers { ip: copy.registers.ip, sp: copy.registers.sp, bp: copy.registers.bp };
    let walk = walk(registers, Start::Returned, MAX_FRAMES, rule, |address| copy.word(address));
    if !is_known && !must_be {
        return None;
    }
    let truncated = truncation(&walk, is_known);
    let frame = |address| RawFrame { address, place: space.find_return_address(address, copy.time) };
    let frames = walk.frames.into_iter().map(frame).collect();
    Some(RawStack { id: copy.id, image: copy.image, time: copy.time, frames, truncated })
}

/// What the byte of code at an address is.
fn place_of(space: &AddressSpace, address: u64, at: Timestamp) -> Option<(ObjectId, u64)> {
    let (object, offset_in_file) = space.find_return_address(address.wrapping_add(1), at)?;
    Some((object, offset_in_file.wrapping_sub(1)))
}

fn truncation(walk: &Walk, is_known: bool) -> Option<Truncation> {
    match walk.end {
        End::Depth => Some(Truncation::TooDeep),
        End::Implausible => Some(Truncation::Implausible),
        End::Unreadable => Some(Truncation::Unreadable),
        End::Outermost if !is_known => Some(Truncation::UnknownCode),
        End::Outermost => walk.doubtful_from.map(|_| Truncation::NoTable),
    }
}
