//! Compilers that can build for BPF: Debian's Rust, which has a `core` for it, and rustup's nightly, which builds one.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    process::{cargo, is_on_path, output, root, run_quietly},
    remap,
};

pub(super) const TARGET: &str = "bpfel-unknown-none";

/// The compiler's flags. Those that name folders of this machine come on top, see [`Toolchain::remapped_paths`].
pub(super) const FLAGS: [&str; 5] =
    ["--cfg=bpf_target_arch=\"x86_64\"", "-Ctarget-cpu=v3", "-Cdebuginfo=2", "-Clinker=bpf-linker", "-Clink-arg=--btf"];

/// Called in the compiler's place: it keeps the checkout's folder out of the names of functions.
const RUSTC_WRAPPER: &str = "xtask/src/ebpf/rustc-wrapper.sh";

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
const DEBIAN_CORE: &str = "/usr/lib/rustlib/bpfel-unknown-none";
const DEBIAN_CARGO_CLIPPY: &str = "/usr/bin/cargo-clippy";

/// The packages that decide what Debian's toolchain makes.
const DEBIAN_PACKAGES: [&str; 3] = ["rustc-web", "libstd-rust-web-dev-bpf", "libllvm22"];

/// A compiler that is on this machine.
pub(super) struct Toolchain {
    kind: Kind,
    /// Names and versions of everything that decides what it makes, on one line.
    pub(super) identity: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Debian,
    Nightly,
}

impl Toolchain {
    /// The first toolchain of this machine, or a sentence on what to install.
    pub(super) fn find() -> Result<Self> {
        if !is_on_path("bpf-linker") {
            bail!("bpf-linker is missing: run `cargo xtask setup --ebpf` (Debian), or `cargo install bpf-linker`");
        }
        Self::all().next().context(
            "no Rust compiler for BPF is here: run `cargo xtask setup --ebpf` (Debian), or `rustup toolchain install \
             nightly --component rust-src`",
        )
    }

    /// All toolchains of this machine.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        [Kind::Debian, Kind::Nightly].into_iter().filter(|kind| kind.is_here()).filter_map(|kind| {
            let identity = kind.identity().ok()?;
            Some(Self { kind, identity })
        })
    }

    /// The command that builds the BPF crate into `target_directory`.
    pub(super) fn build(&self, target_directory: &Path) -> Result<Command> {
        // The folders that crates are unpacked to must exist before their names can be taken out of the object.
        run_quietly(cargo().args(["fetch", "--quiet"]).current_dir(ebpf_crate()))?;
        let mut command = match self.kind {
            Kind::Debian => cargo(),
            Kind::Nightly => nightly("cargo"),
        };
        command.arg("build").env("RUSTC_WRAPPER", root().join(RUSTC_WRAPPER));
        self.configure(&mut command, target_directory)?;
        Ok(command)
    }

    /// The command that runs clippy over the BPF crate, if this toolchain has it.
    pub(super) fn clippy(&self, target_directory: &Path) -> Option<Command> {
        let mut command = match self.kind {
            // rustup's clippy cannot read what Debian's compiler writes.
            Kind::Debian => Command::new(DEBIAN_CARGO_CLIPPY),
            Kind::Nightly => nightly("cargo-clippy"),
        };
        command.arg("clippy");
        let has_clippy = match self.kind {
            Kind::Debian => Path::new(DEBIAN_CARGO_CLIPPY).exists(),
            Kind::Nightly => output(nightly("cargo-clippy").args(["clippy", "--version"])).is_ok(),
        };
        self.configure(&mut command, target_directory).ok()?;
        has_clippy.then_some(command)
    }

    fn configure(&self, command: &mut Command, target_directory: &Path) -> Result<()> {
        let mut flags: Vec<String> = FLAGS.map(str::to_owned).into();
        flags.extend(self.remapped_paths()?);
        command
            .current_dir(ebpf_crate())
            .args(["--release", "--target", TARGET, "--target-dir"])
            .arg(target_directory)
            .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"));
        match self.kind {
            Kind::Debian => command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1"),
            Kind::Nightly => command.arg("-Zbuild-std=core"),
        };
        Ok(())
    }

    /// Flags that take this machine's folders out of the object, so that it is the same wherever it is built.
    fn remapped_paths(&self) -> Result<Vec<String>> {
        let mut flags = remap::flags()?;
        if self.kind == Kind::Nightly {
            flags.push(remap::flag(Path::new(&nightly_sysroot()?), "/rust"));
        }
        Ok(flags)
    }
}

impl Kind {
    fn is_here(self) -> bool {
        match self {
            Self::Debian => Path::new(DEBIAN_RUSTC).exists() && Path::new(DEBIAN_CORE).exists(),
            Self::Nightly => nightly_sysroot()
                .is_ok_and(|sysroot| Path::new(&sysroot).join("lib/rustlib/src/rust/library/core").exists()),
        }
    }

    fn identity(self) -> Result<String> {
        let mut parts = vec![output(self.rustc().arg("--version"))?];
        if self == Self::Debian {
            let mut query = Command::new("dpkg-query");
            query.args(["--show", "--showformat=${Package} ${Version}\n"]).args(DEBIAN_PACKAGES);
            parts.extend(output(&mut query)?.lines().map(str::to_owned));
        }
        parts.push(output(Command::new("bpf-linker").arg("--version"))?);
        let mut cargo = match self {
            Self::Debian => cargo(),
            Self::Nightly => nightly("cargo"),
        };
        parts.push(output(cargo.arg("--version"))?);
        Ok(parts.join("; "))
    }

    fn rustc(self) -> Command {
        match self {
            Self::Debian => Command::new(DEBIAN_RUSTC),
            Self::Nightly => nightly("rustc"),
        }
    }
}

/// A program of rustup's nightly toolchain.
fn nightly(program: &str) -> Command {
    let mut command = Command::new("rustup");
    // What rustup and cargo set for the toolchain that runs this program.
    command.env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO").env_remove("RUSTC");
    command.args(["run", "nightly", program]);
    command
}

fn nightly_sysroot() -> Result<String> {
    output(nightly("rustc").args(["--print", "sysroot"]))
}

fn ebpf_crate() -> PathBuf {
    root().join("memprof-ebpf")
}
