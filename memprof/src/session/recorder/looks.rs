//! Looks at what is outstanding and at memory, from time to time: verdicts are read from what they saw.

use std::{
    collections::BTreeSet,
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use super::{Recorder, now};
use crate::{
    heap::Heap,
    model::{Outstanding, Timestamp},
    session::observed::Life,
    target,
};

/// Time from one look to the next at first, and later.
const BETWEEN_FIRST_LOOKS: Duration = Duration::from_secs(1);
const BETWEEN_LOOKS: Duration = Duration::from_secs(10);

/// How many looks fit into the time so far, while the time between them grows.
const LOOKS: u32 = 64;

/// No more than one part of so many of the time is for looks.
const PART_OF_TIME: u32 = 50;

/// When to look next.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Looks {
    last: Timestamp,
    next: Timestamp,
}

impl Recorder {
    /// When [`Self::look_if_due`] is to be called next, after a drain.
    pub(in crate::session) fn looks_in(&self) -> Duration {
        self.looks.next.since(now())
    }

    /// Looks if it is time to.
    pub(in crate::session) fn look_if_due(&mut self) {
        if self.looks_in().is_zero() {
            self.look();
        }
    }

    /// Takes what is outstanding now, and how much memory there is.
    pub(super) fn look(&mut self) {
        let (time, earlier) = (now(), self.looks.last.max(self.started));
        let nothing = Heap::new();
        let current: BTreeSet<_> = self.processes.iter().map(|process| process.image).collect();
        self.histories.retain(|image| current.contains(&image));
        for process in &self.processes {
            // It is memprof's own child still, or nothing happens to it any more.
            if process.is_about_to_start || process.has_been_looked_at_last {
                continue;
            }
            let heap = self.heaps.get(&process.image).unwrap_or(&nothing);
            let memory = if process.life == Life::Running { target::memory(process.pid) } else { None };
            let stacks = heap.outstanding_by_stack();
            let stacks = stacks.map(|(stack, Outstanding { bytes, .. })| (self.stacks.name(stack), bytes));
            let outstanding = heap.outstanding().bytes;
            self.histories.look(process.image, earlier, time, (outstanding, memory), stacks);
        }
        self.processes.iter_mut().for_each(|process| process.has_been_looked_at_last = process.life == Life::Settled);
        self.plan_look(time);
    }

    /// Irregularly, so that nothing that goes up and down regularly hides from looks or seems slower than it is.
    fn plan_look(&mut self, time: Timestamp) {
        let took = now().since(time);
        let pause = (time.since(self.started) / LOOKS).clamp(BETWEEN_FIRST_LOOKS, BETWEEN_LOOKS);
        let random = RandomState::new().hash_one(0) as u32;
        let pause = pause.max(took * PART_OF_TIME).mul_f64(0.5 + f64::from(random) / f64::from(u32::MAX));
        self.looks = Looks { last: time, next: now().after(pause) };
    }
}
