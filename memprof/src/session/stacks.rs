//! The stacks that are known, under the names that the kernel side uses and under their own.
//!
//! The kernel side names a stack by a hash of addresses, which is quick to make and soon void: another process, another
//! run, or code mapped anew gives another name to the same stack; and a stack that it could not unwind has a name of its
//! own for each allocation. A stack's own name is a hash of what its frames are: objects and offsets in them.

use std::collections::{BTreeSet, HashMap, HashSet};

use memprof_common::IS_COPY;

use crate::model::{ImageId, ObjectId, RawFrame, RawStack, Sampling, StackCopy, StackId};

/// All stacks of all images that hold something, or that the kernel side knows.
#[derive(Debug, Default)]
pub(super) struct Stacks {
    /// By the kernel side's name. Images are part of that.
    names: HashMap<StackId, Known>,
    /// By image and own name.
    stacks: HashMap<(ImageId, StackId), RawStack>,
    copies: Vec<StackCopy>,
    sampling: Sampling,
    /// Allocations that the kernel side does not count, or not any more, by the stack's own name, also where the stack is
    /// forgotten. In [units](Sampling::units).
    counted: HashMap<ImageId, HashMap<StackId, u64>>,
    turn: u32,
    /// Whether the size of a copy is what it counts as.
    sizes_are_units: bool,
}

/// What a name of the kernel side's stands for.
#[derive(Clone, Copy, Debug)]
struct Known {
    image: ImageId,
    name: StackId,
    /// In which it was last told.
    turn: u32,
}

impl Stacks {
    /// None yet.
    pub(super) fn new(sampling: Sampling) -> Self {
        Self { sampling, ..Self::default() }
    }

    /// From here on, stacks are those that touch memory: the size of a copy is what it counts as.
    pub(super) fn are_of_touched_memory(&mut self) {
        self.sizes_are_units = true;
    }

    /// Takes in a stack. `fingerprint` tells a number of an object that is the same in every run.
    pub(super) fn insert(&mut self, stack: RawStack, fingerprint: impl Fn(ObjectId) -> u64) -> StackId {
        let name = name_of(&stack.frames, fingerprint);
        self.names.insert(stack.id, Known { image: stack.image, name, turn: self.turn });
        self.stacks.entry((stack.image, name)).or_insert(stack);
        name
    }

    /// Keeps a copy until it can be unwound.
    pub(super) fn keep(&mut self, copy: StackCopy) {
        self.copies.push(copy);
    }

