//! The package in the smallest system that dpkg runs in.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};

use super::{check::demand_leak, root::Root};
use crate::{
    demo,
    process::{self, output, privileged, target_directory},
};

/// Installs it, asks for its version, runs it, and removes it. Standard output is memprof's report alone.
const TRY: &str = r#"
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
{
    dpkg --install /*.deb
    dpkg --verify memprof
    dpkg --listfiles memprof
    for file in bin/memprof share/man/man1/memprof.1.gz share/man/man1/memprof-sweep.1.gz \
        share/bash-completion/completions/memprof share/zsh/vendor-completions/_memprof \
        share/fish/vendor_completions.d/memprof.fish share/doc/memprof/copyright share/doc/memprof/licences.gz \
        share/doc/memprof/changelog.gz share/doc/memprof/changelog.Debian.gz
    do
        test -s "/usr/$file" || { echo "/usr/$file is missing"; exit 1; }
    done
    memprof --version
    memprof doctor
} >&2
memprof --format json -- /leak
dpkg --purge memprof >&2
if [ -e /usr/bin/memprof ] || [ -e /usr/share/doc/memprof ]; then echo "it was not removed" >&2; exit 1; fi
"#;

pub(super) fn check(package: &Path) -> Result<()> {
    let (archive, leak) = (archive()?, demo::compile("leak")?);
    let root = Root { archive: Some(&archive), files: vec![package, &leak] };
    let report = output(root.command(["/bin/sh", "-e", "-c", TRY])?.stderr(Stdio::inherit()))?;
    demand_leak(&report, "root")
}

/// An archive of the essential packages of this machine's Debian release, downloaded once.
fn archive() -> Result<PathBuf> {
    let release = release()?;
    let archive = target_directory().join("dist-check").join(format!("{release}.tar"));
    if archive.exists() {
        return Ok(archive);
    }
    let partial = archive.with_extension("partial");
    fs::create_dir_all(target_directory().join("dist-check")).context("cannot create a folder")?;
    let file = File::create(&partial).with_context(|| format!("cannot create {}", partial.display()))?;
    process::run(privileged("mmdebstrap")?.args(["--quiet", "--variant=essential", &release]).stdout(file))?;
    fs::rename(&partial, &archive).with_context(|| format!("cannot create {}", archive.display()))?;
    Ok(archive)
}

/// The name of this machine's release, whose libc the leaking program was linked with.
fn release() -> Result<String> {
    let text = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let name = text.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    match name {
        Some(name) => Ok(name.trim_matches('"').to_owned()),
        None => bail!("this is no release of Debian: the package is tried on one like the machine's"),
    }
}
