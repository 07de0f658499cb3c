//! memprof with some privileges and not others.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

/// Who has no rights of their own.
pub const NOBODY: [&str; 3] = ["--reuid=65534", "--regid=65534", "--clear-groups"];

/// All that memprof needs.
pub const THREE: [&str; 3] = ["bpf", "perfmon", "sys_ptrace"];

/// Lets everybody into a folder.
pub fn publish(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
}

/// memprof where somebody who is not root may execute it.
pub struct PublicCopy {
    folder: TempDir,
    path: PathBuf,
}

impl PublicCopy {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        publish(folder.path());
        let path = folder.path().join("memprof");
        super::copy_program(super::memprof().get_program(), &path);
        Self { folder, path }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder it is in.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// `memprof`, as nobody with these capabilities: there is no way to others.
    pub fn with(&self, capabilities: &[&str]) -> Command {
        let mut command = as_nobody(capabilities);
        command.arg(&self.path);
        command
    }
}

/// `setpriv OPTIONS`, for a command that is to run as nobody with these capabilities.
pub fn as_nobody(capabilities: &[&str]) -> Command {
    as_user(65534, capabilities)
}

/// The same as the user with that number, who has no other process.
pub fn as_user(user: u32, capabilities: &[&str]) -> Command {
    let set: String =
        ["-all".to_owned()].into_iter().chain(capabilities.iter().map(|name| format!(",+{name}"))).collect();
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={user}"), format!("--regid={user}"), "--clear-groups".to_owned()]);
    command.args(["--bounding-set", "--inh-caps", "--ambient-caps"].map(|option| format!("{option}={set}")));
    command
}
