//! Follows the code of a function, from its entry over branches and jumps: by which instructions it returns, and whether all of
//! its ways lead through other functions that are known.
//!
//! Nothing is taken for code that is not reached: an address is decoded if it is an entry, the target of a jump or what
//! comes after another instruction, and as long as no other function begins. So no probe is put into the middle of an instruction.

use std::{
    cell::Cell,
    collections::{HashMap, HashSet},
    fs::File,
};

use super::instructions::{Step, step};
use crate::elf::{self, ElfError, Segment, Slot};

/// No allocator function, with all that it jumps to, has more instructions.
const MOST_INSTRUCTIONS: usize = 1 << 14;

/// How many instructions of an object are looked at, over and over again if need be; allocators have some ten thousand.
const MOST_STEPS: u32 = 1 << 20;

/// The longest instruction.
const MOST_INSTRUCTION_BYTES: u64 = 15;

/// How deep calls of other functions are followed.
const MOST_DEPTH: u32 = 3;

/// The code of an object.
pub(super) struct Code<'a> {
    file: &'a File,
    segments: &'a [Segment],
    /// In ascending order.
    starts: Vec<u64>,
    slots: HashMap<u64, Slot>,
    /// How many more instructions may be looked at. Behind them, nothing is known.
    steps_left: Cell<u32>,
}

/// By which instructions a function returns.
pub(super) struct Exits {
    /// The addresses of its own, and of those of what it jumps to at its end, in ascending order.
    pub(super) addresses: Vec<u64>,
    /// Whether it has no way out that could not be followed, such as a jump into another object.
    pub(super) are_all: bool,
}

/// What is jumped to, or called.
#[derive(Clone, Copy, Debug)]
enum Place<'a> {
    /// Code of this object.
    Here(u64),
    /// A function of another object.
    Elsewhere(&'a str),
    /// It is known at run time only.
    Unknown,
}

/// Functions that are probed, by their entries here and by their names elsewhere.
pub(super) trait Known {
    fn is_entry(&self, address: u64) -> bool;
    fn is_name(&self, name: &str) -> bool;
}

impl<'a> Code<'a> {
    /// # Errors
    /// Where the file cannot be read.
    pub(super) fn of(file: &'a File, segments: &'a [Segment]) -> Result<Self, ElfError> {
        let slots = elf::slots(file)?.into_iter().map(|slot| (slot.address, slot)).collect();
        Ok(Self { file, segments, starts: elf::function_starts(file)?, slots, steps_left: Cell::new(MOST_STEPS) })
    }

