//! The BPF object that memprof embeds: built from `memprof-ebpf/`, kept in the tree, checked against its source.

mod elf;
mod stamp;
mod toolchain;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use self::{
    stamp::{Stamp, hash_of_object, hash_of_sources},
    toolchain::Toolchain,
};
use crate::process::{self, root, target_directory};

/// More than this and something that the kernel does not need has got in: DWARF alone would double it. The programs themselves are 40 %
/// of the object, and the source lines of their instructions the rest. Raised when the programs for page faults came, and for the
/// variants that are measured, which are a little larger.
const MAX_OBJECT_BYTES: usize = 384 * 1024;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Build nothing that stays: fail if the object does not match its source
    #[arg(long)]
    check: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.check { check() } else { build() }
}

/// The object in the tree.
pub(crate) fn object_path() -> PathBuf {
    root().join("memprof/bpf/memprof.bpf.o")
}

fn stamp_path() -> PathBuf {
    root().join("memprof/bpf/memprof.bpf.o.stamp")
}

/// Rebuilds the object and its stamp.
fn build() -> Result<()> {
    let toolchain = Toolchain::find()?;
    eprintln!("compiler and linker: {}", toolchain.identity);
    let object = compile(&toolchain, &target_directory().join("bpf"), Lock::Update, None)?;
    let stamp =
        Stamp { sources: hash_of_sources(root())?, object: hash_of_object(&object), toolchain: toolchain.identity };
    write(&object_path(), &object)?;
    write(&stamp_path(), stamp.to_string().as_bytes())?;
    eprintln!("memprof/bpf/memprof.bpf.o: {} bytes", object.len());
    Ok(())
}

/// Whether the object in the tree is what its source gives. Another compiler than the one that made it may give other
/// bytes, so these are compared only where that very compiler is at hand.
pub(crate) fn check() -> Result<()> {
    const REMEDY: &str = "rebuild it with `cargo xtask ebpf`";
    let object = fs::read(object_path()).with_context(|| format!("memprof/bpf/memprof.bpf.o is missing: {REMEDY}"))?;
    let stamp: Stamp = fs::read_to_string(stamp_path())
        .with_context(|| format!("memprof/bpf/memprof.bpf.o.stamp is missing: {REMEDY}"))?
        .parse()?;
    if stamp.object != hash_of_object(&object) {
        bail!("memprof/bpf/memprof.bpf.o is not the object that its stamp describes: {REMEDY}");
    }
    if stamp.sources != hash_of_sources(root())? {
        bail!("the sources of memprof/bpf/memprof.bpf.o have changed since it was built: {REMEDY}");
    }
    let Some(toolchain) = Toolchain::all().find(|toolchain| toolchain.identity == stamp.toolchain) else {
        eprintln!(
            "object and sources match the stamp; not rebuilt, since its compiler is not here: {}",
            stamp.toolchain
        );
        return Ok(());
    };
    if compile(&toolchain, &target_directory().join("bpf-check"), Lock::Keep, None)? != object {
        bail!("the compiler of memprof/bpf/memprof.bpf.o makes other bytes of the same sources: {REMEDY}");
    }
    eprintln!("object and sources match the stamp; rebuilt, byte for byte the same");
    Ok(())
}

/// Runs clippy over the BPF crate, if a toolchain is there that can.
pub(crate) fn clippy() -> Result<()> {
    let Some(mut command) =
        Toolchain::all().find_map(|toolchain| toolchain.clippy(&target_directory().join("bpf-clippy")))
    else {
        eprintln!("skipped: no toolchain for BPF has clippy here (`cargo xtask setup --ebpf` installs one)");
        return Ok(());
    };
    process::run(command.args(["--", "-D", "warnings"]))
}

/// What cargo may do to `memprof-ebpf/Cargo.lock`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lock {
    Update,
    Keep,
}

/// Builds a variant of the object to measure against, with this feature of the crate. An error if there is no toolchain.
pub(crate) fn build_variant(feature: &str) -> Result<()> {
    let folder = target_directory().join("bench/bpf");
    let object = compile(&Toolchain::find()?, &folder, Lock::Keep, Some(feature))?;
    write(&variant_path(feature), &object)
}

/// Where [`build_variant`] puts it.
pub(crate) fn variant_path(feature: &str) -> PathBuf {
    target_directory().join("bench").join(feature).with_extension("bpf.o")
}

fn compile(toolchain: &Toolchain, target_directory: &Path, lock: Lock, feature: Option<&str>) -> Result<Vec<u8>> {
    let mut command = toolchain.build(target_directory)?;
    command.args(feature.iter().flat_map(|feature| ["--features", feature]));
    if lock == Lock::Keep {
        command.arg("--locked");
    }
    process::run(&mut command)?;
    let path = target_directory.join(toolchain::TARGET).join("release/memprof-ebpf");
    let built = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let object = elf::without_debug_sections(&built)?;
    if object.len() > MAX_OBJECT_BYTES {
        bail!("the object has {} bytes, more than the {MAX_OBJECT_BYTES} that are reasonable", object.len());
    }
    Ok(object)
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}
