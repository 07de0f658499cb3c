//! The stacks that are known, under the names that the kernel side uses and under their own.
//!
//! The kernel side names a stack by a hash of addresses, which is quick to make and soon void: another process, another
//! run, or code mapped anew gives another name to the same stack; and a stack that it could not unwind has a name of its
//! own for each allocation. A stack's own name is a hash of what its frames are: objects and offsets in them.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
};

use memprof_common::IS_COPY;

use crate::model::{ImageId, ObjectId, RawFrame, RawStack, Sampling, StackCopy, StackCounts, StackId};

/// How many stacks are kept of those that hold nothing: those where most was allocated.
const BUSIEST: usize = 2048;

/// How many copies may hold nothing: more are forgotten.
const MOST_IDLE_COPIES: usize = 4096;

/// All stacks of all images that hold something, or that the kernel side knows; and those where most was allocated.
#[derive(Debug, Default)]
pub(super) struct Stacks {
    /// By the kernel side's name. Images are part of that.
    names: HashMap<StackId, Known>,
    /// By image and own name.
    stacks: HashMap<(ImageId, StackId), RawStack>,
    /// To be unwound, the oldest first.
    copies: VecDeque<StackCopy>,
    /// Those that could not be, for want of what is mapped there.
    unready_copies: Vec<StackCopy>,
    sampling: Sampling,
    /// What was allocated that the kernel side does not count, or not any more, by the stack's own name, also where the stack is
    /// forgotten.
    counted: Counted,
    turn: u32,
    copies_told: CopiesTold,
    /// Whether the size of a copy is what it counts as.
    sizes_are_units: bool,
}

/// What was allocated, by image and a stack's own name.
pub(super) type Counted = HashMap<ImageId, HashMap<StackId, StackCounts>>;

/// What a name of the kernel side's stands for.
#[derive(Clone, Copy, Debug)]
struct Known {
    image: ImageId,
    name: StackId,
    /// In which it was last told; of a copy, the [turn of copies](CopiesTold::turn).
    turn: u32,
}

