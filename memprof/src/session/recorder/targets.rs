//! Which targets are in use, offered to processes that are yet to be forked, or free.

use memprof_common::{MAX_SPARES, MAX_TARGETS};

use crate::kernel::TargetId;

/// The last is kept for measuring what probes cost.
const MOST: u32 = MAX_TARGETS - 1;

/// All targets.
#[derive(Debug, Default)]
pub(super) struct Targets {
    /// From here on none was ever in use.
    unused: u32,
    /// Those that are over: the one that has been so for longest comes first.
    free: std::collections::VecDeque<TargetId>,
    offered: u32,
}

impl Targets {
    /// One that is not in use. Nothing if all are.
    pub(super) fn take(&mut self) -> Option<TargetId> {
        if self.unused == MOST {
            return self.free.pop_front();
        }
        self.unused += 1;
        Some(TargetId(self.unused - 1))
    }

    /// Its process has ended, and all that it did is known.
    pub(super) fn give_back(&mut self, target: TargetId) {
        self.free.push_back(target);
    }

    /// One to be offered, while few enough are.
    pub(super) fn take_for_offer(&mut self) -> Option<TargetId> {
        let target = (self.offered < MAX_SPARES).then(|| self.take()).flatten()?;
        self.offered += 1;
        Some(target)
    }

    /// One that was offered is in use.
    pub(super) fn note_accepted(&mut self) {
        self.offered = self.offered.saturating_sub(1);
    }
}
