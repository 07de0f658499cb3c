//! The main job, shown: a leaking program (`xtask/demo/leak.c`) is launched under memprof, then attached to.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
};

use anyhow::{Context as _, Result};

use crate::process::{self, build_memprof, privileged, root, target_directory};

pub(crate) fn run() -> Result<()> {
    let memprof = build_memprof()?;
    let leak = compile("leak")?;

    eprintln!("\nA program that leaks 456 bytes in 3 allocations, launched:");
    process::run(privileged(&memprof)?.arg("--").arg(&leak))?;

    let server = Server::start(&leak)?;
    let pid = server.pid();
    eprintln!("\nThe same program as a server that leaks slowly (process {pid}), attached to:");
    process::run(privileged(&memprof)?.args(["--pid", &pid, "--interval", "1s", "--count", "3"]))
}

/// Compiles one of the programs in `xtask/demo/`.
pub(crate) fn compile(name: &str) -> Result<PathBuf> {
    compile_with("gcc", &[], name, name)
}

/// The same without shared libraries, with musl: glibc would allocate before `main`.
pub(crate) fn compile_statically(name: &str) -> Result<PathBuf> {
    compile_with("musl-gcc", &["-static"], name, &format!("{name}-static"))
}

fn compile_with(compiler: &str, flags: &[&str], name: &str, program: &str) -> Result<PathBuf> {
    let folder = target_directory().join("demo");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let program = folder.join(program);
    let source = format!("{name}.c");
    let mut command = Command::new(compiler);
    command.current_dir(root().join("xtask/demo")).arg("-g").args(flags).arg(source).arg("-o").arg(&program);
    process::run(&mut command)?;
    Ok(program)
}

/// The leaking program in the background, until this is dropped.
struct Server(Child);

impl Server {
    fn start(leak: &Path) -> Result<Self> {
        let child = Command::new(leak).arg("--serve").spawn();
        Ok(Self(child.with_context(|| format!("cannot start {}", leak.display()))?))
    }

    fn pid(&self) -> String {
        self.0.id().to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It can only fail when the program has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
