//! Which blocks a sampling takes, and with what chance: the one arithmetic of both sides. The programs decide by it, and
//! userspace weighs by the chance that they went by, so that no error of the arithmetic can bias an estimate.
//!
//! Each allocated byte is a sampling point with a chance of one in `rate`; a block with a point in it is taken. So a block of
//! `size` bytes is taken with the chance 1 − exp(−size/rate), independently of all others. A block of at least `rate` bytes
//! is always taken. An empty block counts as one byte.
//!
//! BPF has no floating point. Chances are integers, in units of 2^-32, and the exponential is its series:
//! 1 − exp(−x) = x (1 − x (1/2! − x (1/3! − …))), for x below 1 and thirteen terms.
//!
//! # The error
//! The series is cut where the next term is 1/14! < 0.1 units. Its rounded coefficients are wrong by half a unit each at most,
//! from the third on; each of the thirteen products, and the quotient x, by one. Together that is less than 20 units: the chance
//! is 1 − exp(−size/rate) to within 20 · 2^-32 < 5e-9. That is how well the sampling is Poisson's, and all that it concerns.

/// The chance of what is always taken.
pub const CERTAIN: u64 = 1 << 32;

/// Largest rate, in bytes: the chance of a single byte is still above zero there.
pub const MAX_RATE: u64 = 1 << 30;

/// In `STACKS`, while sampling, one allocation counts as so many: see [`units`].
pub const UNITS: u64 = 1 << 16;

const TERMS: usize = 13;

/// 1/1!, 1/2!, …, in units of 2^-32.
const COEFFICIENTS: [u64; TERMS] = coefficients();

/// The chance that a block of `size` bytes is taken at a rate, 0 to [`MAX_RATE`]; of which 0 means that all are.
#[inline(always)]
pub const fn chance(size: u64, rate: u64) -> u64 {
    let size = nonempty(size);
    if size >= rate { CERTAIN } else { chance_of_ratio(ratio(size, rate)) }
}

/// Whether a block is taken, by a random number.
#[inline(always)]
pub const fn is_taken(size: u64, rate: u64, random: u32) -> bool {
    let size = nonempty(size);
    if size >= rate {
        return true;
    }
    let (ratio, random) = (ratio(size, rate), random as u64);
    // The chance is at most the ratio, and most blocks are small.
    random < ratio && random < chance_of_ratio(ratio)
}

/// For how many allocations one stands that is taken with this chance, times [`UNITS`].
#[inline(always)]
pub const fn units(chance: u64) -> u64 {
    match (UNITS << 32).checked_div(chance) {
        Some(units) => units,
        None => 0,
    }
}

/// For how many bytes a block of `size` stands that counts as so many [`units`], rounded.
#[inline(always)]
pub const fn bytes(size: u64, units: u64) -> u64 {
    // What is certain to be taken has any size; the product of what is not is below 2^48.
    if units == UNITS { size } else { (size * units + UNITS / 2) / UNITS }
}

#[inline(always)]
const fn nonempty(size: u64) -> u64 {
    if size == 0 { 1 } else { size }
}

/// In units of 2^-32. `size` is below `rate`, and so below 2^32.
#[inline(always)]
const fn ratio(size: u64, rate: u64) -> u64 {
    (size << 32) / rate
}

#[inline(always)]
const fn chance_of_ratio(ratio: u64) -> u64 {
    let mut sum = 0;
    let mut term = TERMS;
    while term > 0 {
        term -= 1;
        // Both factors are at most 2^32, and the ratio is less.
        sum = COEFFICIENTS[term] - ((ratio * sum) >> 32);
    }
    (ratio * sum) >> 32
}

const fn coefficients() -> [u64; TERMS] {
    let mut coefficients = [0; TERMS];
    let (mut term, mut factorial) = (0, 1);
    while term < TERMS {
        factorial *= term as u64 + 1;
        coefficients[term] = (CERTAIN + factorial / 2) / factorial;
        term += 1;
    }
    coefficients
}
