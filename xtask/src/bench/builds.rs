//! What is measured, and with what: memprof, its variants to measure against, and the workloads' programs.
//!
//! A variant is memprof's own userspace with another BPF object. All are one executable, memprof built with its feature `measure`,
//! which takes its object from the file that is named in the environment.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::catalogue;
use crate::{
    ebpf,
    process::{self, build_memprof, cargo, root, target_directory},
};

/// The BPF programs in one variant or another (`memprof-ebpf/src/measure.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Variant {
    /// As they are.
    Full,
    /// They do nothing.
    Empty,
    /// All but stacks.
    NoStack,
    /// Every stack is walked.
    NoMemos,
    /// With the kernel's frame-pointer walk in place of the unwinder.
    KernelWalk,
    /// Look-ups of rules and of memos are counted.
    Cache,
}

impl Variant {
    const ALL: [Self; 6] = [Self::Full, Self::Empty, Self::NoStack, Self::NoMemos, Self::KernelWalk, Self::Cache];

    /// The feature of the BPF crate that makes it.
    fn feature(self) -> Option<&'static str> {
        match self {
            Self::Full => None,
            Self::Empty => Some("measure-empty"),
            Self::NoStack => Some("measure-no-stack"),
            Self::NoMemos => Some("measure-no-memos"),
            Self::KernelWalk => Some("measure-kernel-walk"),
            Self::Cache => Some("measure-cache"),
        }
    }

    fn object(self) -> PathBuf {
        self.feature().map_or_else(ebpf::object_path, ebpf::variant_path)
    }
}

/// A source in `xtask/bench/` and what it is compiled to.
struct Source {
    name: &'static str,
    compiler: &'static str,
    file: &'static str,
    flags: &'static [&'static str],
}

const fn source(
    name: &'static str,
    compiler: &'static str,
    file: &'static str,
    flags: &'static [&'static str],
) -> Source {
    Source { name, compiler, file, flags }
}

const SOURCES: [Source; 11] = [
    source("pair", "gcc", "pair.c", &["-fomit-frame-pointer"]),
    source("pair-with-frame-pointers", "gcc", "pair.c", &["-fno-omit-frame-pointer"]),
    source("growth", "gcc", "growth.c", &[]),
    source("churn", "g++", "churn.cc", &[]),
    source("scale", "gcc", "scale.c", &[]),
    source("touch", "gcc", "touch.c", &[]),
    source("libraries", "gcc", "libraries.c", &[]),
    source("clock.so", "gcc", "clock.c", &["-shared", "-fPIC"]),
    source("account", "gcc", "account.c", &[]),
    source("hold", "gcc", "hold.c", &[]),
    source("templates.ii", "g++", "templates.cc", &["-std=c++17", "-E"]),
];

/// A document for `xmllint`.
pub(super) const CATALOGUE: &str = "catalogue.xml";

/// Builds everything. Without a compiler for BPF, only memprof as it is.
pub(super) fn build_all() -> Result<()> {
    build_memprof()?;
    let mut measuring = cargo();
    measuring.args(["build", "--release", "--package", "memprof", "--features", "memprof/measure"]);
    process::run(measuring.args(["--bins", "--examples", "--target-dir"]).arg(folder()))?;
    for feature in Variant::ALL.into_iter().filter_map(Variant::feature) {
        if let Err(error) = ebpf::build_variant(feature) {
            eprintln!("what needs variants of the BPF programs will not be measured: {error:#}");
            break;
        }
    }
    SOURCES.iter().try_for_each(Source::compile)?;
    fs::write(folder().join(CATALOGUE), catalogue::text()).context("cannot write a document to read")
}

impl Source {
    fn compile(&self) -> Result<()> {
        let mut compiler = Command::new(self.compiler);
        compiler.current_dir(root().join("xtask/bench")).args(["-g", "-O2", "-pthread", self.file]);
        process::run(compiler.args(self.flags).arg("-o").arg(folder().join(self.name)))
    }
}

/// Where it all is.
fn folder() -> PathBuf {
    target_directory().join("bench")
}

/// What was built.
pub(super) struct Builds {
    folder: PathBuf,
    has_variants: bool,
}

impl Builds {
    pub(super) fn find() -> Self {
        Self { folder: folder(), has_variants: Variant::ALL.iter().all(|variant| variant.object().exists()) }
    }

    /// Whether there are variants of the BPF programs.
    pub(super) fn has_variants(&self) -> bool {
        self.has_variants
    }

    /// memprof as users have it.
    pub(super) fn product(&self) -> Command {
        Command::new(target_directory().join("release/memprof"))
    }

    /// memprof with a variant of the BPF programs.
    pub(super) fn memprof(&self, variant: Variant) -> Command {
        let mut command = Command::new(self.folder.join("release/memprof"));
        command.env("MEMPROF_BPF_OBJECT", variant.object());
        command
    }

    /// An example of memprof's.
    pub(super) fn example(&self, name: &str) -> Command {
        Command::new(self.folder.join("release/examples").join(name))
    }

    /// A workload's program, or what it reads.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// A folder for what a tool writes, which goes with what is returned.
    pub(super) fn scratch_folder(&self) -> Result<TempDir> {
        tempfile::tempdir_in(&self.folder).context("cannot make a folder for what tools write")
    }

    /// A place for a file that some tool writes.
    pub(super) fn scratch(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}
