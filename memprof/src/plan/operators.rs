//! Which functions need no probe since another has it; and how those are probed that exceptions may leave.
//!
//! A function that does nothing but jump to another one, which does the same, is one more name of that.
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
    functions::{behave_alike, is_operator},
    sites::Entry,
};
use crate::{
    elf::{ElfError, Segment},
    model::{AllocatorFunction, Pointer, Release, Size},
    plan::FUNCTIONS,
};

/// Leaves out what is not needed, and finds the exits of functions that may throw. Returns those that throw and whose exits are
/// not found, with the reason: they are left out too.
pub(super) fn settle(file: &File, segments: &[Segment], entries: &mut Vec<Entry>) -> Result<Vec<String>, ElfError> {
    let code = Code::of(file, segments)?;
    fold_stubs(&code, entries);
    leave_out_operators(&code, entries);
    let offset = |address| segments.iter().find_map(|segment| segment.offset_of(address));
    let mut left_out = Vec::new();
    entries.retain_mut(|entry| {
        let must_not = must_not_have_return_probe(entry);
        if !must_not && !is_better_without_return_probe(entry) {
            return true;
        }
        match code.exits(entry.address) {
            // What it does on a way out that is not known would not be seen.
            Ok(exits) if !must_not && !exits.are_all => {}
            Ok(exits) => entry.site.exits = Some(exits.addresses.into_iter().filter_map(offset).collect()),
            Err(reason) if must_not => left_out.push(format!("{}: {reason}", entry.site.function.name)),
            Err(_) => {}
        }
        !must_not || entry.site.exits.as_ref().is_some_and(|exits| !exits.is_empty())
    });
    Ok(left_out)
}

/// So many stubs may lead to each other.
const MOST_STUBS: usize = 4;

fn fold_stubs(code: &Code<'_>, entries: &mut Vec<Entry>) {
    let mut index = 0;
    while let Some(stub) = entries.get(index) {
        let targets = std::iter::successors(code.jumps_to(stub.address), |target| code.jumps_to(*target));
        let is_other = |target: &u64| *target != stub.address;
        let mut others = targets.take(MOST_STUBS).filter(is_other);
        let target = others.find_map(|target| entries.iter().position(|entry| entry.address == target));
        match target.filter(|target| behave_alike(entries[*target].site.function, stub.site.function)) {
            None => index += 1,
            Some(target) => {
                let stub = entries[index].site.clone();
                let names = [stub.function.name].into_iter().chain(stub.aliases);
                entries[target].site.aliases.extend(names);
                if stub.function.throws || stub.exits.is_some() {
                    entries[target].site.exits.get_or_insert_default();
                }
                entries.remove(index);
            }
        }
    }
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

fn must_not_have_return_probe(entry: &Entry) -> bool {
    entry.site.function.throws || entry.site.exits.is_some()
}

/// What a user has told of may throw, though its kind does not say so, and nobody must pay for that with the process.
fn is_better_without_return_probe(entry: &Entry) -> bool {
    let AllocatorFunction { name, pointer, release, owns_calls, .. } = *entry.site.function;
    let is_own = owns_calls && !is_operator(name);
    is_own && pointer == Pointer::Returned && !matches!(release, Release::Always(_))
}