/// Copies have a name each, and are never told anew, so what is forgotten of them is not a matter of the kernel side's turns.
#[derive(Debug, Default)]
struct CopiesTold {
    /// Goes on each time that some are forgotten.
    turn: u32,
    /// In this turn.
    number: usize,
    /// How many held something when it began.
    held: usize,
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
        let turn = if is_copy(stack.id) { self.copies_told.next() } else { self.turn };
        self.names.insert(stack.id, Known { image: stack.image, name, turn });
        self.stacks.entry((stack.image, name)).or_insert(stack);
        name
    }

    /// Keeps a copy until it can be unwound.
    pub(super) fn keep(&mut self, copy: StackCopy) {
        self.copies.push_back(copy);
    }

    /// Lets those copies be tried again that could not be unwound before.
    pub(super) fn retry_copies(&mut self) {
        self.unready_copies.drain(..).rev().for_each(|copy| self.copies.push_front(copy));
    }

    /// Tries `most` copies that have not been tried yet: unwinds those that `unwind` can, and forgets them. Says how many are left to
    /// be tried.
    pub(super) fn unwind_copies(
        &mut self,
        most: usize,
        mut unwind: impl FnMut(&StackCopy) -> Option<RawStack>,
        fingerprint: impl Fn(ObjectId) -> u64,
    ) -> usize {
        for _ in 0..most {
            let Some(copy) = self.copies.pop_front() else { break };
            match unwind(&copy) {
                Some(stack) => {
                    let id = stack.id;
                    let counts = if self.sizes_are_units {
                        StackCounts { units: copy.size, ..StackCounts::default() }
                    } else {
                        self.sampling.counts(copy.size)
                    };
                    self.insert(stack, &fingerprint);
                    self.count(id, counts);
                }
                None => self.unready_copies.push(copy),
            }
        }
        self.copies.len()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.stacks.len()
    }

    /// Whose copies could not be unwound yet.
    pub(super) fn images_of_copies(&self) -> BTreeSet<ImageId> {
        self.copies.iter().chain(&self.unready_copies).map(|copy| copy.image).collect()
    }

    /// A stack's own name, by the kernel side's; that itself where it is not known.
    pub(super) fn name(&self, id: StackId) -> StackId {
        self.names.get(&id).map_or(id, |known| known.name)
    }

    /// A stack of an image, by its own name.
    pub(super) fn get(&self, image: ImageId, name: StackId) -> Option<&RawStack> {
        self.stacks.get(&(image, name))
    }

    /// All that was counted, by image and own name. `counts` are the kernel side's, `lasting` is what heaps have counted of late.
    pub(super) fn totals(
        &self,
        counts: &HashMap<StackId, StackCounts>,
        lasting: impl Iterator<Item = (StackId, i64)>,
    ) -> Counted {
        let mut totals = self.counted.clone();
        let lasting = lasting.map(|(id, lasting)| (id, StackCounts { lasting, ..StackCounts::default() }));
        for (id, counts) in counts.iter().map(|(id, counts)| (*id, *counts)).chain(lasting) {
            if let Some(known) = self.names.get(&id) {
                *totals.entry(known.image).or_default().entry(known.name).or_default() += counts;
            }
        }
        totals
    }

    /// The kernel side knows no stack any more: from here on, what is in use is told anew.
    pub(super) fn begin_turn(&mut self) {
        self.turn += 1;
    }

    /// In which turn of the kernel side's tables it is: counts that were read in another may have been taken in since.
    pub(super) fn turn(&self) -> u32 {
        self.turn
    }

    /// Counts allocations of a stack that the kernel side counts no more.
    pub(super) fn count(&mut self, id: StackId, counts: StackCounts) {
        // A stack that is not known is of an image that is over.
        if let Some(known) = self.names.get(&id) {
            *self.counted.entry(known.image).or_default().entry(known.name).or_default() += counts;
        }
    }

    /// Whether so many copies have come that it is time to [forget](Self::forget_idle) those that hold nothing.
    pub(super) fn has_many_copies(&self) -> bool {
        self.copies_told.number >= MOST_IDLE_COPIES.max(self.copies_told.held)
    }

    /// Drops the stacks that have not been told in this turn, of copies in this turn and the one before, unless blocks are `held` there,
    /// or many were allocated. Their counts stay.
    pub(super) fn forget_idle(&mut self, held: &HashSet<StackId>) {
        let (turn, turn_of_copies) = (self.turn, self.copies_told.turn);
        self.names.retain(|id, known| {
            // A copy's block may be out of sight, within a call of `realloc` that is going to fail; or not be read yet.
            let is_new = if is_copy(*id) { known.turn + 1 >= turn_of_copies } else { known.turn == turn };
            is_new || held.contains(id)
        });
        self.copies_told.forgotten(held.iter().filter(|id| is_copy(**id)).count());
        let named: HashSet<_> = self.names.values().map(|known| (known.image, known.name)).collect();
        let busiest = self.busiest(BUSIEST);
        self.stacks.retain(|stack, _| named.contains(stack) || busiest.contains(stack));
    }

    /// Those stacks where most was allocated, by number and by bytes.
    fn busiest(&self, most: usize) -> HashSet<(ImageId, StackId)> {
        let all = self.counted.iter().flat_map(|(image, counted)| {
            counted.iter().map(|(name, counts)| ((*image, *name), [counts.units, counts.bytes]))
        });
        let mut all: Vec<_> = all.filter(|(stack, _)| self.stacks.contains_key(stack)).collect();
        let mut busiest = HashSet::new();
        for rank in [0, 1] {
            all.sort_unstable_by_key(|(stack, counts)| (Reverse(counts[rank]), *stack));
            busiest.extend(all.iter().take(most).map(|(stack, _)| *stack));
        }
        busiest
    }

    /// Drops the stacks of an image that is over; returns the kernel side's names.
    pub(super) fn forget(&mut self, image: ImageId) -> Vec<StackId> {
        self.stacks.retain(|(of, _), _| *of != image);
        self.counted.remove(&image);
        self.copies.retain(|copy| copy.image != image);
        self.unready_copies.retain(|copy| copy.image != image);
        self.names.extract_if(|_, known| known.image == image).map(|(id, _)| id).collect()
    }
}

impl CopiesTold {
    /// The turn of one more.
    fn next(&mut self) -> u32 {
        self.number += 1;
        self.turn
    }

    /// So many hold something.
    fn forgotten(&mut self, held: usize) {
        *self = Self { turn: self.turn + 1, number: 0, held };
    }
}

