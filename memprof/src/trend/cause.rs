//! Whether the heap is why a process's memory grows.

use crate::model::{Cause, MemoryGrowth};

/// Less than that is no growth. Kernels before 6.16 tell resident memory to some tenths of this only.
pub const LEAST_GROWTH: i64 = 1 << 20;

/// Of the growth of anonymous memory, what outstanding allocations must be to explain it. An allocator needs some
/// memory for itself, and the process some for its stacks.
const MOST_OF_IT: f64 = 0.75;
const SOME_OF_IT: f64 = 0.25;

/// With fewer looks, nothing is said.
const LEAST_LOOKS: usize = 8;

/// What growth comes from, seen so many times.
pub fn cause(growth: Option<&MemoryGrowth>, looks: usize) -> Cause {
    let Some(growth) = growth.filter(|_| looks >= LEAST_LOOKS) else { return Cause::Unknown };
    let MemoryGrowth { anonymous, file, shared, tracked, .. } = *growth;
    let most = anonymous.max(file).max(shared);
    match most {
        _ if most < LEAST_GROWTH && tracked < LEAST_GROWTH => Cause::NoGrowth,
        _ if most < LEAST_GROWTH => Cause::Reuse,
        _ if most == anonymous => match tracked as f64 / anonymous as f64 {
            MOST_OF_IT.. => Cause::Heap,
            SOME_OF_IT.. => Cause::PartlyHeap,
            _ => Cause::NotHeap,
        },
        _ if most == file => Cause::Files,
        _ => Cause::Shared,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::Memory;

    const MIB: i64 = 1 << 20;

    fn of([anonymous, file, shared, tracked]: [i64; 4]) -> Cause {
        let (now, since) = (Memory::default(), Duration::from_secs(30));
        cause(Some(&MemoryGrowth { now, since, anonymous, file, shared, tracked }), 30)
    }

    #[test]
    fn the_greatest_growth_has_a_cause() {
        let table = [
            ([0, 0, 0, 0], Cause::NoGrowth),
            ([MIB - 1, 0, -9 * MIB, MIB - 1], Cause::NoGrowth),
            ([100 * MIB, 0, 0, 99 * MIB], Cause::Heap),
            ([100 * MIB, 0, 0, 300 * MIB], Cause::Heap),
            ([100 * MIB, 20 * MIB, 0, 50 * MIB], Cause::PartlyHeap),
            ([100 * MIB, 0, 0, 10 * MIB], Cause::NotHeap),
            ([100 * MIB, 0, 0, -10 * MIB], Cause::NotHeap),
            ([10 * MIB, 50 * MIB, 0, 10 * MIB], Cause::Files),
            ([10 * MIB, 5 * MIB, 11 * MIB, 10 * MIB], Cause::Shared),
            ([0, 0, 0, 20 * MIB], Cause::Reuse),
            ([-50 * MIB, 0, 0, 20 * MIB], Cause::Reuse),
        ];
        for (growth, cause) in table {
            assert_eq!(of(growth), cause, "{growth:?}");
        }
    }

    #[test]
    fn without_looks_there_is_no_cause() {
        assert_eq!(cause(None, 30), Cause::Unknown);
        let growth = MemoryGrowth {
            now: Memory::default(),
            since: Duration::ZERO,
            anonymous: MIB,
            file: 0,
            shared: 0,
            tracked: MIB,
        };
        assert_eq!(cause(Some(&growth), 7), Cause::Unknown);
        assert_eq!(cause(Some(&growth), 8), Cause::Heap);
    }
}
