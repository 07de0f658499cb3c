//! The static executable.

use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::{
    process::{self, cargo, target_directory},
    remap,
};

/// Named, so that flags are for memprof and not for what runs while it is built: macros cannot be static.
pub(super) const TARGET: &str = "x86_64-unknown-linux-gnu";

/// In the workspace's `Cargo.toml`. Cargo has a folder of this name in its target directory, which is not the release's.
pub(super) const PROFILE: &str = "static";

/// Builds memprof with its libc in it, and says where it is.
pub(super) fn build() -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["build", "--locked", "--package", "memprof", "--profile", PROFILE, "--target", TARGET]);
    process::run(command.env("CARGO_ENCODED_RUSTFLAGS", flags()?.join("\x1f")))?;
    Ok(folder().join("memprof"))
}

/// Where cargo puts what it builds so.
pub(super) fn folder() -> PathBuf {
    target_directory().join(TARGET).join(PROFILE)
}

fn flags() -> Result<Vec<String>> {
    let mut flags = vec!["-Ctarget-feature=+crt-static".to_owned()];
    flags.extend(remap::flags()?);
    flags.push(remap::flag(Path::new(&target_directory()), "/memprof/target"));
    Ok(flags)
}
