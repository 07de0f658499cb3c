//! The unwinder without the kernel: bytes of `.eh_frame` become a table of rows, and rows tell how to walk a stack.
//!
//! [`Table::new`] evaluates the call frame information of an object (DWARF 5, section 6.4; Linux Standard Base, Core,
//! section 10.6) for the three registers that a walk needs. [`memprof_common::unwind`] has the format of the rows, and
//! [`call_sites_only`] leaves out those that no return address can meet. [`walk()`] is the algorithm that the BPF programs
//! follow, in plain Rust: the specification of it, and the reference that it is tested against.
//!
//! ```text
//! .eh_frame ── entries ──▶ functions and their instructions ── evaluate ──▶ states ── rule ──▶ rules ── table ──▶ rows
//! ```
//!
//! What rules cannot say becomes a `NONE` row and is counted, never guessed. That is: a CFA by another register than
//! `rsp` and `rbp`, which occurs in prologues that realign the stack, in hand-written assembly, and in the dynamic
//! loader's resolver (a walk does not follow callee-saved registers); a return address that is not at `CFA - 8`, as in
//! `vfork`; and expressions other than those that `expressions` lists.
//!
//! Everything in an object is taken for hostile. Each byte of `.eh_frame` is looked at a bounded number of times, since
//! a function's CIE precedes it and is evaluated once; and what rows and functions may cost in memory is bounded too.

mod call_sites;
mod entries;
mod evaluate;
mod expressions;
mod rule;
mod table;
mod walk;

#[cfg(test)]
mod tests;

pub use call_sites::{Code, call_sites_only};
pub use table::{Counts, Table, TableError};
pub use walk::{End, MOST_FRAME_BYTES, Registers, Start, Walk, walk};

/// The bytes of a section, as gimli reads them.
type Bytes<'data> = gimli::EndianSlice<'data, gimli::LittleEndian>;

/// A place in `.eh_frame`: a DWARF expression.
type Expression = gimli::UnwindExpression<usize>;
