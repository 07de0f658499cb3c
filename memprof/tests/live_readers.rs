//! Profiles read by tools that are no Debian packages: `cargo xtask readers` downloads these, and runs what is ignored here.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

mod browser;
mod support;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use browser::{Page, url};
use serde_json::{Value, json};
use support::{Program, memprof};

/// Holds 6000 bytes in 15 blocks, of 35 and 7000 that it has allocated.
const LEAK: &str = r"
#include <stdlib.h>

void *volatile kept;

__attribute__((noinline)) void hold(size_t bytes) { kept = malloc(bytes); }
__attribute__((noinline)) void small(void) { for (int i = 0; i < 10; i++) hold(100); }
__attribute__((noinline)) void large(void) { for (int i = 0; i < 5; i++) hold(1000); }

int main(void) {
    small();
    large();
    for (int i = 0; i < 20; i++) free(malloc(50));
    return 0;
}
";

/// The folder of a package of npm's.
fn package(name: &str) -> PathBuf {
    let readers = std::env::var_os("MEMPROF_READERS").expect("cargo xtask readers says where they are");
    Path::new(&readers).join(name)
}

fn save(program: &Program) -> PathBuf {
    let profile = program.folder().join("leak.pb.gz");
    let status = memprof().args(["--quiet", "-o"]).arg(&profile).arg("--").arg(program.path()).status().unwrap();
    assert!(status.success());
    profile
}

fn leak() -> Program {
    Program::c(LEAK, &["-fno-builtin", "-fno-optimize-sibling-calls"])
}

/// As `speedscope leak.pb.gz` opens it. The table of functions has what each of them, and those that it calls, hold.
#[test]
#[ignore = "wants Speedscope: cargo xtask readers"]
fn speedscope_finds_the_same_functions_and_bytes() {
    let program = leak();
    let content = BASE64_STANDARD.encode(fs::read(save(&program)).unwrap());
    let script = program.folder().join("profile.js");
    fs::write(&script, format!("speedscope.loadFileFromBase64(\"leak.pb.gz\", {})", json!(content))).unwrap();
    let index = package("speedscope").join("dist/release/index.html");
    let address = format!("{}#view=sandwich&localProfilePath={}", url(&index), script.display());
    let mut page = Page::open_address(&address);
    page.wait_until("document.querySelectorAll('table tr').length > 4");
    let rows = page.value(
        "[...document.querySelectorAll('table tr')].map(row => [...row.cells].map(cell => cell.textContent.trim()))",
    );
    let row = |function: &str| {
        let rows = rows.as_array().unwrap();
        let row = rows.iter().find(|row| row.as_array().unwrap().last() == Some(&json!(function)));
        row.unwrap_or_else(|| panic!("no {function} in {rows:?}")).clone()
    };
    let expected = [
        ("hold", "5.86 KB (100%)", "5.86 KB (100%)"),
        ("large", "4.88 KB (83%)", "0 B (<0.01%)"),
        ("small", "1000 B (17%)", "0 B (<0.01%)"),
        ("main", "5.86 KB (100%)", "0 B (<0.01%)"),
    ];
    for (function, total, itself) in expected {
        assert_eq!(row(function), json!([total, itself, function]), "{rows}");
    }
}

/// An implementation of the format that shares no code with Go's.
#[test]
#[ignore = "wants pprof-format: cargo xtask readers"]
fn datadogs_decoder_finds_the_same_sums() {
    const SCRIPT: &str = r"
        const { Profile } = require(process.argv[1]);
        const profile = Profile.decode(require('zlib').gunzipSync(require('fs').readFileSync(process.argv[2])));
        const text = index => profile.stringTable.strings[Number(index)];
        const sum = place => profile.sample.reduce((sum, sample) => sum + Number(sample.value[place]), 0);
        console.log(JSON.stringify({
            sums: Object.fromEntries(profile.sampleType.map((of, place) => [text(of.type) + '/' + text(of.unit), sum(place)])),
            first: text(profile.defaultSampleType),
            commands: [...new Set(profile.sample.flatMap(sample => sample.label.filter(label => text(label.key) === 'command'))
                .map(label => text(label.str)))],
            files: profile.mapping.map(mapping => text(mapping.filename)),
        }));";
    let program = leak();
    let mut command = Command::new("node");
    command.args(["-e", SCRIPT]).arg(package("pprof-format")).arg(save(&program));
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let sums = json!({
        "alloc_objects/count": 35, "alloc_space/bytes": 7000, "inuse_objects/count": 15, "inuse_space/bytes": 6000
    });
    assert_eq!((&found["sums"], &found["first"]), (&sums, &json!("inuse_space")));
    assert_eq!(found["commands"], json!(["program"]));
    assert_eq!(found["files"][0], json!(program.path()), "the program comes first");
}
