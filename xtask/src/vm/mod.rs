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

use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use self::{archive::Archive, kernel::Kernel, machine::Machine, verdict::Verdict};
use crate::{process::build_memprof, setup};

/// Of Debian's kernels, what is tested unless others are asked for.
const KERNELS: [&str; 2] = ["6.1", "6.12"];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A version of Debian's kernels, of which the newest is taken, with a flavour other than cloud behind it
    /// (`6.12-rt`); repeatable [default: 6.1 and 6.12]
    #[arg(long, value_name = "VERSION")]
    kernel: Vec<String>,
    /// A test executable as `cargo test` names it, such as live_stacks or 'live*'; repeatable [default: a selection]
    #[arg(long, value_name = "NAME")]
    test: Vec<String>,
    /// A handful of tests: that the programs load, count, and find whole stacks
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
    fn versions(&self) -> impl Iterator<Item = &str> {
        let usual = KERNELS.iter().copied().filter(|_| self.kernel.is_empty());
        usual.chain(self.kernel.iter().map(String::as_str))
    }
}

/// Boots each kernel, runs the tests on it, and says what came of it.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::install_for_vm()?;
    let memprof = build_memprof()?;
    let executables = suite::build(&suite::selection(&arguments.test, arguments.short))?;
    let script = suite::script(&memprof, &executables, &arguments.arguments)?;
    let archive = Archive::open()?;
    let kernels = arguments.versions().map(|version| Kernel::unpacked(version, &archive));
    let kernels = kernels.collect::<Result<Vec<_>>>()?;
    let limit = Duration::from_secs(60 * arguments.limit);
    let verdicts = kernels.iter().map(|kernel| test(kernel, &script, limit)).collect::<Result<Vec<_>>>()?;
    eprintln!();
    verdicts.iter().for_each(|verdict| eprintln!("{verdict}"));
    if verdicts.iter().all(Verdict::is_good) { Ok(()) } else { bail!("not all tests passed on all kernels") }
}

fn test(kernel: &Kernel, script: &str, limit: Duration) -> Result<Verdict> {
    eprintln!("\n== {}", kernel.package);
    let folder = tempfile::tempdir().context("cannot make a folder")?;
    let initramfs = initramfs::build(kernel, script, folder.path()).context("cannot make the initramfs")?;
    let mut machine = Machine::boot(&kernel.image, &initramfs, &folder.path().join("files.socket"), limit)?;
    let verdict = Verdict::read(&kernel.package, machine.console()?);
    machine.wait()?;
    verdict
}
