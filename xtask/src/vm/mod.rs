//! The live tests on other kernels: Debian's, unpacked and not installed, in QEMU, which emulates the processor: KVM is not
//! needed.
//!
//! The guest's root is the host's, shared read-only through virtiofs (Debian's cloud kernels have no 9p), with empty
//! folders where programs write. So it has the compilers, the servers and the test executables, and no image is built.

mod archive;
mod initramfs;
mod kernel;
mod machine;
mod suite;
mod verdict;

use std::{num::NonZero, thread, time::Duration};

use anyhow::{Context as _, Result, bail};

use self::{archive::Archive, kernel::Kernel, machine::Machine, suite::Suite, verdict::Verdict};
use crate::setup;

/// Of Debian's kernels, what is tested unless others are asked for.
const KERNELS: [&str; 2] = ["6.1", "6.12"];

/// Longest time that a kernel may take in `cargo xtask check`.
const GATE_LIMIT: Duration = Duration::from_secs(15 * 60);

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A version of Debian's kernels, of which the newest is taken, with a flavour other than cloud behind it
    /// (`6.12-rt`); repeatable [default: 6.1 and 6.12]
    #[arg(long, value_name = "VERSION")]
    kernel: Vec<String>,
    /// A test executable as `cargo test` names it, such as live_stacks or 'live*'; repeatable [default: a selection]
    #[arg(long, value_name = "NAME")]
    test: Vec<String>,
    /// A handful of tests, which `cargo xtask check` runs too
    #[arg(long, conflicts_with = "test")]
    short: bool,
    /// Longest time that a kernel may take
    #[arg(long, value_name = "MINUTES", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// For the test executables, such as the name of a test
    #[arg(last = true)]
    arguments: Vec<String>,
}

impl Arguments {
    fn versions(&self) -> Vec<&str> {
        if self.kernel.is_empty() { KERNELS.to_vec() } else { self.kernel.iter().map(String::as_str).collect() }
    }
}

/// Boots each kernel, runs the tests on it, and says what came of it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::install_for_vm()?;
    let suite = Suite::build(&suite::selection(&arguments.test, arguments.short), &arguments.arguments)?;
    test_on(&arguments.versions(), &suite, Duration::from_secs(60 * arguments.limit))
}

/// What `cargo xtask check` runs. Where there are no packages of Debian's it is left out.
pub(crate) fn check() -> Result<()> {
    if !setup::is_debian() {
        eprintln!("left out: the other kernels are Debian's packages, and this is no Debian");
        return Ok(());
    }
    setup::install_for_vm()?;
    test_on(&KERNELS, &Suite::build(&suite::of_the_gate(), &[])?, GATE_LIMIT)
}

/// A guest keeps one processor busy, so as many run at a time as there are processors.
fn test_on(versions: &[&str], suite: &Suite, limit: Duration) -> Result<()> {
    let archive = Archive::open()?;
    let kernels = versions.iter().map(|version| Kernel::unpacked(version, &archive)).collect::<Result<Vec<_>>>()?;
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let verdicts = kernels.chunks(processors).flat_map(|kernels| test_at_once(kernels, suite, limit));
    let verdicts = verdicts.collect::<Result<Vec<_>>>()?;
    eprintln!();
    verdicts.iter().for_each(|verdict| eprintln!("{verdict}"));
    if verdicts.iter().all(Verdict::is_good) { Ok(()) } else { bail!("not all tests passed on all kernels") }
}

fn test_at_once(kernels: &[Kernel], suite: &Suite, limit: Duration) -> Vec<Result<Verdict>> {
    thread::scope(|scope| {
        let guests: Vec<_> = kernels.iter().map(|kernel| scope.spawn(move || test(kernel, suite, limit))).collect();
        guests.into_iter().map(|guest| guest.join().unwrap_or_else(|_| bail!("a thread has panicked"))).collect()
    })
}

fn test(kernel: &Kernel, suite: &Suite, limit: Duration) -> Result<Verdict> {
    eprintln!("== {}", kernel.package);
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let initramfs = initramfs::build(kernel, &suite.script, folder.path()).context("cannot make the initramfs")?;
    let mut machine = Machine::boot(&kernel.image, &initramfs, &folder.path().join("files.socket"), limit)?;
    let verdict = Verdict::read(&kernel.version, &kernel.package, suite.tests, machine.console()?);
    machine.wait()?;
    verdict
}
