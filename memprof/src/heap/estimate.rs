//! Sums of blocks, each weighed by the inverse of the chance that it had to be taken (Horvitz and Thompson 1952), and the
//! variances of these sums. Where all blocks are taken, every weight is one and every variance zero.
//!
//! Each block is taken or not by itself, with the chance p, so the sum Σ y/p over those taken has the expectation Σ y over all,
//! whatever the sizes, and Σ (1−p)/p² y² over those taken has its variance as expectation. y is the size, or one.
//!
//! Everything is an integer in units of 2^-32, so that sums do not depend on the order of blocks, and what is taken away
//! again leaves exactly nothing. Below the rate R ≤ 2^30, size/p < 1.6 R: a block's variance is below 2^94 of these units, and
//! two hundred million blocks do not overflow. Bytes are modulo 2^64.

use crate::model::{Outstanding, StandardError, WEIGHT_OF_ONE};

/// A block as it counts: its size, and its [weight](crate::model::Sampling::weight).
#[derive(Clone, Copy, Debug)]
pub(super) struct Weighed {
    pub(super) size: u64,
    pub(super) weight: u64,
}

/// An estimated sum. Zero by default.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Estimate {
    bytes: u128,
    allocations: u128,
    variance_of_bytes: u128,
    variance_of_allocations: u128,
}

impl Estimate {
    /// Adds a block.
    pub(super) fn add(&mut self, block: Weighed) {
        self.apply(block, u128::wrapping_add);
    }

    /// Takes away a block that was added.
    pub(super) fn remove(&mut self, block: Weighed) {
        self.apply(block, u128::wrapping_sub);
    }

    /// Adds all blocks of another sum.
    pub(super) fn merge(&mut self, other: &Self) {
        self.bytes = self.bytes.wrapping_add(other.bytes);
        self.allocations = self.allocations.wrapping_add(other.allocations);
        self.variance_of_bytes = self.variance_of_bytes.wrapping_add(other.variance_of_bytes);
        self.variance_of_allocations = self.variance_of_allocations.wrapping_add(other.variance_of_allocations);
    }

    fn apply(&mut self, Weighed { size, weight }: Weighed, combine: fn(u128, u128) -> u128) {
        let (size, weight, one) = (u128::from(size), u128::from(weight), u128::from(WEIGHT_OF_ONE));
        self.bytes = combine(self.bytes, size * weight);
        self.allocations = combine(self.allocations, weight);
        if weight > one {
            let variance = weight * (weight - one) / one;
            self.variance_of_allocations = combine(self.variance_of_allocations, variance);
            self.variance_of_bytes = combine(self.variance_of_bytes, variance * size * size);
        }
    }

    /// Whether there is no block in it.
    pub(super) fn is_nothing(&self) -> bool {
        self.allocations == 0
    }

    /// Rounded.
    pub(super) fn outstanding(&self) -> Outstanding {
        Outstanding { bytes: rounded(self.bytes), allocations: rounded(self.allocations) }
    }

    /// Of [`Self::outstanding`].
    pub(super) fn standard_error(&self) -> StandardError {
        StandardError { bytes: root(self.variance_of_bytes), allocations: root(self.variance_of_allocations) }
    }
}

fn rounded(units: u128) -> u64 {
    (units.wrapping_add(u128::from(WEIGHT_OF_ONE / 2)) / u128::from(WEIGHT_OF_ONE)) as u64
}

fn root(variance: u128) -> f64 {
    (variance as f64 / WEIGHT_OF_ONE as f64).sqrt()
}
