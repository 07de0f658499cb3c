//! Which tests run in the guest, and the script that runs them there.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};

use crate::process::{cargo, root};

/// Attach, launch, unwinding, lifecycle: what depends on the kernel.
const USUAL: [&str; 11] = [
    "live_leak",
    "live_stacks",
    "live_functions",
    "live_launch",
    "live_images",
    "live_children",
    "live_threads",
    "live_servers",
    "live_losses",
    "live_refusals",
    "live_growth",
];

/// For `--short`.
const SHORT: [&str; 2] = ["live_leak", "live_stacks"];

/// Of the host's environment, what the guest's programs need to find others.
const KEPT: [&str; 5] = ["PATH", "HOME", "CARGO_HOME", "RUSTUP_HOME", "RUSTUP_TOOLCHAIN"];

/// The names of test executables to run, if these were asked for.
pub(super) fn selection(named: &[String], short: bool) -> Vec<&str> {
    match (named, short) {
        ([], false) => USUAL.to_vec(),
        ([], true) => SHORT.to_vec(),
        (named, _) => named.iter().map(String::as_str).collect(),
    }
}

/// Compiles test executables, and says where they are.
pub(super) fn build(names: &[&str]) -> Result<Vec<PathBuf>> {
    let mut command = cargo();
    command.args(["test", "--package", "memprof", "--no-run", "--message-format=json-render-diagnostics"]);
    command.args(names.iter().flat_map(|name| ["--test", name]));
    let output = command.stderr(Stdio::inherit()).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("the tests cannot be compiled");
    }
    String::from_utf8_lossy(&output.stdout).lines().filter_map(|line| executable(line).transpose()).collect()
}

/// The test executable that a message of cargo's is about.
fn executable(message: &str) -> Result<Option<PathBuf>> {
    let message: serde_json::Value = serde_json::from_str(message).context("cargo's message is no JSON")?;
    let is_test = message["profile"]["test"] == true;
    Ok(message["executable"].as_str().filter(|_| is_test).map(PathBuf::from))
}

/// A shell script that runs the executables, and fails if one of them does.
pub(super) fn script(memprof: &Path, executables: &[PathBuf], arguments: &[String]) -> Result<String> {
    let arguments = arguments.iter().map(|argument| format!(" {}", quoted(argument))).collect::<String>();
    let mut script = environment(memprof)?;
    script += &format!("cd {}\nstatus=0\n", quoted(&text(&root().join("memprof"))?));
    // It says how long the programs take to load here.
    script += "\"$MEMPROF_RELEASE\" doctor || status=1\n";
    for executable in executables {
        script += &format!("{}{arguments} || status=1\n", quoted(&text(executable)?));
    }
    Ok(script + "exit $status\n")
}

fn environment(memprof: &Path) -> Result<String> {
    let kept = KEPT.iter().filter_map(|name| Some((*name, std::env::var(name).ok()?)));
    let variables = kept.chain([("MEMPROF_RELEASE", text(memprof)?), ("LANG", "C.UTF-8".into())]);
    Ok(variables.map(|(name, value)| format!("export {name}={}\n", quoted(&value))).collect())
}

fn text(path: &Path) -> Result<String> {
    Ok(path.to_str().with_context(|| format!("{} is no text", path.display()))?.to_owned())
}

/// As one word of the shell's.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_whole() {
        assert_eq!(quoted("it's here"), r"'it'\''s here'");
    }

    #[test]
    fn only_test_executables_are_run() {
        let of = |message| executable(message).ok().flatten();
        assert_eq!(of(r#"{"profile":{"test":true},"executable":"/a/live-1"}"#), Some(PathBuf::from("/a/live-1")));
        assert_eq!(of(r#"{"profile":{"test":false},"executable":"/a/memprof"}"#), None);
        assert_eq!(of(r#"{"profile":{"test":true},"executable":null}"#), None);
        assert_eq!(of(r#"{"reason":"build-finished"}"#), None);
    }
}
