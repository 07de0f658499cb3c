//! Test executables: compiled by cargo, and run by others than it.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::process::cargo;

/// A compiled test executable.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct TestExecutable {
    /// Of the crate, or of the file in `tests/`.
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    /// Where cargo would run it: its package's.
    pub(crate) folder: PathBuf,
}

/// Compiles what `cargo test ARGUMENTS` would run.
pub(crate) fn build(arguments: &[&str]) -> Result<Vec<TestExecutable>> {
    let mut command = cargo();
    command.args(["test", "--no-run", "--message-format=json-render-diagnostics"]).args(arguments);
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the tests cannot be compiled");
    }
    String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| executable(line).transpose()).collect()
}

/// The test executable that a message of cargo's is about.
fn executable(message: &str) -> Result<Option<TestExecutable>> {
    let message: Value = serde_json::from_str(message).context("cargo's message is no JSON")?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let of_message = || {
        let path = text(&message["executable"])?.into();
        let folder = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
        Some(TestExecutable { name: text(&message["target"]["name"])?, path, folder })
    };
    Ok(if message["profile"]["test"] == true { of_message() } else { None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_test_executables_are_listed() {
        let of = |executable: &str, is_test: bool| {
            let message = format!(
                r#"{{"manifest_path":"/a/Cargo.toml","target":{{"name":"live"}},"profile":{{"test":{is_test}}},"executable":{executable}}}"#
            );
            super::executable(&message).ok().flatten()
        };
        let live = TestExecutable { name: "live".into(), path: "/a/target/live-1".into(), folder: "/a".into() };
        assert_eq!(of(r#""/a/target/live-1""#, true), Some(live));
        assert_eq!(of(r#""/a/target/memprof""#, false), None);
        assert_eq!(of("null", true), None);
        assert_eq!(executable(r#"{"reason":"build-finished"}"#).ok(), Some(None));
    }
}
