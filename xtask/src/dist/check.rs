//! What a release must do, on this machine's kernel.

use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};

use super::{Release, bare, debian};
use crate::process;

/// Checks the executable and the package. It is an error if anything is not as it must be.
pub(super) fn run(release: &Release) -> Result<()> {
    eprintln!("\n== lintian");
    process::run(Command::new("lintian").args(["--fail-on", "error,warning"]).arg(&release.package))?;
    eprintln!("\n== the executable, in an empty root");
    bare::check(&release.memprof).context("in an empty root")?;
    eprintln!("\n== the package, in Debian's smallest root");
    debian::check(&release.package).context("in Debian's smallest root")
}

/// An error unless a JSON report has exactly what `xtask/demo/leak.c` leaks, with names and lines, and the process is this
/// user's.
pub(super) fn demand_leak(report: &str, user: &str) -> Result<()> {
    let report: Value = serde_json::from_str(report).with_context(|| format!("no report: {report}"))?;
    let process = &report["processes"][0];
    let stack = |stack: &Value| {
        let caller = &stack["frames"][0];
        json!([stack["outstanding_bytes"], stack["outstanding_allocations"], caller["function"], caller["source"]])
    };
    let stacks: Vec<_> = process["stacks"].as_array().into_iter().flatten().map(stack).collect();
    let lost = ["allocations", "frees", "stacks"].map(|kind| &report["lost"][kind]);
    let found = json!({
        "lost": lost, "warnings": report["warnings"], "user": process["user"],
        "outstanding": process["outstanding"], "stacks": stacks,
    });
    let expected = json!({
        "lost": [0, 0, 0], "warnings": [], "user": user,
        "outstanding": {"bytes": 456, "allocations": 3},
        "stacks": [[256, 1, "open_table", "leak.c:15"], [200, 2, "remember_request", "leak.c:11"]],
    });
    if found != expected {
        bail!("memprof reports\n{found}\nand not\n{expected}");
    }
    eprintln!("456 B in 3 allocations, by function, file and line; the process is that of {user}");
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use super::*;

    fn report(bytes: u64, line: u64) -> String {
        let frame = |function: &str, line: u64| json!([{"function": function, "source": format!("leak.c:{line}")}]);
        let stacks = json!([
            {"outstanding_bytes": 256, "outstanding_allocations": 1, "frames": frame("open_table", 15)},
            {"outstanding_bytes": 200, "outstanding_allocations": 2, "frames": frame("remember_request", line)},
        ]);
        let process = json!({"user": "0", "outstanding": {"bytes": bytes, "allocations": 3}, "stacks": stacks});
        let lost = json!({"allocations": 0, "frees": 0, "stacks": 0, "causes": {}});
        json!({"lost": lost, "warnings": [], "processes": [process]}).to_string()
    }

    #[test]
    fn a_report_is_right_to_the_byte_and_line() {
        demand_leak(&report(456, 11), "0").unwrap();
        for (bytes, line, user) in [(457, 11, "0"), (456, 12, "0"), (456, 11, "root")] {
            demand_leak(&report(bytes, line), user).unwrap_err();
        }
        demand_leak("", "0").unwrap_err();
    }
}
