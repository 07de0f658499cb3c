//! Which blocks are taken. All of them, unless the loader sets a rate.

use aya_ebpf::helpers::bpf_get_prandom_u32;
use memprof_common::{
    StackTotals,
    sampling::{bytes, chance, is_taken, units as units_of_chance},
};

/// Bytes allocated for each sampling point, on average; 0 if every block is taken. The loader sets it.
#[unsafe(no_mangle)]
static SAMPLE_BYTES: u64 = 0;

/// Whether some blocks are not taken.
#[inline(always)]
pub fn is_on() -> bool {
    rate() != 0
}

/// Whether this block of so many bytes is taken.
#[inline(always)]
pub fn takes(size: u64) -> bool {
    let rate = rate();
    // SAFETY: the helper has no preconditions.
    size >= rate || is_taken(size, rate, unsafe { bpf_get_prandom_u32() })
}

/// As what a block of so many bytes counts that was taken.
#[inline(always)]
pub fn counts(size: u64) -> StackTotals {
    if !is_on() {
        return StackTotals { allocations: 1, bytes: size };
    }
    let units = weigh(size);
    StackTotals { allocations: units, bytes: bytes(size, units) }
}

#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn weigh(size: u64) -> u64 {
    units_of_chance(chance(size, rate()))
}

#[inline(always)]
fn rate() -> u64 {
    // SAFETY: a plain read of a constant that the loader may have replaced.
    unsafe { core::ptr::read_volatile(&raw const SAMPLE_BYTES) }
}
