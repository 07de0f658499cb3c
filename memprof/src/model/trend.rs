//! How a figure develops over time: the words for it, and the facts behind a word.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// The course of a number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Course {
    /// It rises, and goes on rising: what it never falls below rises too.
    Grows,
    /// It rose, and has been level since: a cache that has filled.
    Plateaued,
    /// It rose once, within the time between two looks, and is level otherwise.
    OneOff,
    /// It goes up and down, and nothing shows that it goes anywhere.
    Churn,
    /// It hardly changes.
    Level,
    /// It falls, and goes on falling.
    Shrinks,
    /// What is known of it is too short, or shows too little, to say any of these.
    TooShort,
}

impl Course {
    /// As one word, the same in every format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Grows => "grows",
            Self::Plateaued => "plateaued",
            Self::OneOff => "one_off",
            Self::Churn => "churn",
            Self::Level => "level",
            Self::Shrinks => "shrinks",
            Self::TooShort => "too_short",
        }
    }
}

impl fmt::Display for Course {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// A course, and what it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trend {
    /// What it comes to.
    pub course: Course,
    /// How fast it grows, or shrinks if negative; zero if it does neither.
    pub bytes_per_second: f64,
    /// How many points of it are known.
    pub points: usize,
    /// From the first to the last of them.
    pub span: Duration,
    /// The last less the first.
    pub change_bytes: i64,
    /// The least of them.
    pub lowest: u64,
    /// The most of them.
    pub highest: u64,
    /// How long it has been since what it never falls below rose by as much as a sixteenth of its whole rise.
    pub quiet: Duration,
}

impl Trend {
    /// Of nothing that is known.
    pub const NONE: Self = Self {
        course: Course::TooShort,
        bytes_per_second: 0.0,
        points: 0,
        span: Duration::ZERO,
        change_bytes: 0,
        lowest: 0,
        highest: 0,
        quiet: Duration::ZERO,
    };
}
