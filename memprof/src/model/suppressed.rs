//! What is left out of a report because the user knows of it.

use serde::{Deserialize, Serialize};

use super::Outstanding;

/// Stacks of a process that are left out, since suppressions match them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppressed {
    /// How many that hold something.
    pub stacks: usize,
    /// What they hold.
    pub outstanding: Outstanding,
    /// Whether one of them grows.
    pub grows: bool,
    /// By the patterns that matched, in their order in the files.
    pub by_pattern: Vec<SuppressedBy>,
}

/// What one pattern has suppressed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SuppressedBy {
    /// As it is in the file.
    pub pattern: String,
    /// How many stacks.
    pub stacks: usize,
    /// What they hold.
    pub outstanding: Outstanding,
}
