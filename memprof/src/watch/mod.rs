//! Which processes of the machine are watched, and what is known of each, from one look at the machine to the next. Pure: looks
//! come in as lists of sightings, and nothing is asked of a process.

mod lineage;
mod rank;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, hash_map::Entry};

use self::lineage::Lineage;
pub use self::rank::{Ranked, rank};
use crate::model::{Memory, Sighting};

/// The processes that are watched, each with a history `H` of its own.
///
/// A process is its pid and the time when it began: whoever gets a pid anew begins afresh. What is gone is forgotten at the next look,
/// so that there are no more histories than processes, however many come and go.
#[derive(Debug)]
pub struct Watch<H> {
    own: u32,
    parent: Option<u32>,
    watched: HashMap<u32, Seen<H>>,
}

/// What is known of a process.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen<H> {
    /// When it was last looked at.
    pub sighting: Sighting,
    /// Its history.
    pub history: H,
}

impl<H: Default> Watch<H> {
    /// Nothing seen yet. The process with the pid `own`, and those that descend from it, are left out. With a `parent`, only that
    /// process and those that descend from it are watched.
    pub fn new(own: u32, parent: Option<u32>) -> Self {
        Self { own, parent, watched: HashMap::new() }
    }

    /// Takes in a look at the machine. `note` adds to the history of each process that is watched.
    pub fn take(&mut self, sightings: &[Sighting], mut note: impl FnMut(&mut H, &Memory)) {
        let lineage = Lineage::of(sightings);
        let mut before = std::mem::take(&mut self.watched);
        for sighting in sightings {
            let known = before.remove(&sighting.pid).filter(|known| known.sighting.began == sighting.began);
            // Who was let in stays, also when what connected it to its ancestor is gone.
            if known.is_none() && !self.lets_in(sighting.pid, &lineage) {
                continue;
            }
            let mut history = known.map(|known| known.history).unwrap_or_default();
            note(&mut history, &sighting.memory);
            if let Entry::Vacant(place) = self.watched.entry(sighting.pid) {
                place.insert(Seen { sighting: *sighting, history });
            }
        }
    }

    /// Those that were there at the last look, by their pids.
    pub fn seen(&self) -> Vec<&Seen<H>> {
        let mut seen: Vec<_> = self.watched.values().collect();
        seen.sort_unstable_by_key(|seen| seen.sighting.pid);
        seen
    }

    fn lets_in(&self, pid: u32, lineage: &Lineage) -> bool {
        let is_of_parent = self.parent.is_none_or(|parent| lineage.descends(pid, parent));
        is_of_parent && !lineage.descends(pid, self.own)
    }
}
