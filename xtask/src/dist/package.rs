//! The Debian package. What goes where in it is in `memprof/Cargo.toml`, which cargo-deb reads; here is made what is not
//! in the tree.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{
    binary::{PROFILE, TARGET, folder},
    of_commit, write,
};
use crate::{
    man,
    process::{self, cargo, output},
};

/// Whom Debian's tools name.
const MAINTAINER: &str = "memprof maintainers <memprof@memprof.invalid>";

/// Of the packaging, behind memprof's version.
const REVISION: &str = "1";

/// Names of completions, as each shell looks for them.
const COMPLETIONS: [(&str, &str); 3] = [("bash", "memprof"), ("zsh", "_memprof"), ("fish", "memprof.fish")];

/// Packs a static memprof, and says where the package is.
pub(super) fn pack(memprof: &Path, notices: &str, destination: &Path) -> Result<PathBuf> {
    stage(memprof, notices).context("cannot make what the package holds")?;
    let version = format!("{}-{REVISION}", env!("CARGO_PKG_VERSION"));
    let package = destination.join(format!("memprof_{version}_amd64.deb"));
    let mut command = cargo();
    command.args(["deb", "--package", "memprof", "--no-build", "--no-strip", "--profile", PROFILE, "--target", TARGET]);
    command.args(["--deb-version", &version, "--maintainer", MAINTAINER, "--locked", "--output"]).arg(&package);
    process::run(command.env("SOURCE_DATE_EPOCH", of_commit("%ct")?))?;
    Ok(package)
}

/// Puts beside the executable what `memprof/Cargo.toml` names there.
fn stage(memprof: &Path, notices: &str) -> Result<()> {
    let staged = folder().join("package");
    if staged.exists() {
        fs::remove_dir_all(&staged).with_context(|| format!("cannot remove {}", staged.display()))?;
    }
    man::write(memprof, &staged.join("man"))?;
    for (shell, name) in COMPLETIONS {
        let folder = staged.join(shell);
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let script = output(Command::new(memprof).args(["completions", shell]))?;
        write(&folder.join(name), &format!("{script}\n"))?;
    }
    write(&staged.join("licences"), notices)?;
    write(&staged.join("changelog.Debian"), &changelog()?)?;
    let mut gzip = Command::new("gzip");
    gzip.current_dir(staged).args(["--recursive", "--best", "--no-name", "man", "licences", "changelog.Debian"]);
    process::run(&mut gzip)
}

/// The changelog of the packaging, which Debian wants beside memprof's.
fn changelog() -> Result<String> {
    let version = env!("CARGO_PKG_VERSION");
    let date = of_commit("%cD")?;
    Ok(format!(
        "memprof ({version}-{REVISION}) unstable; urgency=medium\n\n  * memprof {version}; see changelog.gz.\n\n -- \
         {MAINTAINER}  {date}\n"
    ))
}