fn is_copy(id: StackId) -> bool {
    id.0 & IS_COPY != 0
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

    fn counts(allocations: u64) -> StackCounts {
        StackCounts { units: allocations, bytes: 10 * allocations, lasting: 0 }
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
        let counts = HashMap::from([(StackId(10), counts(3)), (StackId(11), counts(4)), (StackId(99), counts(5))]);
        let lasting = [(StackId(10), 1), (StackId(11), 1), (StackId(99), 1)];
        let totals = stacks.totals(&counts, lasting.into_iter());
        let expected = StackCounts { units: 7, bytes: 70, lasting: 2 };
        assert_eq!(totals, HashMap::from([(IMAGE, HashMap::from([(name, expected)]))]));
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
        assert_eq!(stacks.unwind_copies(1, |_| None, of_object), 0);
        assert_eq!((stacks.name(StackId(30)), stacks.images_of_copies()), (StackId(30), BTreeSet::from([IMAGE])));
        stacks.unwind_copies(1, |_| unreachable!("it was tried"), of_object);
        stacks.retry_copies();
        stacks.unwind_copies(1, |copy| Some(stack(copy.id.0, copy.image, &[frame(0x1000, 1, 0x10)])), of_object);
        let name = stacks.name(StackId(30));
        let expected = StackCounts { units: 1, bytes: 9, lasting: 0 };
        assert_eq!(stacks.totals(&HashMap::new(), std::iter::empty())[&IMAGE][&name], expected);
        stacks.retry_copies();
        stacks.unwind_copies(1, |_| unreachable!("it is gone"), of_object);
        assert_eq!(stacks.images_of_copies(), BTreeSet::new());
    }

    #[test]
    fn copies_are_unwound_in_their_order_and_no_more_than_asked_for() {
        let mut stacks = Stacks::default();
        let registers = crate::model::CopiedRegisters { ip: 1, sp: 2, bp: 3 };
        for id in 0..5 {
            let (time, bytes) = (Timestamp(id), Box::new([]));
            stacks.keep(StackCopy { id: StackId(id), image: IMAGE, time, registers, size: 9, bytes });
        }
        let mut tried = Vec::new();
        let mut try_two = |stacks: &mut Stacks| {
            let none = |copy: &StackCopy| {
                tried.push(copy.id.0);
                None
            };
            stacks.unwind_copies(2, none, of_object)
        };
        assert_eq!([0; 4].map(|_| try_two(&mut stacks)), [3, 1, 0, 0]);
        stacks.retry_copies();
        assert_eq!(try_two(&mut stacks), 3);
        assert_eq!(tried, [0, 1, 2, 3, 4, 0, 1]);
    }

    #[test]
    fn of_those_that_are_not_told_anew_stacks_stay_that_hold_something_and_all_counts() {
        let mut stacks = Stacks::default();
        let names = [(10, 0x10), (12, 0x12), (14, 0x14)]
            .map(|(id, offset)| stacks.insert(stack(id, IMAGE, &[frame(id, 1, offset)]), of_object));
        stacks.begin_turn();
        stacks.insert(stack(14, IMAGE, &[frame(14, 1, 0x14)]), of_object);
        [10, 12, 14].iter().for_each(|id| stacks.count(StackId(*id), counts(*id)));
        stacks.forget_idle(&HashSet::from([StackId(12)]));
        // What 10 names is among the busiest, of three.
        assert_eq!(names.map(|name| stacks.get(IMAGE, name).is_some()), [true; 3]);
        // Its own name is not known before it is told anew.
        assert_eq!(stacks.name(StackId(10)), StackId(10));
        assert_eq!(stacks.insert(stack(10, IMAGE, &[frame(10, 1, 0x10)]), of_object), names[0]);
        let counts = HashMap::from([(StackId(10), counts(1)), (StackId(12), counts(1))]);
        let totals = stacks.totals(&counts, std::iter::empty());
        assert_eq!(names.map(|name| totals[&IMAGE][&name].units), [11, 13, 14]);
    }

    #[test]
    fn of_those_that_hold_nothing_the_busiest_stay() {
        let mut stacks = Stacks::default();
        // Even, since copies have odd ones.
        let ids = (5..5 + 2 * BUSIEST as u64).map(|number| 2 * number);
        let names: Vec<_> =
            ids.clone().map(|id| stacks.insert(stack(id, IMAGE, &[frame(id, 1, id)]), of_object)).collect();
        ids.for_each(|id| stacks.count(StackId(id), counts(id)));
        stacks.begin_turn();
        stacks.forget_idle(&HashSet::new());
        let stays = |name: &StackId| stacks.get(IMAGE, *name).is_some();
        assert_eq!((names.iter().take(BUSIEST).any(stays), names.iter().skip(BUSIEST).all(stays)), (false, true));
        let totals = stacks.totals(&HashMap::new(), std::iter::empty());
        assert_eq!(totals[&IMAGE].len(), 2 * BUSIEST);
    }

    #[test]
    fn unwound_copies_stay_while_they_hold_something_and_for_a_while() {
        let mut stacks = Stacks::default();
        let copy = |number: u64| StackId((2 * number) | IS_COPY);
        let tell = |stacks: &mut Stacks, number: u64| {
            stacks.insert(stack(copy(number).0, IMAGE, &[frame(0x1000, 1, number)]), of_object)
        };
        let names = [1, 2].map(|number| tell(&mut stacks, number));
        let held = HashSet::from([copy(2)]);
        for _ in 0..2 {
            stacks.begin_turn();
            stacks.forget_idle(&held);
            assert_eq!([1, 2].map(|number| stacks.name(copy(number))), names);
        }
        stacks.forget_idle(&held);
        assert_eq!([1, 2].map(|number| stacks.name(copy(number))), [copy(1), names[1]]);
        stacks.forget_idle(&HashSet::new());
        assert_eq!(stacks.name(copy(2)), copy(2));
    }

    #[test]
    fn however_many_copies_come_few_are_kept_that_hold_nothing() {
        let mut stacks = Stacks::default();
        for number in 0..10 * MOST_IDLE_COPIES as u64 {
            stacks.insert(stack((2 * number) | IS_COPY, IMAGE, &[frame(0x1000, 1, 1)]), of_object);
            if stacks.has_many_copies() {
                stacks.forget_idle(&HashSet::new());
            }
            assert!(stacks.names.len() <= 3 * MOST_IDLE_COPIES);
        }
    }
}
