//! Other programs, and the privileges they run with.

use std::{
    ffi::OsStr,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

/// The checkout.
pub(crate) fn root() -> &'static Path {
    let manifest_directory = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest_directory.parent().unwrap_or(manifest_directory)
}

/// The cargo that started this program, in the checkout.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(root());
    command
}

/// Where cargo puts what it builds for this machine.
pub(crate) fn target_directory() -> PathBuf {
    root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Builds memprof as users do, and says where it is.
pub(crate) fn build_memprof() -> Result<PathBuf> {
    run(cargo().args(["build", "--release", "--package", "memprof"]))?;
    Ok(target_directory().join("release/memprof"))
}

/// Whether this process runs as root.
pub(crate) fn is_root() -> Result<bool> {
    Ok(fs::metadata("/proc/self").context("cannot read /proc/self")?.uid() == 0)
}

/// A command that runs as root, in this environment: through sudo for everybody else.
pub(crate) fn privileged(program: impl AsRef<OsStr>) -> Result<Command> {
    if is_root()? {
        return Ok(Command::new(program));
    }
    if !is_on_path("sudo") {
        bail!("{} must run as root: run this as root, or install sudo", Path::new(program.as_ref()).display());
    }
    let mut command = Command::new("sudo");
    // sudo sets a PATH of its own, whatever -E says.
    command.arg("-E").arg("env");
    if let Some(path) = std::env::var_os("PATH") {
        let mut assignment = std::ffi::OsString::from("PATH=");
        assignment.push(path);
        command.arg(assignment);
    }
    command.arg(program);
    Ok(command)
}

/// Whether a shell would find `program`.
pub(crate) fn is_on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(program).exists()))
}

/// Prints the command and runs it; an exit status other than 0 is an error.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    eprintln!("$ {}", display(command));
    run_quietly(command)
}

/// [`run`] without the printing.
pub(crate) fn run_quietly(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot run {}", display(command)))?;
    if !status.success() {
        bail!("{} failed ({status})", display(command));
    }
    Ok(())
}

/// What a command prints, without the last newline; an exit status other than 0 is an error.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot run {}", display(command)))?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!("{} failed ({}): {}", display(command), output.status, complaint.trim());
    }
    let text = String::from_utf8(output.stdout).with_context(|| format!("{} printed no text", display(command)))?;
    Ok(text.trim_end().to_owned())
}

/// A command as one would type it, its program without the folder.
fn display(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(program).chain(command.get_args()).map(OsStr::to_string_lossy);
    words.filter(|word| !word.starts_with("PATH=")).collect::<Vec<_>>().join(" ")
}
