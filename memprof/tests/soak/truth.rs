//! What the traffic says that it has done, and what a report says of it, both by site and path.

use std::collections::BTreeMap;

use crate::support::{ProcessReport, StackReport, Target};

/// A site, and the path by which it was called.
pub type Key = (String, u64);

/// How many turns a path has.
const PATH_BITS: usize = 3;

/// What was allocated at one key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    pub held: Amount,
    /// Freed since or not.
    pub allocated: Amount,
}

/// Blocks, and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amount {
    pub blocks: u64,
    pub bytes: u64,
}

impl Amount {
    pub fn new(blocks: u64, bytes: u64) -> Self {
        Self { blocks, bytes }
    }

    /// What there is more than in the other, of each.
    pub fn surplus(self, other: Self) -> Self {
        Self::new(self.blocks.saturating_sub(other.blocks), self.bytes.saturating_sub(other.bytes))
    }

    pub fn is_nothing(self) -> bool {
        self == Self::default()
    }
}

impl std::ops::AddAssign for Amount {
    fn add_assign(&mut self, other: Self) {
        self.blocks += other.blocks;
        self.bytes += other.bytes;
    }
}

impl std::iter::Sum for Amount {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::default(), |mut sum, amount| {
            sum += amount;
            sum
        })
    }
}

/// A moment of which the traffic knows that it lies between the two, in seconds of the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    pub after: f64,
    pub before: f64,
}

/// One key, as the traffic has it.
#[derive(Clone, Copy, Debug)]
pub struct OfKey {
    pub sums: Sums,
    /// When the oldest and the youngest block were allocated, of those that are held.
    pub ages: Option<(Moment, Moment)>,
}

/// Processes that the traffic has forked, and that have ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Children {
    pub processes: u64,
    pub held: Amount,
    pub allocated: Amount,
    pub freed: Amount,
}

/// All that the traffic has done since it began, told while it rests.
#[derive(Debug)]
pub struct Truth {
    pub keys: BTreeMap<Key, OfKey>,
    pub children: Children,
    /// At least the bytes that were live at any moment.
    pub most_live: u64,
}

impl Truth {
    /// Reads what it says after `pause` or `end`.
    pub fn hear(target: &mut Target) -> Self {
        let mut keys = BTreeMap::new();
        loop {
            let line = target.hear();
            let (name, figures) =
                line.split_once(' ').unwrap_or_else(|| panic!("the traffic has ended, and said {line:?}"));
            let figures: Vec<u64> = figures.split(' ').map(|figure| figure.parse().unwrap()).collect();
            if name == "all" {
                let [processes, bytes, blocks, allocations, allocated, frees, freed, most_live] = figures[..] else {
                    panic!("{line:?}")
                };
                let children = Children {
                    processes,
                    held: Amount::new(blocks, bytes),
                    allocated: Amount::new(allocations, allocated),
                    freed: Amount::new(frees, freed),
                };
                return Self { keys, children, most_live };
            }
            let [path, allocations, allocated, frees, freed, times @ ..] = &figures[..] else { panic!("{line:?}") };
            let sums = Sums {
                held: Amount::new(allocations - frees, allocated - freed),
                allocated: Amount::new(*allocations, *allocated),
            };
            let [oldest_after, oldest_before, youngest_after, youngest_before] = *times else { panic!("{line:?}") };
            let oldest = Moment { after: seconds(oldest_after), before: seconds(oldest_before) };
            let youngest = Moment { after: seconds(youngest_after), before: seconds(youngest_before) };
            let ages = (oldest_after > 0).then_some((oldest, youngest));
            keys.insert((name.to_owned(), *path), OfKey { sums, ages });
        }
    }

    pub fn held(&self) -> Amount {
        self.keys.values().map(|key| key.sums.held).sum()
    }

    pub fn allocated(&self) -> Amount {
        self.keys.values().map(|key| key.sums.allocated).sum()
    }
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 * 1e-9
}

/// One key, as a report has it: the sums of all stacks that lead through it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Reported {
    pub sums: Sums,
    /// Of the oldest and the youngest block, in seconds; nothing if no block is held.
    pub ages: Option<(f64, f64)>,
}

impl Reported {
    fn add(&mut self, stack: &StackReport<'_>) {
        let sums = sums_of(stack);
        self.sums.held += sums.held;
        self.sums.allocated += sums.allocated;
        if sums.held.blocks > 0 {
            let age = |name: &str| stack.0["ages"][name].as_f64().unwrap();
            let (oldest, youngest) = (age("oldest_seconds"), age("youngest_seconds"));
            let known = self.ages.unwrap_or((oldest, youngest));
            self.ages = Some((known.0.max(oldest), known.1.min(youngest)));
        }
    }
}

/// What a report says of the traffic.
#[derive(Debug, Default)]
pub struct Account {
    pub keys: BTreeMap<Key, Reported>,
    /// Stacks that are not known.
    pub unknown: Sums,
    /// What libc allocates by itself: for threads and libraries.
    pub others: Sums,
}

impl Account {
    pub fn of(process: &ProcessReport<'_>) -> Self {
        let mut account = Self::default();
        for stack in process.stacks() {
            let functions: Vec<_> = stack.functions().into_iter().map(Option::unwrap_or_default).collect();
            let of_others = if functions.is_empty() { &mut account.unknown } else { &mut account.others };
            match key_of(&functions) {
                Some(key) => account.keys.entry(key).or_default().add(&stack),
                None => {
                    let sums = sums_of(&stack);
                    of_others.held += sums.held;
                    of_others.allocated += sums.allocated;
                }
            }
        }
        account
    }

    /// All of its stacks.
    pub fn allocated(&self) -> Amount {
        let known = self.keys.values().map(|key| key.sums.allocated);
        known.chain([self.unknown.allocated, self.others.allocated]).sum()
    }
}

fn sums_of(stack: &StackReport<'_>) -> Sums {
    let (bytes, blocks) = stack.outstanding();
    let allocated = Amount::new(stack.total_allocations(), stack.0["total_bytes"].as_u64().unwrap());
    Sums { held: Amount::new(blocks, bytes), allocated }
}

/// The key of a stack that leads through a site. A site is called by its steps: `step`, and then in turn the function that took the turn
/// and its caller, `step`.
fn key_of(functions: &[String]) -> Option<Key> {
    let site = functions.iter().position(|function| function.starts_with("site_"))?;
    if functions[site].ends_with("_library") {
        assert_eq!(functions[0], "library_allocate", "{functions:?}");
    }
    let steps = &functions[site + 1..];
    assert!(steps.len() > 2 * PATH_BITS && steps[0] == "step", "{functions:?}");
    let turns = steps[1..=2 * PATH_BITS].chunks(2).rev();
    let path = turns.fold(0, |path, turn| {
        assert!(["left", "right"].contains(&turn[0].as_str()) && turn[1] == "step", "{functions:?}");
        path << 1 | u64::from(turn[0] == "right")
    });
    Some((functions[site].clone(), path))
}
