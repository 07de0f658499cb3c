//! A pid or a command becomes its mapped ELF objects, opened while they can be reached.

mod address_space;
mod census;
mod cgroup;
mod error;
mod identity;
pub mod launch;
mod maps;
mod memory;
mod open;
mod perf_map;
mod perf_map_file;
mod process;
mod stat;
mod status;
mod table;
mod vdso;

pub use address_space::AddressSpace;
pub use census::census;
pub use cgroup::container_and_unit;
pub use error::{LaunchError, TargetError};
pub use identity::identity;
pub use maps::{executable_mappings, read_mappings};
pub use memory::{anonymous_memory, has_huge_pages, has_several_huge_page_sizes};
pub use perf_map::PerfMap;
pub use perf_map_file::PerfMapFile;
pub use process::{Process, began, command_name, processor_time, stack_end, threads};
pub use stat::Stat;
pub use status::{Status, memory};
pub use table::ObjectTable;
