//! What the guest starts from: busybox, the modules that lead to the host's files, and a script.

use std::{
    fs::{self, File},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::kernel::Kernel;
use crate::process::{output, root, target_directory};

const BUSYBOX: &str = "/bin/busybox";

/// In the order in which they need each other. A kernel that has one built in has no file of it.
const MODULES: [&str; 7] =
    ["virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "fuse", "virtiofs"];

/// Folders of the host that are empty ones of the guest's.
const EMPTY: [&str; 3] = ["/tmp", "/run", "/var/tmp"];

/// Makes the archive that starts a kernel, and then the tests by the script `tests`; in an empty folder.
pub(super) fn build(kernel: &Kernel, tests: &str, folder: &Path) -> Result<PathBuf> {
    let folder = folder.join("initramfs");
    for part in ["bin", "modules"] {
        fs::create_dir_all(folder.join(part))?;
    }
    fs::copy(BUSYBOX, folder.join("bin/busybox")).context("cannot copy busybox")?;
    for name in MODULES {
        copy_module(kernel, name, &folder.join("modules"))?;
    }
    fs::write(folder.join("init"), init())?;
    fs::set_permissions(folder.join("init"), fs::Permissions::from_mode(0o755))?;
    fs::write(folder.join("tests"), tests)?;
    archive(&folder)
}

/// The script, with what is known here before its second line.
fn init() -> String {
    let (first, rest) = include_str!("init.sh").split_once('\n').unwrap_or_default();
    let bound = [root().to_path_buf(), target_directory()].map(|folder| folder.display().to_string()).join("\n");
    format!("{first}\nMODULES='{}'\nEMPTY='{}'\nBOUND='{bound}'\n{rest}", MODULES.join(" "), EMPTY.join(" "))
}

fn copy_module(kernel: &Kernel, name: &str, folder: &Path) -> Result<()> {
    let file = |suffix: &str| kernel.module(&format!("{name}.ko{suffix}"));
    let copy = folder.join(format!("{name}.ko"));
    if let Some(module) = file("")? {
        fs::copy(module, copy)?;
    } else if let Some(module) = file(".xz")? {
        let status = Command::new(BUSYBOX).args(["unxz", "-c"]).arg(module).stdout(File::create(copy)?).status()?;
        if !status.success() {
            bail!("cannot unpack {name}");
        }
    }
    Ok(())
}

/// All of a folder, in the format that kernels unpack.
fn archive(folder: &Path) -> Result<PathBuf> {
    let names = output(Command::new("find").arg(".").current_dir(folder))?;
    let path = folder.with_extension("cpio");
    let mut cpio = Command::new(BUSYBOX);
    cpio.args(["cpio", "-o", "-H", "newc"]).current_dir(folder).stdin(Stdio::piped()).stderr(Stdio::null());
    let mut child = cpio.stdout(File::create(&path)?).spawn()?;
    child.stdin.take().context("no pipe")?.write_all(names.as_bytes())?;
    if !child.wait()?.success() {
        bail!("busybox cpio failed");
    }
    Ok(path)
}
