//! What is released: memprof as one static executable, and a Debian package with it. Both run where nothing else is
//! installed, which can be checked, and both are the same bytes wherever they are built.

mod bare;
mod binary;
mod check;
mod debian;
mod licences;
mod package;
mod reproduce;
mod root;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{
    process::{output, root as checkout, target_directory},
    setup,
};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Also run both in empty roots, with nothing but what they bring, and have lintian look at the package
    #[arg(long)]
    check: bool,
    /// Also make both again, from a clone of the last commit in another folder, and compare the bytes
    #[arg(long)]
    reproduce: bool,
}

/// A release, as files in one folder.
struct Release {
    memprof: PathBuf,
    package: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.reproduce {
        reproduce::demand_commit()?;
    }
    setup::install_for_dist()?;
    let release = Release::make(&folder())?;
    if arguments.check {
        check::run(&release)?;
    }
    if arguments.reproduce {
        reproduce::run()?;
    }
    eprintln!("the release is in {}", folder().display());
    Ok(())
}

fn folder() -> PathBuf {
    target_directory().join("dist")
}

impl Release {
    /// Replaces what is in the folder.
    fn make(folder: &Path) -> Result<Self> {
        let built = binary::build()?;
        if folder.exists() {
            fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
        fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let memprof = folder.join("memprof");
        fs::copy(&built, &memprof).with_context(|| format!("cannot copy {}", built.display()))?;
        let notices = licences::notices()?;
        write(&folder.join("licences.txt"), &notices)?;
        let package = package::pack(&built, &notices, folder)?;
        write_sums(folder)?;
        Ok(Self { memprof, package })
    }
}

/// `SHA256SUMS`, for `sha256sum --check`.
fn write_sums(folder: &Path) -> Result<()> {
    let sums = output(Command::new("sh").current_dir(folder).args(["-c", "sha256sum *"]))?;
    write(&folder.join("SHA256SUMS"), &format!("{sums}\n"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Something of the last commit: `%ct`, its time.
fn of_commit(format: &str) -> Result<String> {
    output(Command::new("git").current_dir(checkout()).args(["log", "-1", &format!("--format={format}")]))
}
