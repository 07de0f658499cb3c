//! Whether a number of bytes grows for good. Pure: points come in with their time.
//!
//! A [`Series`] is a short history of any length of time, and [`Series::trend`] reads a [`Course`](crate::model::Course) from it.
//! `course.rs` says by which rules, and why these.

mod course;
mod line;
mod series;
#[cfg(test)]
mod tests;

pub use series::{Point, Series};
