//! What the programs count, by image and by stack.

/// Value of `STACKS` and `MORE_STACKS`, by the stack's 64-bit name: all allocations made there since it was entered, freed since or
/// not. While sampling, each of those taken counts as [`crate::sampling::units`] says.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackTotals {
    /// Number of allocations.
    pub allocations: u64,
    /// Bytes requested by them: while sampling, as many as those taken stand for ([`crate::sampling::bytes`]).
    pub bytes: u64,
}

/// What counts of touched memory are made of, in [`StackTotals`] and as the size of a [`crate::StackCopyRecord`]: a page faulted in.
pub const TOUCHED_PAGE: u64 = 1;

/// See [`TOUCHED_PAGE`]: what a huge page has beyond its first page. The lower bits have room for 10^12 pages.
pub const TOUCHED_HUGE_PAGE: u64 = 1 << 40;

/// `STACK_TURN`, one element: which of the two tables of stacks is in use. Userspace has the programs go on with the other one, which
/// is empty, when one fills up, and then empties that.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StackTurn {
    /// 0: `STACKS`; 1: `MORE_STACKS`. Only userspace writes it.
    pub table: u64,
    /// How many stacks were entered into each since it was emptied.
    pub entered: [u64; 2],
}

/// Value of `TOTALS`, by image, for each CPU: what happened, and what was lost, by cause.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImageTotals {
    /// Successful allocations, lost or not.
    pub allocations: u64,
    /// Bytes requested by them.
    pub allocated_bytes: u64,
    /// Frees of blocks that were still in the nursery. Userspace counts the others.
    pub frees: u64,
    /// Bytes of those blocks.
    pub freed_bytes: u64,
    /// Allocations forgotten because the nursery was full, and the ring too or, while sampling, only the nursery.
    pub nursery_full: u64,
    /// Frees forgotten because the ring was full.
    pub frees_ring_full: u64,
    /// Allocations without their stack because the ring was full.
    pub stacks_ring_full: u64,
    /// Allocations without their stack because the stack table was full.
    pub stacks_table_full: u64,
    /// Allocations without their stack because it could not be read.
    pub stacks_unreadable: u64,
    /// Calls that entered the allocator and were never seen to return, though their thread went on, and calls that were
    /// taken for nested in one of those. Modulo 2^64 on each CPU: one that returns after all is taken back where it does.
    pub missed_returns: u64,
    /// Calls not followed because `IN_FLIGHT` had no room for their thread.
    pub in_flight_full: u64,
    /// Page faults of which it could not be found what is mapped there.
    pub faults_unresolved: u64,
    /// Allocations that could not be told of, while tracing, because the ring was full.
    pub allocations_ring_full: u64,
}

const _: () = {
    assert!(size_of::<StackTotals>() == 16);
    assert!(size_of::<StackTurn>() == 24);
    assert!(size_of::<ImageTotals>() == 104);
};
