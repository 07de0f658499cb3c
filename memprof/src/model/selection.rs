//! What of a profile is shown, and in which order.

use std::time::Duration;

/// Order of stacks, largest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Sort {
    /// Outstanding bytes.
    #[default]
    Bytes,
    /// Number of outstanding allocations.
    Allocations,
    /// Age of the oldest outstanding allocation.
    Age,
    /// Growth of outstanding bytes since the previous report.
    Growth,
}

/// Which allocations count, and which stacks are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Most stacks shown of each process; `None` for all.
    pub top: Option<usize>,
    /// Their order.
    pub sort: Sort,
    /// Least age.
    pub older: Option<Duration>,
    /// Least size in bytes.
    pub min_size: Option<u64>,
    /// Greatest size in bytes.
    pub max_size: Option<u64>,
    /// Whether single allocations are listed.
    pub show_allocations: bool,
}

impl Default for Selection {
    fn default() -> Self {
        Self { top: Some(10), sort: Sort::Bytes, older: None, min_size: None, max_size: None, show_allocations: false }
    }
}

impl Selection {
    /// Whether an allocation of this size and age counts.
    pub fn admits(&self, size: u64, age: Duration) -> bool {
        self.older.is_none_or(|least| age >= least)
            && self.min_size.is_none_or(|least| size >= least)
            && self.max_size.is_none_or(|greatest| size <= greatest)
    }
}