    /// By which instructions a function returns.
    ///
    /// # Errors
    /// Why none is known.
    pub(super) fn exits(&self, entry: u64) -> Result<Exits, &'static str> {
        if self.starts.is_empty() {
            return Err("its object does not say where functions begin");
        }
        let (mut exits, mut seen, mut ahead) =
            (Exits { addresses: Vec::new(), are_all: true }, HashSet::new(), vec![entry]);
        while let Some(address) = ahead.pop() {
            let mut here = Some(address);
            while let Some(address) = here.filter(|address| seen.insert(*address)) {
                if seen.len() > MOST_INSTRUCTIONS {
                    return Err("its code is too large to be followed");
                }
                let Some((step, next)) = self.step(address) else {
                    exits.are_all = false;
                    break;
                };
                if step == Step::Return {
                    exits.addresses.push(address);
                }
                let target = self.target(step);
                exits.are_all &= target.is_some() || !is_jump(step);
                ahead.extend(target);
                here = next;
            }
        }
        exits.addresses.sort_unstable();
        if exits.addresses.is_empty() { Err("it does not return by an instruction of its object") } else { Ok(exits) }
    }

    /// Whether a function returns only after it has called, or jumps to, one that is known.
    pub(super) fn always_calls(&self, entry: u64, known: &dyn Known) -> bool {
        !self.starts.is_empty() && self.always_calls_within(entry, known, MOST_DEPTH)
    }

    fn always_calls_within(&self, entry: u64, known: &dyn Known, depth: u32) -> bool {
        let (mut seen, mut ahead) = (HashSet::new(), vec![entry]);
        while let Some(address) = ahead.pop() {
            let mut here = Some(address);
            while let Some(address) = here.filter(|address| seen.insert(*address)) {
                let Some((step, next)) = self.step(address) else { return false };
                if seen.len() > MOST_INSTRUCTIONS || matches!(step, Step::Return | Step::Unknown) {
                    return false;
                }
                match self.place(step) {
                    Some(place) if is_known(place, known) => match step {
                        Step::Branch(_) => {}
                        _ => break,
                    },
                    Some(Place::Here(function))
                        if is_call(step) && depth > 0 && self.always_calls_within(function, known, depth - 1) =>
                    {
                        break;
                    }
                    Some(Place::Here(target)) if !is_call(step) => ahead.push(target),
                    Some(_) if !is_call(step) => return false,
                    _ => {}
                }
                here = next;
            }
        }
        true
    }

    /// Whether a function does nothing but jump to one that is known.
    pub(super) fn is_stub_of(&self, entry: u64, known: &dyn Known) -> bool {
        self.jump(entry).is_some_and(|place| is_known(place, known))
    }

    /// The function of this object to which a function does nothing but jump.
    pub(super) fn jumps_to(&self, entry: u64) -> Option<u64> {
        match self.jump(entry)? {
            Place::Here(address) => Some(address),
            Place::Elsewhere(_) | Place::Unknown => None,
        }
    }

    /// Where a function jumps to at once, but for an `endbr64`.
    fn jump(&self, entry: u64) -> Option<Place<'_>> {
        let mut first = self.step(entry);
        if let Some((Step::Nothing, Some(next))) = first {
            first = self.step(next);
        }
        let (step, _) = first.filter(|(step, _)| matches!(step, Step::Jump(_) | Step::JumpThrough(_)))?;
        self.place(step)
    }

    /// The instruction there, and the address of what follows, if that is reached. `None` where there is no code.
    fn step(&self, address: u64) -> Option<(Step, Option<u64>)> {
        self.steps_left.set(self.steps_left.get().checked_sub(1)?);
        let segment =
            self.segments.iter().find(|segment| segment.executable && segment.offset_of(address).is_some())?;
        let offset = segment.offset_of(address)?;
        let length = (segment.offsets.end - offset).min(MOST_INSTRUCTION_BYTES);
        let (step, length) = step(&elf::bytes(self.file, offset, length as usize).ok()?, address)?;
        let next = address.wrapping_add(length);
        let goes_on = !matches!(step, Step::Jump(_) | Step::JumpThrough(_) | Step::Return | Step::Unknown);
        // Behind a call that does not return, another function may begin.
        Some((step, (goes_on && self.starts.binary_search(&next).is_err()).then_some(next)))
    }

    /// Where a function goes on, other than at the next instruction.
    fn target(&self, step: Step) -> Option<u64> {
        match self.place(step).filter(|_| !is_call(step))? {
            Place::Here(address) => Some(address),
            Place::Elsewhere(_) | Place::Unknown => None,
        }
    }

    fn place(&self, step: Step) -> Option<Place<'_>> {
        match step {
            Step::Branch(address) | Step::Jump(address) | Step::Call(address) => Some(self.behind_stub(address)),
            Step::JumpThrough(slot) | Step::CallThrough(slot) => Some(self.behind_slot(slot)),
            Step::CallSomewhere => Some(Place::Unknown),
            Step::Next | Step::Nothing | Step::Return | Step::Unknown => None,
        }
    }

    /// What a stub of the procedure linkage table leads to: at most an `endbr64`, and a jump through a slot.
    fn behind_stub(&self, address: u64) -> Place<'_> {
        let through = |(step, next)| match step {
            Step::JumpThrough(slot) if self.slots.contains_key(&slot) => Ok(slot),
            Step::Nothing => Err(next),
            _ => Err(None),
        };
        let first = self.step(address).map(through);
        let slot = match first {
            Some(Err(Some(next))) => self.step(next).map(through),
            other => other,
        };
        match slot {
            Some(Ok(slot)) => self.behind_slot(slot),
            _ => Place::Here(address),
        }
    }

    fn behind_slot(&self, slot: u64) -> Place<'_> {
        match self.slots.get(&slot) {
            Some(Slot { function: Some(function), .. }) => Place::Here(*function),
            Some(Slot { name, .. }) => Place::Elsewhere(name),
            None => Place::Unknown,
        }
    }
}

/// Whether it goes on elsewhere for certain.
fn is_jump(step: Step) -> bool {
    matches!(step, Step::Jump(_) | Step::JumpThrough(_) | Step::Unknown)
}

fn is_call(step: Step) -> bool {
    matches!(step, Step::Call(_) | Step::CallThrough(_) | Step::CallSomewhere)
}

fn is_known(place: Place<'_>, known: &dyn Known) -> bool {
    match place {
        Place::Here(address) => known.is_entry(address),
        Place::Elsewhere(name) => known.is_name(name),
        Place::Unknown => false,
    }
}
