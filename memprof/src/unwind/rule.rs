//! From what call frame information says at one address to a rule, if rules can say it.

use gimli::X86_64;
use memprof_common::unwind::{Cfa, Rbp, Rule, Step, sigcontext};

use super::{
    Expression,
    evaluate::{CfaState, Place, State},
    expressions,
};

/// From the CFA to the return address, always.
const RETURN_ADDRESS: i64 = -8;

/// The rule for `state`, or `NONE`. `is_signal` says that the CIE has the augmentation `S`: the frame below was
/// interrupted, not called.
#[inline]
pub(super) fn rule(state: &State, is_signal: bool, section: &[u8]) -> Rule {
    step(state, is_signal, section).and_then(Rule::encode).unwrap_or(Rule::NONE)
}

#[inline]
fn step(state: &State, is_signal: bool, section: &[u8]) -> Option<Step> {
    if state.return_address == Place::Undefined {
        return Some(Step::Stop);
    }
    if is_signal {
        return signal(state, section);
    }
    let rsp_is_cfa = matches!(state.rsp, Place::Unsaid | Place::CfaPlus(0));
    if !rsp_is_cfa || state.return_address != Place::AtCfa(RETURN_ADDRESS) {
        return None;
    }
    Some(Step::Caller { cfa: cfa(state.cfa, section)?, rbp: rbp(state.rbp, section)? })
}

fn cfa(cfa: CfaState, section: &[u8]) -> Option<Cfa> {
    match cfa {
        CfaState::Register(X86_64::RSP, offset) => Some(Cfa::Rsp(i32::try_from(offset).ok()?)),
        CfaState::Register(X86_64::RBP, offset) => Some(Cfa::Rbp(i32::try_from(offset).ok()?)),
        CfaState::Register(..) => None,
        CfaState::Expression(expression) => expressions::cfa(expression, section),
    }
}

fn rbp(place: Place, section: &[u8]) -> Option<Rbp> {
    match place {
        Place::Unsaid | Place::Same => Some(Rbp::Unchanged),
        Place::Undefined => Some(Rbp::Lost),
        Place::AtCfa(offset) => Some(Rbp::AtCfa(i32::try_from(offset).ok()?)),
        Place::At(expression) => (expressions::address(expression, section)? == (X86_64::RBP, 0)).then_some(Rbp::AtRbp),
        Place::CfaPlus(_) | Place::Other => None,
    }
}

/// All three registers must be in one `struct sigcontext` above `rsp`.
fn signal(state: &State, section: &[u8]) -> Option<Step> {
    let CfaState::Expression(cfa) = state.cfa else { return None };
    let Cfa::DerefRsp { offset, addend: 0 } = expressions::cfa(cfa, section)? else { return None };
    let start = i64::from(offset).checked_sub_unsigned(sigcontext::RSP)?;
    let is_at = |place: Place, field: u64| place_above_rsp(place, section) == start.checked_add_unsigned(field);
    let holds = is_at(state.return_address, sigcontext::RIP)
        && is_at(state.rbp, sigcontext::RBP)
        && (is_at(state.rsp, sigcontext::RSP) || matches!(state.rsp, Place::Unsaid | Place::CfaPlus(0)));
    if holds { Some(Step::Signal { offset: i32::try_from(start).ok()? }) } else { None }
}

fn place_above_rsp(place: Place, section: &[u8]) -> Option<i64> {
    let Place::At(expression) = place else { return None };
    above_rsp(expression, section)
}

fn above_rsp(expression: Expression, section: &[u8]) -> Option<i64> {
    match expressions::address(expression, section)? {
        (X86_64::RSP, offset) => Some(i64::from(offset)),
        _ => None,
    }
}
