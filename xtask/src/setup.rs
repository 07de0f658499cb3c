//! The packages that the tests and the BPF build need, and how to install those that are missing.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, bail};

use crate::process::{self, cargo, is_on_path, output, privileged};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Also what `cargo xtask ebpf` needs: Debian's Rust for BPF, its LLVM, and bpf-linker
    #[arg(long)]
    ebpf: bool,
    /// Also what `cargo xtask vm-test` needs: QEMU and busybox
    #[arg(long)]
    vm: bool,
    /// Also what `cargo xtask bench` compares memprof with
    #[arg(long)]
    bench: bool,
    /// Also what `cargo xtask dist` needs: cargo-deb, and what checks a package
    #[arg(long)]
    dist: bool,
}

/// A Debian package, and what shows elsewhere that it, or its like, is installed.
struct Package {
    name: &'static str,
    /// A command on the PATH, or an absolute path.
    proof: &'static str,
}

const fn package(name: &'static str, proof: &'static str) -> Package {
    Package { name, proof }
}

/// What the tests run or compile with.
const FOR_TESTS: &[Package] = &[
    package("gcc", "gcc"),
    package("g++", "g++"),
    package("libc6-dev", "/usr/include/stdlib.h"),
    package("binutils", "readelf"),
    package("gdb", "gdb"),
    package("valgrind", "valgrind"),
    // valgrind wants the symbols of the dynamic linker, and tests with gdb those of the allocator.
    package("libc6-dbg", "/usr/lib/debug"),
    package("sqlite3", "sqlite3"),
    package("libxml2-utils", "xmllint"),
    package("perl", "perl"),
    // `go tool pprof`, which reads saved profiles.
    package("golang-go", "go"),
    // `llc`.
    package("llvm", "llc"),
    package("redis-server", "redis-server"),
    package("nginx-light", "nginx"),
    package("python3", "/usr/bin/python3"),
    // `setpriv`, `setarch` and `script`.
    package("util-linux", "setpriv"),
    package("bsdutils", "script"),
    package("libcap2-bin", "setcap"),
    // Allocators.
    package("libjemalloc2", "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"),
    package("libmimalloc2.0", "/usr/lib/x86_64-linux-gnu/libmimalloc.so.2"),
    package("libtcmalloc-minimal4", "/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4"),
    package("musl", "/lib/ld-musl-x86_64.so.1"),
    package("musl-tools", "musl-gcc"),
    // A browser, for the pages, and letters for it.
    package("chromium-headless-shell", "chromium-headless-shell"),
    package("fonts-dejavu-core", "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"),
    // Readers of man pages and of completions.
    package("man-db", "man"),
    package("groff-base", "groff"),
    package("mandoc", "mandoc"),
    package("zsh", "zsh"),
    package("fish", "fish"),
    // A terminal that tests can type at and look at.
    package("tmux", "tmux"),
    // Headers, as a tree to walk.
    package("linux-libc-dev", "/usr/include/linux"),
];

/// What compiles the BPF crate on Debian, where rustup's nightly need not be.
const FOR_EBPF: &[Package] = &[
    package("rustc-web", "/usr/bin/rustc"),
    package("libstd-rust-web-dev-bpf", "/usr/lib/rustlib/bpfel-unknown-none"),
    package("rust-web-clippy", "/usr/bin/clippy-driver"),
    package("llvm-22-dev", "/usr/lib/llvm-22/lib/cmake/llvm/LLVMConfig.cmake"),
    package("libpolly-22-dev", "/usr/lib/llvm-22/lib/libPolly.a"),
    package("zlib1g-dev", "/usr/include/zlib.h"),
    package("libzstd-dev", "/usr/include/zstd.h"),
];

/// What boots other kernels. QEMU's package has virtiofsd in it, or depends on it.
const FOR_VM: &[Package] =
    &[package("qemu-system-x86", "qemu-system-x86_64"), package("busybox-static", "/bin/busybox")];

/// A browser and a terminal, for pictures.
const FOR_PICTURES: &[Package] = &[
    package("gcc", "gcc"),
    package("chromium-headless-shell", "chromium-headless-shell"),
    package("fonts-dejavu-core", "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"),
    package("tmux", "tmux"),
];

/// What fetches readers of profiles, and runs one of them.
const FOR_READERS: &[Package] = &[package("nodejs", "node"), package("npm", "npm")];

/// Tools to compare with, beside those that the tests run, and what runs them.
const FOR_BENCH: &[Package] =
    &[package("bpftrace", "bpftrace"), package("heaptrack", "heaptrack"), package("redis-tools", "redis-benchmark")];

