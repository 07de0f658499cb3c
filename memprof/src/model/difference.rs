//! What has changed between two reports, stack by stack.

use std::time::Duration;

use super::{Frame, Losses, Outstanding};

/// One of the two reports, in short.
#[derive(Clone, Debug, PartialEq)]
pub struct Side {
    /// Where it comes from: the name of its file.
    pub name: String,
    /// When it was made.
    pub time: jiff::Timestamp,
    /// How long had been observed by then.
    pub elapsed: Duration,
    /// Bytes allocated for each sampling point; nothing if all figures are exact.
    pub sample_bytes: Option<u64>,
    /// What was lost.
    pub losses: Losses,
}

/// What stands on one side. Nothing of it is negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    /// Not freed.
    pub outstanding: Outstanding,
    /// Over the observed time, freed since or not.
    pub allocated: Outstanding,
}

impl Held {
    /// Whether nothing was ever there.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Adds, and stays at the largest number there is.
    pub fn add(&mut self, other: Self) {
        self.outstanding.add_saturating(other.outstanding);
        self.allocated.add_saturating(other.allocated);
    }
}

/// What came (positive) or went (negative).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Of outstanding bytes.
    pub bytes: i64,
    /// Of outstanding allocations.
    pub allocations: i64,
    /// Of bytes allocated in all.
    pub allocated_bytes: i64,
    /// Of allocations made in all.
    pub allocations_made: i64,
}

impl Change {
    /// From one side to the other.
    pub fn between(before: &Held, after: &Held) -> Self {
        // Of what is far beyond any machine, the nearest number that there is.
        let change = |before: u64, after: u64| {
            let change = i128::from(after) - i128::from(before);
            change.clamp(i64::MIN.into(), i64::MAX.into()) as i64
        };
        Self {
            bytes: change(before.outstanding.bytes, after.outstanding.bytes),
            allocations: change(before.outstanding.allocations, after.outstanding.allocations),
            allocated_bytes: change(before.allocated.bytes, after.allocated.bytes),
            allocations_made: change(before.allocated.allocations, after.allocated.allocations),
        }
    }
}

/// One stack. Where it is on one side only, the other holds nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct StackDifference {
    /// On the first side.
    pub before: Held,
    /// On the second.
    pub after: Held,
    /// From the allocator's caller outwards, as in the second report if it is there. Empty where the stack was lost.
    pub frames: Vec<Frame>,
}

impl StackDifference {
    /// From before to after.
    pub fn change(&self) -> Change {
        Change::between(&self.before, &self.after)
    }
}

/// A process of each side; or several, where they have one command.
#[derive(Clone, Debug, PartialEq)]
pub struct ProcessDifference {
    /// Its command name, on the second side if it is there.
    pub command: String,
    /// On the first side; none if it is not there.
    pub pids_before: Vec<u32>,
    /// On the second side.
    pub pids_after: Vec<u32>,
    /// Of all stacks, shown or not.
    pub before: Held,
    /// Likewise.
    pub after: Held,
    /// Those that are shown, in the order asked for.
    pub stacks: Vec<StackDifference>,
    /// How many stacks differ, shown or not.
    pub changed_stacks: usize,
}

impl ProcessDifference {
    /// From before to after.
    pub fn change(&self) -> Change {
        Change::between(&self.before, &self.after)
    }
}

/// Why the two reports cannot be compared, or not without care.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DifferenceWarning {
    /// One has exact figures and the other estimates, or both have estimates of different precision.
    #[error(
        "{before} and {after} were not sampled alike: what seems to have changed may be by how much an estimate is off"
    )]
    SampledOtherwise {
        /// Name of the first.
        before: String,
        /// Name of the second.
        after: String,
    },
    /// Both were sampled.
    #[error("both profiles are samples: a small change may be by chance")]
    Sampled,
    /// Something was lost.
    #[error("{name}: {allocations} allocations, {frees} frees and {stacks} stacks were lost while it was recorded")]
    Lost {
        /// Of which.
        name: String,
        /// How many of them.
        allocations: u64,
        /// How many of them.
        frees: u64,
        /// How many of them.
        stacks: u64,
    },
    /// They are not of the same program.
    #[error("{before} is of {program_before} and {after} is of {program_after}: little of it can be compared")]
    OtherProgram {
        /// Name of the first.
        before: String,
        /// Commands.
        program_before: String,
        /// Name of the second.
        after: String,
        /// Commands.
        program_after: String,
    },
    /// They are of two builds of one program.
    #[error("{module} is not the same build in both: its stacks are compared by the names of functions, not by lines")]
    OtherBuild {
        /// Path.
        module: String,
    },
    /// Stacks are missing on a side.
    #[error("{name} does not have all stacks (it was saved with --top): those that seem new or gone may be neither")]
    Cut {
        /// Of which.
        name: String,
    },
    /// One process, from two moments on.
    #[error(
        "process {pid} was observed from different moments on ({before}, {after}): what was allocated before is in neither, and what was \
         allocated between the two only in one"
    )]
    OtherStart {
        /// The process.
        pid: u32,
        /// Name of the first.
        before: String,
        /// Name of the second.
        after: String,
    },
    /// The first is the later one.
    #[error("{before} was made after {after}")]
    Backwards {
        /// Name of the first.
        before: String,
        /// Name of the second.
        after: String,
    },
    /// What a side says of itself.
    #[error("{name}: {warning}")]
    OfSide {
        /// Of which.
        name: String,
        /// In its words.
        warning: String,
    },
}

/// Order of stacks, those that grew most first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum DifferenceSort {
    /// Growth of outstanding bytes.
    #[default]
    Bytes,
    /// Growth of the number of outstanding allocations.
    Allocations,
    /// Allocations made there in all: how many more.
    Churn,
}

/// What of a difference is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DifferenceSelection {
    /// Most stacks shown of each process; `None` for all.
    pub top: Option<usize>,
    /// Their order.
    pub sort: DifferenceSort,
    /// Whether stacks are shown that are on both sides the same.
    pub unchanged: bool,
}

/// What has changed from one report to another.
#[derive(Clone, Debug, PartialEq)]
pub struct Difference {
    /// The first.
    pub before: Side,
    /// The second.
    pub after: Side,
    /// What the reader should know.
    pub warnings: Vec<DifferenceWarning>,
    /// Those that changed most, first.
    pub processes: Vec<ProcessDifference>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_has_its_sign_and_never_overflows() {
        let held = |bytes, allocations| Outstanding { bytes, allocations };
        let before = Held { outstanding: held(100, 2), allocated: held(u64::MAX, 0) };
        let after = Held { outstanding: held(40, 5), allocated: held(0, u64::MAX) };
        let change = Change::between(&before, &after);
        assert_eq!((change.bytes, change.allocations), (-60, 3));
        assert_eq!((change.allocated_bytes, change.allocations_made), (i64::MIN, i64::MAX));
        let mut sum = before;
        sum.add(after);
        assert_eq!((sum.outstanding, sum.allocated), (held(140, 7), held(u64::MAX, u64::MAX)));
    }
}
