//! A pid or a command becomes its mapped ELF objects, opened while they can be reached.

mod address_space;
mod error;
pub mod launch;
mod maps;
mod memory;
mod open;
mod perf_map;
mod perf_map_file;
mod process;
mod table;
mod vdso;

pub use address_space::AddressSpace;
pub use error::{LaunchError, TargetError};
pub use maps::read_mappings;
pub use memory::resident_memory;
pub use perf_map::PerfMap;
pub use perf_map_file::PerfMapFile;
pub use process::{Process, command_name, processor_time, stack_end, threads};
pub use table::ObjectTable;
