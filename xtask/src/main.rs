//! What a developer or a CI machine runs: `cargo xtask <COMMAND>`.

mod bench;
mod check;
mod demo;
mod dist;
mod ebpf;
mod executables;
mod fuzz;
mod layering;
mod man;
mod pictures;
mod process;
mod readers;
mod remap;
mod setup;
mod soak;
mod test;
mod vm;

use std::process::ExitCode;

use clap::Parser;

/// Builds, checks and shows memprof
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
enum Task {
    /// Show the main job on a leaking program, launched and attached to
    Demo,
    /// Install what the tests need, then run them all; the live tests run as root, through sudo if need be
    Test(test::Arguments),
    /// The gate: everything that must hold before a change goes in, cheap checks first
    Check,
    /// Compare reports with random traffic that knows what it does, in all modes, for as long as one likes
    Soak(soak::Arguments),
    /// Rebuild the BPF object that memprof embeds
    Ebpf(ebpf::Arguments),
    /// Measure what memprof costs, beside other tools and beside probes that do nothing
    Bench(bench::Arguments),
    /// Run the parsers on what libFuzzer thinks of: no panic, no end of memory or time
    Fuzz(fuzz::Arguments),
    /// Make the pictures in the README anew, from a real run
    Pictures,
    /// Write the man pages
    Man(man::Arguments),
    /// Make what is released: a static executable and a Debian package
    Dist(dist::Arguments),
    /// Have other tools read what memprof saves: those that are no Debian packages, from npm
    Readers,
    /// Run live tests on Debian's other kernels, in QEMU
    VmTest(vm::Arguments),
    /// Install the packages that the tests, or with --ebpf the BPF build, or with --vm the other kernels, or with --bench the benchmark, or with --dist
    /// the release, need
    Setup(setup::Arguments),
    /// Run a test executable, as root if it is a live one (cargo calls this)
    #[command(hide = true)]
    RunTest(test::Executable),
}

fn main() -> ExitCode {
    let result = match Task::parse() {
        Task::Demo => demo::run(),
        Task::Test(arguments) => test::run(&arguments),
        Task::Check => check::run(),
        Task::Soak(arguments) => soak::run(&arguments),
        Task::Ebpf(arguments) => ebpf::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Pictures => pictures::run(),
        Task::Man(arguments) => man::run(&arguments),
        Task::Dist(arguments) => dist::run(&arguments),
        Task::Readers => readers::run(),
        Task::VmTest(arguments) => vm::run(&arguments),
        Task::Setup(arguments) => setup::run(&arguments),
        Task::RunTest(executable) => test::run_executable(&executable),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
