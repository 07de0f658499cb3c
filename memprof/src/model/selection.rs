//! What of a profile is shown, and in which order.

use std::time::Duration;

use super::Moment;

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
    /// Number of allocations made there in all, freed since or not.
    Churn,
    /// Number of allocations that were freed within seconds, before the next drain, or by their thread before it allocated again.
    Temporary,
    /// Outstanding bytes when the process held most.
    Peak,
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
    /// Whether blocks are told by size and age.
    pub show_groups: bool,
    /// Of which moment stacks are shown. The sizes and ages of blocks are only known of now.
    pub moment: Moment,
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            top: Some(10),
            sort: Sort::Bytes,
            older: None,
            min_size: None,
            max_size: None,
            show_allocations: false,
            show_groups: false,
            moment: Moment::Now,
        }
    }
}

impl Selection {
    /// Whether stacks are shown that hold nothing, if they ever did.
    pub fn shows_idle_stacks(&self) -> bool {
        self.show_groups || matches!(self.sort, Sort::Churn | Sort::Temporary | Sort::Peak)
    }

    /// Whether an allocation of this size and age counts. At the peak none does: of then, only the sums are known.
    pub fn admits(&self, size: u64, age: Duration) -> bool {
        self.moment == Moment::Now
            && self.older.is_none_or(|least| age >= least)
            && self.min_size.is_none_or(|least| size >= least)
            && self.max_size.is_none_or(|greatest| size <= greatest)
    }
}