/// The static libc, and what looks at a package and installs it.
const FOR_DIST: &[Package] = &[
    package("gcc", "gcc"),
    package("libc6-dev", "/usr/lib/x86_64-linux-gnu/libc.a"),
    package("lintian", "lintian"),
    package("mmdebstrap", "mmdebstrap"),
    package("musl-tools", "musl-gcc"),
    // `unshare`, and `mount`.
    package("util-linux", "unshare"),
    package("mount", "mount"),
];

/// Of bpf-linker, which cargo installs.
const BPF_LINKER_VERSION: &str = "0.13.0";

/// Of cargo-deb, likewise.
const CARGO_DEB_VERSION: &str = "3.8.0";

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    install(FOR_TESTS)?;
    if arguments.ebpf {
        install(FOR_EBPF).context(
            "on another distribution use rustup: `rustup toolchain install nightly --component rust-src` and \
             `cargo install bpf-linker`",
        )?;
        install_bpf_linker()?;
    }
    if arguments.bench {
        install(FOR_BENCH)?;
    }
    if arguments.vm {
        install(FOR_VM)?;
    }
    if arguments.dist { install_for_dist() } else { Ok(()) }
}

/// Installs what the tests need.
pub(crate) fn install_for_tests() -> Result<()> {
    install(FOR_TESTS)
}

/// Installs what makes the pictures in the README.
pub(crate) fn install_for_pictures() -> Result<()> {
    install(FOR_PICTURES)
}

/// Installs what fetches and runs readers of profiles.
pub(crate) fn install_for_readers() -> Result<()> {
    // Other packages of Node have npm in them, and exclude Debian's.
    if FOR_READERS.iter().all(|package| is_on_path(package.proof)) {
        return Ok(());
    }
    install(FOR_READERS)
}

/// Installs what runs the tests on another kernel, which must be Debian's.
pub(crate) fn install_for_vm() -> Result<()> {
    if !is_debian() {
        bail!("the kernels are Debian's packages: this needs Debian, or what derives from it");
    }
    install(FOR_TESTS)?;
    install(FOR_VM)
}

/// Installs what makes a release, and checks it.
pub(crate) fn install_for_dist() -> Result<()> {
    install(FOR_DIST)?;
    if is_on_path("cargo-deb") {
        return Ok(());
    }
    process::run(cargo().args(["install", "cargo-deb", "--version", CARGO_DEB_VERSION, "--locked"]))
}

fn install(packages: &[Package]) -> Result<()> {
    let debian = is_debian();
    let missing: Vec<&str> =
        packages.iter().filter(|package| !package.is_installed(debian)).map(|package| package.name).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !debian {
        bail!("please install what these Debian packages hold, and run this again: {}", missing.join(" "));
    }
    install_with_apt(&missing)
}

impl Package {
    fn is_installed(&self, debian: bool) -> bool {
        if debian {
            let mut query = Command::new("dpkg-query");
            query.args(["--show", "--showformat=${db:Status-Status}", self.name]);
            return output(&mut query).is_ok_and(|status| status == "installed");
        }
        if self.proof.starts_with('/') { Path::new(self.proof).exists() } else { is_on_path(self.proof) }
    }
}

/// Debian and what derives from it.
pub(crate) fn is_debian() -> bool {
    is_on_path("apt-get") && is_on_path("dpkg-query") && Path::new("/etc/debian_version").exists()
}

fn install_with_apt(missing: &[&str]) -> Result<()> {
    if !apt_knows(missing) {
        update_package_lists()?;
    }
    if install_known(missing).is_ok() {
        return Ok(());
    }
    // The lists can name versions that the mirror no longer has.
    update_package_lists()?;
    install_known(missing)
}

fn update_package_lists() -> Result<()> {
    process::run(apt_get()?.arg("update"))
}

fn install_known(packages: &[&str]) -> Result<()> {
    process::run(apt_get()?.args(["install", "--yes", "--no-install-recommends"]).args(packages))
}

fn apt_knows(packages: &[&str]) -> bool {
    output(Command::new("apt-cache").arg("show").args(packages)).is_ok()
}

fn apt_get() -> Result<Command> {
    let mut command = privileged("env")?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet"]);
    Ok(command)
}

fn install_bpf_linker() -> Result<()> {
    if is_on_path("bpf-linker") {
        return Ok(());
    }
    process::run(
        cargo()
            .args(["install", "bpf-linker", "--version", BPF_LINKER_VERSION])
            .args(["--no-default-features", "--features", "llvm-22"])
            .env("LLVM_PREFIX", "/usr/lib/llvm-22"),
    )
}
