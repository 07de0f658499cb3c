//! Roots with almost nothing in them.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::process::{privileged, target_directory};

/// Makes `$1` a root with what is in the archive `$2`, the files up to `--`, and what the kernel tells in `/proc` and
/// `/sys`; then becomes the command that follows. All of that is in memory, and seen by this process and its children
/// only, so that the kernel removes it when they have ended, however they did.
const ENTER: &str = r#"
root=$1 archive=$2
shift 2
mount -t tmpfs -o mode=755 tmpfs "$root"
if [ -n "$archive" ]; then tar --extract --file "$archive" --directory "$root"; fi
while [ "$1" != -- ]; do cp "$1" "$root"; shift; done
shift
for tells in proc sys; do
    mkdir -p "$root/$tells"
    mount --rbind "/$tells" "$root/$tells"
done
exec chroot "$root" "$@"
"#;

/// What is in a root when a command begins there.
#[derive(Default)]
pub(super) struct Root<'a> {
    /// A tar archive.
    pub(super) archive: Option<&'a Path>,
    /// Copied to `/`.
    pub(super) files: Vec<&'a Path>,
}

impl Root<'_> {
    /// A command in such a root, which it has for itself.
    pub(super) fn command<S: AsRef<OsStr>>(&self, words: impl IntoIterator<Item = S>) -> Result<Command> {
        let mut command = privileged("unshare")?;
        command.args(["--mount", "--propagation", "private", "sh", "-e", "-c", ENTER, "enter"]);
        command.arg(mount_point()?).arg(self.archive.unwrap_or(Path::new(""))).args(&self.files);
        command.arg("--").args(words);
        Ok(command)
    }
}

/// An empty folder, which stays empty for everybody else.
fn mount_point() -> Result<PathBuf> {
    let folder = target_directory().join("dist-check/root");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder)
}
