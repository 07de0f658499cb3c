//! C++: which operators are probed, and how functions are that exceptions may leave.
//!
//! Most libraries define `operator new` by `malloc`, and `delete` by `free`: then these are probed, and their operators
//! would only cost twice. Allocators and programs define operators that allocate by themselves.
//!
//! An operator that throws has no return probe. The kernel's puts another return address on the stack, by which nobody who
//! unwinds it finds the caller: the exception would end the process. Such a function is probed at its `ret`
//! instructions, and at those of what it jumps to at its end.

use std::fs::File;

use super::{
    code::{Code, Known},
    functions::is_operator,
    sites::Entry,
};
use crate::{
    elf::{ElfError, Segment},
    model::Size,
    plan::FUNCTIONS,
};

/// Leaves out operators that are not needed, and finds the exits of functions that throw. Returns those whose exits are
/// not found, and which are not probed, with the reason.
pub(super) fn settle(file: &File, segments: &[Segment], entries: &mut Vec<Entry>) -> Result<Vec<String>, ElfError> {
    if !entries.iter().any(|entry| is_only_operator(entry) || may_throw(entry)) {
        return Ok(Vec::new());
    }
    let code = Code::of(file, segments)?;
    leave_out_operators(&code, entries);
    let mut left_out = Vec::new();
    entries.retain_mut(|entry| match may_throw(entry).then(|| code.exits(entry.address)) {
        None => true,
        Some(Ok(exits)) => {
            let offset = |address| segments.iter().find_map(|segment| segment.offset_of(address));
            entry.site.exits = Some(exits.into_iter().filter_map(offset).collect());
            true
        }
        Some(Err(reason)) => {
            left_out.push(format!("{}: {reason}", entry.site.function.name));
            false
        }
    });
    Ok(left_out)
}

/// If all that allocate do it by functions that are probed, none is needed. If not, some pointers may be the operators' own, and
/// all that free them are.
fn leave_out_operators(code: &Code<'_>, entries: &mut Vec<Entry>) {
    let of = |allocates| Functions { entries: addresses(entries, allocates), allocates };
    let (allocating, releasing) = (of(true), of(false));
    let needed: Vec<bool> = entries
        .iter()
        .map(|entry| !allocates(entry) || !is_only_operator(entry) || !code.always_calls(entry.address, &allocating))
        .collect();
    let is_new = |entry: &Entry| is_only_operator(entry) && allocates(entry);
    let any_new_is_needed = entries.iter().zip(&needed).any(|(entry, needed)| *needed && is_new(entry));
    let mut needed = needed.into_iter();
    let defines_new = entries.iter().any(is_new);
    entries.retain(|entry| {
        let needed = needed.next().unwrap_or(true);
        if allocates(entry) || !is_only_operator(entry) {
            return needed;
        }
        (any_new_is_needed || !defines_new) && !code.is_stub_of(entry.address, &releasing)
    });
}

/// Functions that are probed, of those that allocate, or of those that free.
struct Functions {
    entries: Vec<u64>,
    allocates: bool,
}

impl Known for Functions {
    fn is_entry(&self, address: u64) -> bool {
        self.entries.contains(&address)
    }

    fn is_name(&self, name: &str) -> bool {
        FUNCTIONS.iter().any(|known| known.name == name && (known.size != Size::None) == self.allocates)
    }
}

fn addresses(entries: &[Entry], allocating: bool) -> Vec<u64> {
    entries.iter().filter(|entry| allocates(entry) == allocating).map(|entry| entry.address).collect()
}

fn allocates(entry: &Entry) -> bool {
    entry.site.function.size != Size::None
}

/// Whether it is an operator, and no function of C too.
fn is_only_operator(entry: &Entry) -> bool {
    is_operator(entry.site.function.name) && entry.site.aliases.iter().all(|alias| is_operator(alias))
}

fn may_throw(entry: &Entry) -> bool {
    entry.site.function.throws || entry.site.exits.is_some()
}
