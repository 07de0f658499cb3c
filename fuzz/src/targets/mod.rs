//! What is fuzzed: each target takes bytes as a stranger could have made them, and gives them to a parser of memprof's.
//!
//! The tests of memprof include this folder too, and run each target on its corpus (`memprof/tests/corpus.rs`).

mod cgroup;
mod code;
mod demangle;
mod eh_frame;
mod elf;
mod file;
mod launch;
mod maps;
mod mtrace;
mod perf_map;
mod plan;
mod pprof;
mod records;
mod reports;
mod status;
mod suppressions;

/// Does with the bytes what memprof would do.
pub type Target = fn(&[u8]);

/// All targets, by the names of their files.
pub const ALL: [(&str, Target); 15] = [
    ("cgroup", cgroup::run),
    ("code", code::run),
    ("demangle", demangle::run),
    ("eh_frame", eh_frame::run),
    ("elf", elf::run),
    ("launch", launch::run),
    ("maps", maps::run),
    ("mtrace", mtrace::run),
    ("perf_map", perf_map::run),
    ("plan", plan::run),
    ("pprof", pprof::run),
    ("records", records::run),
    ("reports", reports::run),
    ("status", status::run),
    ("suppressions", suppressions::run),
];
