//! Sampling by bytes: which blocks are taken, and for how many each stands. The arithmetic is [`memprof_common::sampling`]'s.

use memprof_common::sampling;

use super::{StackCounts, StandardError};

/// How many of the blocks are taken. By default all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sampling {
    /// Zero if all are.
    rate: u64,
}

/// Weights are in units of 2^-32.
pub const WEIGHT_OF_ONE: u64 = 1 << 32;

impl Sampling {
    /// Largest rate.
    pub const MAX_BYTES: u64 = sampling::MAX_RATE;

    /// One sampling point in so many allocated bytes, on average. A block with a point in it is taken, and each block of at
    /// least so many bytes.
    ///
    /// # Panics
    /// Above [`Self::MAX_BYTES`].
    pub fn by_bytes(bytes: u64) -> Self {
        assert!(bytes <= Self::MAX_BYTES, "a rate that the arithmetic is made for");
        Self { rate: bytes }
    }

    /// The rate; nothing if all blocks are taken.
    pub fn bytes(self) -> Option<u64> {
        (self.rate > 0).then_some(self.rate)
    }

    /// For how many allocations one of `size` bytes stands that was taken: one by the chance that it had, in units of
    /// 2^-32. An integer, so that a sum does not depend on the order, and what is taken away leaves nothing behind.
    pub fn weight(self, size: u64) -> u64 {
        match sampling::chance(size, self.rate) {
            sampling::CERTAIN => WEIGHT_OF_ONE,
            chance => ((1u128 << 64) / u128::from(chance)) as u64,
        }
    }

    /// The same as the kernel side counts it at each stack: [`Self::allocations`] has the allocations of such a sum.
    pub fn units(self, size: u64) -> u64 {
        self.bytes().map_or(1, |rate| sampling::units(sampling::chance(size, rate)))
    }

    /// What the kernel side counts for one allocation of so many bytes.
    pub fn counts(self, size: u64) -> StackCounts {
        let units = self.units(size);
        let bytes = self.bytes().map_or(size, |_| sampling::bytes(size, units));
        StackCounts { units, bytes, lasting: 0 }
    }

    /// Of an estimate of so many blocks of `size` bytes each.
    pub fn standard_error(self, size: u64, blocks: u64) -> StandardError {
        let weight = self.weight(size) as f64 / WEIGHT_OF_ONE as f64;
        let allocations = (blocks as f64 * (weight - 1.0)).sqrt();
        StandardError { bytes: allocations * size as f64, allocations }
    }

    /// The number of allocations that a sum of [`Self::units`] stands for, rounded.
    pub fn allocations(self, units: u64) -> u64 {
        self.bytes().map_or(units, |_| (units + sampling::UNITS / 2) / sampling::UNITS)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::cast_precision_loss, reason = "what is compared is far coarser")]

    use memprof_common::sampling::{CERTAIN, MAX_RATE, UNITS, chance, is_taken};
    use proptest::prelude::*;

    use super::*;

    /// In units of 2^-32, as `sampling` derives it.
    const ERROR_BOUND: f64 = 20.0;

    fn exact_chance(size: u64, rate: u64) -> f64 {
        -(-(size as f64) / rate as f64).exp_m1() * CERTAIN as f64
    }

    fn size_below_rate() -> impl Strategy<Value = (u64, u64)> {
        let rate = prop_oneof![2..=MAX_RATE, (1..=30u32).prop_map(|power| 1 << power)];
        rate.prop_flat_map(|rate| {
            (prop_oneof![1..rate, 1..rate.min(256), (rate - rate.min(64)).max(1)..rate], Just(rate))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]
        #[test]
        fn the_chance_is_that_of_the_exponential((size, rate) in size_below_rate()) {
            let chance = chance(size, rate);
            prop_assert!((chance as f64 - exact_chance(size, rate)).abs() <= ERROR_BOUND);
            prop_assert!(chance > 0 && chance < CERTAIN);
        }

        #[test]
        fn a_block_is_taken_by_just_its_chance((size, rate) in size_below_rate(), random: u32) {
            let chance = chance(size, rate);
            prop_assert_eq!(is_taken(size, rate, random), u64::from(random) < chance);
            prop_assert!(is_taken(size, rate, (chance - 1) as u32));
            prop_assert!(!is_taken(size, rate, chance as u32));
        }

        #[test]
        fn a_weight_is_one_by_the_chance((size, rate) in size_below_rate()) {
            let (sampling, chance) = (Sampling::by_bytes(rate), chance(size, rate) as f64 / CERTAIN as f64);
            let weight = sampling.weight(size) as f64 / WEIGHT_OF_ONE as f64;
            prop_assert!((weight * chance - 1.0).abs() < 1e-9);
            let units = sampling.units(size) as f64 / UNITS as f64;
            prop_assert!((units * chance - 1.0).abs() < 1.6e-5);
        }
    }

    #[test]
    fn every_small_ratio_has_its_chance() {
        for size in 0..=512 * 1024 {
            let exact = exact_chance(size.max(1), 512 * 1024);
            let chance = chance(size, 512 * 1024) as f64;
            assert!(size == 512 * 1024 || (chance - exact).abs() <= ERROR_BOUND, "{size}: {chance} {exact}");
        }
    }

    #[test]
    fn what_is_as_large_as_the_rate_is_always_taken_and_stands_for_itself() {
        for (size, rate) in [(1, 1), (0, 1), (4096, 4096), (u64::MAX, 4096), (MAX_RATE, MAX_RATE), (0, 0), (7, 0)] {
            assert!(is_taken(size, rate, u32::MAX));
            assert_eq!(Sampling::by_bytes(rate).weight(size), WEIGHT_OF_ONE);
        }
        assert!(!is_taken(4095, 4096, u32::MAX));
    }

    #[test]
    fn an_empty_block_counts_as_one_byte() {
        assert_eq!(chance(0, 4096), chance(1, 4096));
        assert!(chance(0, MAX_RATE) > 0);
    }

    #[test]
    fn without_sampling_an_allocation_counts_as_one() {
        let all = Sampling::default();
        assert_eq!((all.bytes(), all.units(5), all.allocations(7)), (None, 1, 7));
        let sampling = Sampling::by_bytes(4096);
        assert_eq!((sampling.units(4096), sampling.allocations(3 * UNITS + UNITS / 2)), (UNITS, 4));
    }
}
