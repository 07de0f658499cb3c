//! A difference as difffolded.pl writes it: a stack, what it held before, and what it holds after.

use std::{collections::BTreeMap, io};

use super::folded::folded_stack;
use crate::model::Difference;

/// Bytes outstanding on both sides.
pub(super) type BeforeAndAfter = [u64; 2];

/// Writes a line for each distinct stack that holds bytes on a side, sorted: `main;serve;remember 4096 8192`.
pub(super) fn write(difference: &Difference, output: &mut dyn io::Write) -> io::Result<()> {
    folded(difference).iter().try_for_each(|(stack, [before, after])| writeln!(output, "{stack} {before} {after}"))
}

/// Outstanding bytes by stack.
pub(super) fn folded(difference: &Difference) -> BTreeMap<String, BeforeAndAfter> {
    let mut stacks = BTreeMap::new();
    for process in &difference.processes {
        let root = (difference.processes.len() > 1).then_some(process.command.as_str());
        for stack in &process.stacks {
            let both = [stack.before, stack.after].map(|held| held.outstanding.bytes);
            if both != [0; 2] {
                let sums: &mut BeforeAndAfter = stacks.entry(folded_stack(root, &stack.frames)).or_default();
                sums.iter_mut().zip(both).for_each(|(sum, bytes)| *sum = sum.saturating_add(bytes));
            }
        }
    }
    stacks
}
