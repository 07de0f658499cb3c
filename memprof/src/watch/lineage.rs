//! Who descends from whom.

use std::collections::HashMap;

use crate::model::Sighting;

/// The parents of the processes seen at one look.
pub(super) struct Lineage(HashMap<u32, u32>);

impl Lineage {
    pub(super) fn of(sightings: &[Sighting]) -> Self {
        Self(sightings.iter().map(|sighting| (sighting.pid, sighting.parent)).collect())
    }

    /// Whether a process is `ancestor` or descends from it.
    pub(super) fn descends(&self, pid: u32, ancestor: u32) -> bool {
        let mut pid = pid;
        // Processes are seen one after the other, and where a pid is taken again meanwhile, there could be a ring.
        for _ in 0..=self.0.len() {
            match self.0.get(&pid) {
                _ if pid == ancestor => return true,
                Some(parent) => pid = *parent,
                None => return false,
            }
        }
        false
    }
}
