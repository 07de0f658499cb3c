//! Readers of saved profiles that are no Debian packages: downloaded from npm, and tried on a profile of memprof's.

use std::{fs, path::Path, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    process::{self, cargo, target_directory},
    setup,
};

/// Speedscope, and DataDog's decoder of the format.
const PACKAGES: [&str; 2] = ["speedscope@1.25.0", "pprof-format@2.3.2"];

/// Downloads them, below cargo's folder, and runs the tests that want them.
pub(crate) fn run() -> Result<()> {
    setup::install_for_readers()?;
    let folder = target_directory().join("readers");
    install(&folder)?;
    let mut command = cargo();
    command.env("MEMPROF_READERS", folder.join("node_modules"));
    process::run(command.args(["xtask", "test", "--test", "live_readers", "--", "--ignored"]))
}

fn install(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--no-save", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix"]);
    process::run(npm.arg(folder).args(PACKAGES))
}
