//! The tests. Those that need the real kernel (`memprof/tests/live*.rs`) run as root, and nothing else does.

use std::{ffi::OsString, os::unix::fs::MetadataExt as _, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    process::{self, build_memprof, cargo, is_root, privileged, root, run_quietly},
    setup,
};

#[derive(Default, clap::Args)]
pub(crate) struct Arguments {
    /// For `cargo test`, such as `--test live` or `-- a_test_name`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    cargo: Vec<String>,
}

#[derive(clap::Args)]
pub(crate) struct Executable {
    path: OsString,
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Installs what the tests need and runs `cargo test --workspace`. Tests find the release build of memprof, which is
/// the one to measure, in the environment variable `MEMPROF_RELEASE`.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    setup::install_for_tests()?;
    let memprof = build_memprof()?;
    let mut command = cargo();
    command.env("MEMPROF_RELEASE", memprof);
    if !is_root()? {
        command.arg("--config").arg(runner()?);
    }
    process::run(command.args(["test", "--workspace", "--no-fail-fast"]).args(&arguments.cargo))
}

/// A setting of cargo's that has this program start every test executable.
fn runner() -> Result<String> {
    let program = std::env::current_exe().context("cannot find the path of xtask")?;
    Ok(format!("target.'cfg(unix)'.runner = [{:?}, \"run-test\"]", program.display().to_string()))
}

/// What [`runner`] names.
pub(crate) fn run_executable(executable: &Executable) -> Result<()> {
    if !is_live(Path::new(&executable.path)) {
        return run_quietly(Command::new(&executable.path).args(&executable.arguments));
    }
    let result = run_quietly(privileged(&executable.path)?.args(&executable.arguments));
    give_back_files()?;
    result
}

/// Whether this is the executable of a `tests/live*.rs`. Its name ends in a dash and a hash.
fn is_live(executable: &Path) -> bool {
    executable.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"live"))
}

/// What the live tests made as root, under cargo's folder for it, belongs to whoever owns the checkout.
fn give_back_files() -> Result<()> {
    let folder = process::target_directory().join("tmp");
    if !folder.exists() {
        return Ok(());
    }
    let owner = root().metadata().context("cannot read the checkout's owner")?;
    run_quietly(privileged("chown")?.arg("-R").arg(format!("{}:{}", owner.uid(), owner.gid())).arg(folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_live_tests_run_as_root() {
        assert!(is_live(Path::new("/checkout/target/debug/deps/live-0123456789abcdef")));
        assert!(is_live(Path::new("/checkout/target/debug/deps/live_valgrind-0123456789abcdef")));
        assert!(!is_live(Path::new("/live/target/debug/deps/memprof-0123456789abcdef")));
    }
}
