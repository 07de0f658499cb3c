//! Whether a number of bytes grows for good. Pure: points come in with their time.
//!
//! A [`Series`] is a short history of any length of time, and [`Series::trend`] reads a
//! [`Course`](crate::model::Course) from it. `course.rs` says by which rules, and why these. [`cause()`] says whether the
//! heap is why a process's memory grows.

mod cause;
mod course;
mod line;
mod series;
#[cfg(test)]
mod tests;

pub use cause::{LEAST_GROWTH, cause};
pub use series::{Point, Series};
