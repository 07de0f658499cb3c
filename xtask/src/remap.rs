//! Flags of the compiler's that take this machine's folders out of what it makes, so that it is the same wherever it is built.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::process::root;

/// For the checkout, and for cargo's folders. Of several prefixes of a path, the last one counts.
pub(crate) fn flags() -> Result<Vec<String>> {
    let cargo_home = cargo_home()?;
    let mut flags = vec![flag(root(), "/memprof"), flag(&cargo_home, "/cargo")];
    // Below this is a folder for each registry, named after its host.
    for registry in fs::read_dir(cargo_home.join("registry/src")).into_iter().flatten() {
        flags.push(flag(&registry?.path(), "/cargo/registry"));
    }
    Ok(flags)
}

/// For one folder more.
pub(crate) fn flag(from: &Path, to: &str) -> String {
    format!("--remap-path-prefix={}={to}", from.display())
}

fn cargo_home() -> Result<PathBuf> {
    std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
        .context("neither CARGO_HOME nor HOME is set")
}