    /// Unwinds the copies that `unwind` can, and forgets them.
    pub(super) fn unwind_copies(
        &mut self,
        mut unwind: impl FnMut(&StackCopy) -> Option<RawStack>,
        fingerprint: impl Fn(ObjectId) -> u64,
    ) {
        for copy in std::mem::take(&mut self.copies) {
            match unwind(&copy) {
                Some(stack) => {
                    let id = stack.id;
                    let units = if self.sizes_are_units { copy.size } else { self.sampling.units(copy.size) };
                    self.insert(stack, &fingerprint);
                    self.count(id, units);
                }
                None => self.copies.push(copy),
            }
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.stacks.len()
    }

    /// Whose copies could not be unwound yet.
    pub(super) fn images_of_copies(&self) -> BTreeSet<ImageId> {
        self.copies.iter().map(|copy| copy.image).collect()
    }

    /// A stack's own name, by the kernel side's; that itself where it is not known.
    pub(super) fn name(&self, id: StackId) -> StackId {
        self.names.get(&id).map_or(id, |known| known.name)
    }

    /// A stack of an image, by its own name.
    pub(super) fn get(&self, image: ImageId, name: StackId) -> Option<&RawStack> {
        self.stacks.get(&(image, name))
    }

    /// Tells the number of allocations of each stack of an image, freed since or not, by own name. `counts` are the kernel
    /// side's, in [units](Sampling::units).
    pub(super) fn totals(&self, image: ImageId, counts: &HashMap<StackId, u64>) -> impl Fn(StackId) -> u64 {
        let mut recent: HashMap<StackId, u64> = HashMap::new();
        for (id, count) in counts {
            match self.names.get(id) {
                Some(known) if known.image == image => *recent.entry(known.name).or_default() += count,
                _ => {}
            }
        }
        let counted = self.counted.get(&image);
        move |name| {
            let earlier = counted.and_then(|counted| counted.get(&name)).copied().unwrap_or_default();
            self.sampling.allocations(earlier + recent.get(&name).copied().unwrap_or_default())
        }
    }

    /// All that was counted, by image and own name. `counts` are the kernel side's.
    pub(super) fn all_totals(&self, counts: &HashMap<StackId, u64>) -> HashMap<ImageId, HashMap<StackId, u64>> {
        let mut totals = self.counted.clone();
        for (id, count) in counts {
            if let Some(known) = self.names.get(id) {
                *totals.entry(known.image).or_default().entry(known.name).or_default() += count;
            }
        }
        totals
    }

    /// The kernel side knows no stack any more: from here on, what is in use is told anew.
    pub(super) fn begin_turn(&mut self) {
        self.turn += 1;
    }

    /// Counts allocations of a stack that the kernel side counts no more.
    pub(super) fn count(&mut self, id: StackId, units: u64) {
        // A stack that is not known is of an image that is over.
        if let Some(known) = self.names.get(&id) {
            *self.counted.entry(known.image).or_default().entry(known.name).or_default() += units;
        }
    }

    /// Drops the stacks that have not been told in this turn, unless blocks are `held` there. Their counts stay.
    pub(super) fn forget_idle(&mut self, held: &HashSet<StackId>) {
        // A copy is never told anew. Its block may be out of sight, within a call of `realloc` that is going to fail.
        let is_copy = |id: &StackId| id.0 & IS_COPY != 0;
        self.names.retain(|id, known| known.turn == self.turn || is_copy(id) || held.contains(id));
        let named: HashSet<_> = self.names.values().map(|known| (known.image, known.name)).collect();
        self.stacks.retain(|stack, _| named.contains(stack));
    }

    /// Drops the stacks of an image that is over; returns the kernel side's names.
    pub(super) fn forget(&mut self, image: ImageId) -> Vec<StackId> {
        self.stacks.retain(|(of, _), _| *of != image);
        self.counted.remove(&image);
        self.copies.retain(|copy| copy.image != image);
        self.names.extract_if(|_, known| known.image == image).map(|(id, _)| id).collect()
    }
}

fn name_of(frames: &[RawFrame], fingerprint: impl Fn(ObjectId) -> u64) -> StackId {
    let words = frames.iter().flat_map(|frame| match frame.place {
        Some((object, offset_in_file)) => [fingerprint(object), offset_in_file],
        None => [0, frame.address],
    });
    let name = words.fold(0, |name, word| mix(name ^ word));
    StackId(if name == StackId::UNKNOWN.0 { 1 } else { name })
}

fn mix(word: u64) -> u64 {
    let word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (word ^ word >> 32).rotate_left(17)
}

/// A number made of bytes, the same in every run (FNV-1a).
pub(super) fn fingerprint(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    const IMAGE: ImageId = ImageId(1);

    fn frame(address: u64, object: u32, offset_in_file: u64) -> RawFrame {
        RawFrame { address, place: Some((ObjectId(object), offset_in_file)) }
    }

    fn stack(id: u64, image: ImageId, frames: &[RawFrame]) -> RawStack {
        RawStack { id: StackId(id), image, time: Timestamp(0), frames: frames.into(), truncated: None }
    }

    fn of_object(object: ObjectId) -> u64 {
        u64::from(object.0) + 100
    }

    #[test]
    fn one_stack_under_several_names_is_one() {
        let mut stacks = Stacks::default();
        let name = stacks.insert(stack(10, IMAGE, &[frame(0x1000, 1, 0x10)]), of_object);
        assert_eq!(stacks.insert(stack(11, IMAGE, &[frame(0x2000, 1, 0x10)]), of_object), name);
        assert_ne!(stacks.insert(stack(12, IMAGE, &[frame(0x1000, 2, 0x10)]), of_object), name);
        assert_eq!([10, 11].map(|id| stacks.name(StackId(id))), [name; 2]);
        let counts = HashMap::from([(StackId(10), 3), (StackId(11), 4), (StackId(99), 5)]);
        assert_eq!(stacks.totals(IMAGE, &counts)(name), 7);
    }

    #[test]
    fn the_same_stack_in_two_processes_has_one_name() {
        let mut stacks = Stacks::default();
        let name = stacks.insert(stack(10, IMAGE, &[frame(0x1000, 1, 0x10)]), of_object);
        assert_eq!(stacks.insert(stack(20, ImageId(2), &[frame(0x9000, 1, 0x10)]), of_object), name);
        assert_eq!(stacks.get(ImageId(2), name).map(|stack| stack.frames[0].address), Some(0x9000));
        assert_eq!(stacks.forget(ImageId(2)), [StackId(20)]);
        assert!(stacks.get(IMAGE, name).is_some() && stacks.get(ImageId(2), name).is_none());
    }

    #[test]
    fn a_copy_counts_once_when_it_is_unwound() {
        let mut stacks = Stacks::default();
        let registers = crate::model::CopiedRegisters { ip: 1, sp: 2, bp: 3 };
        let copy =
            StackCopy { id: StackId(30), image: IMAGE, time: Timestamp(5), registers, size: 9, bytes: Box::new([]) };
        stacks.keep(copy);
        stacks.unwind_copies(|_| None, of_object);
        assert_eq!(stacks.name(StackId(30)), StackId(30));
        stacks.unwind_copies(|copy| Some(stack(copy.id.0, copy.image, &[frame(0x1000, 1, 0x10)])), of_object);
        let name = stacks.name(StackId(30));
        assert_eq!(stacks.totals(IMAGE, &HashMap::new())(name), 1);
        stacks.unwind_copies(|_| unreachable!("it is gone"), of_object);
    }

    #[test]
    fn of_those_that_are_not_told_anew_stacks_stay_that_hold_something_and_all_counts() {
        let mut stacks = Stacks::default();
        let names = [(10, 0x10), (12, 0x12), (14, 0x14)]
            .map(|(id, offset)| stacks.insert(stack(id, IMAGE, &[frame(id, 1, offset)]), of_object));
        stacks.begin_turn();
        stacks.insert(stack(14, IMAGE, &[frame(14, 1, 0x14)]), of_object);
        [10, 12, 14].iter().for_each(|id| stacks.count(StackId(*id), *id));
        stacks.forget_idle(&HashSet::from([StackId(12)]));
        assert_eq!(names.map(|name| stacks.get(IMAGE, name).is_some()), [false, true, true]);
        // Its own name is not known before it is told anew.
        assert_eq!(stacks.name(StackId(10)), StackId(10));
        assert_eq!(stacks.insert(stack(10, IMAGE, &[frame(10, 1, 0x10)]), of_object), names[0]);
        let counts = HashMap::from([(StackId(10), 1), (StackId(12), 1)]);
        assert_eq!(names.map(stacks.totals(IMAGE, &counts)), [11, 13, 14]);
    }

    #[test]
    fn an_unwound_copy_stays() {
        let mut stacks = Stacks::default();
        let name = stacks.insert(stack(0x80 | IS_COPY, IMAGE, &[frame(0x1000, 1, 0x10)]), of_object);
        stacks.begin_turn();
        stacks.forget_idle(&HashSet::new());
        assert_eq!(stacks.name(StackId(0x80 | IS_COPY)), name);
        assert_eq!(stacks.len(), 1);
    }
}
