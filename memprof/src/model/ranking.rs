//! What watching a whole machine has shown.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Frame, Growth, Identity, Memory, Trend};

/// A process that was watched, and how its anonymous memory developed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Watched {
    /// Its pid.
    pub pid: u32,
    /// Its command name.
    pub command: String,
    /// Whose it is.
    pub identity: Identity,
    /// What it had last.
    pub memory: Memory,
    /// How its anonymous memory developed.
    pub trend: Trend,
}

/// Who grows, on the whole machine.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ranking {
    /// For how long it was watched.
    pub elapsed: Duration,
    /// How many processes were there at the end.
    pub processes: usize,
    /// How many of them grow steadily.
    pub growing: usize,
    /// The first of those, the fastest first.
    pub suspects: Vec<Watched>,
    /// Some of those that are not suspected although they have become larger, those that did most first.
    pub others: Vec<Watched>,
    /// Where the suspects have touched new memory meanwhile. Nothing where the kernel does not tell.
    pub growth: Option<Growth<Frame>>,
}
