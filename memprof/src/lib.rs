//! memprof: which call stacks of a running process hold memory that was allocated and not freed.
//!
//! The pipeline, stage by stage, each a module that knows only [`model`]:
//! [`target`] finds the objects a process has mapped, [`plan`] the allocator functions in them, [`unwind`] makes the
//! tables by which their stacks are walked, [`kernel`] attaches the probes and drains what they recorded, [`heap`] keeps
//! the live allocations, [`overhead`] knows what that costs the target and decides when it is too much, [`trend`] whether a figure
//! grows, [`symbols`] names their stacks, and [`render`] writes the report. [`session`] alone sees them all.
//!
//! Three leaves stand beside [`model`], for any stage to use: [`elf`] is the only door to the ELF reader,
//! [`regular_file`] opens what a stranger named, and `readiness` makes descriptors that tokio watches.

pub mod cli;
pub mod elf;
pub mod heap;
pub mod kernel;
pub mod model;
pub mod overhead;
pub mod plan;
mod readiness;
pub mod regular_file;
pub mod render;
pub mod session;
pub mod symbols;
pub mod target;
pub mod trend;
pub mod unwind;
pub mod watch;
