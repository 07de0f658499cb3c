//! memprof: which call stacks of a running process hold memory that was allocated and not freed.
//!
//! The pipeline, stage by stage, each a module that knows only [`model`]: [`target`] finds the objects a process has
//! mapped, [`plan`] the allocator functions in them, [`unwind`] makes the tables by which their stacks are walked,
//! [`kernel`] attaches the probes and drains what they recorded, [`heap`] keeps the live allocations, [`overhead`]
//! knows what that costs the target and decides when it is too much, [`trace`] puts traced calls in order, [`trend`]
//! knows whether a figure grows, [`symbols`] names the stacks, [`suppress`] leaves out those that are known, [`gate`] says
//! whether the report passes, and [`render`] writes it, which [`saved`] reads again, or [`tui`] shows it on a terminal. Before
//! all that, [`watch`] may have found out which processes to look at. [`session`] alone sees them all.
//!
//! Six leaves stand beside [`model`], for any stage to use: [`elf`] is the only door to the ELF reader, [`pprof`] is the
//! format of saved profiles, [`regular_file`] opens what a stranger named, `privileges` gives capabilities up, and takes them up for a
//! moment, `readiness` makes descriptors that tokio watches, and `wording` puts names, figures and verdicts for people.

pub mod cli;
pub mod elf;
pub mod gate;
pub mod heap;
pub mod kernel;
pub mod model;
pub mod overhead;
pub mod plan;
pub mod pprof;
mod privileges;
mod readiness;
pub mod regular_file;
pub mod render;
pub mod saved;
pub mod session;
pub mod suppress;
pub mod symbols;
pub mod target;
pub mod trace;
pub mod trend;
pub mod tui;
pub mod unwind;
pub mod watch;
mod wording;
