//! `memprof report` judges what was saved as live reports are judged, and has colours where they are wanted. Needs neither root nor BPF.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{
    fs,
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

/// A log of glibc's mtrace: 100 bytes in two blocks are not freed, and 50 are.
const LOG: &str = "\
= Start
@ /opt/program:(keep+0x10)[0x401010] + 0x1000 0x32
@ /opt/program:(keep+0x10)[0x401010] + 0x2000 0x32
@ /opt/program:(drop+0x10)[0x401110] + 0x3000 0x32
@ /opt/program:(drop+0x20)[0x401120] - 0x3000
= End
";

/// `memprof report OPTIONS` on that log, and one pattern that is suppressed.
fn report(options: &[&str]) -> Output {
    let folder: TempDir = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("log"), LOG).unwrap();
    fs::write(folder.path().join("known"), "leak:^keep\n").unwrap();
    let mut memprof = Command::new(env!("CARGO_BIN_EXE_memprof"));
    memprof.args(["report", "log"]).args(options).current_dir(folder.path()).output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

#[test]
fn a_log_is_judged_by_what_it_does_not_free() {
    for (limit, status) in [("0B", 100), ("99B", 100), ("100B", 0)] {
        let output = report(&["--fail-above", limit]);
        assert_eq!(output.status.code(), Some(status), "{limit}: {}", text(&output.stderr));
    }
    let said = report(&["--fail-above", "0B"]).stderr;
    let said = text(&said);
    assert!(
        said.contains(" holds 100 B in 2 allocations, more than --fail-above 0 B\n  #1  100 B in 2 allocations\n"),
        "{said}"
    );
    assert!(said.contains("        keep"), "{said}");
}

#[test]
fn what_is_suppressed_in_it_is_left_out() {
    let output = report(&["--fail-above", "0B", "--suppressions", "known"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let shown = text(&output.stdout);
    assert!(shown.contains("suppressed: 1 place, 100 B in 2 allocations\n"), "{shown}");
    assert!(!shown.contains("keep"), "{shown}");
}

/// What a terminal is sent, with this in the environment and without anything else that counts.
fn on_terminal(environment: &[&str]) -> String {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("log"), LOG).unwrap();
    let line = format!("{} report log", env!("CARGO_BIN_EXE_memprof"));
    let mut script = Command::new("env");
    script.args(["-u", "NO_COLOR", "TERM=xterm"]).args(environment).args(["script", "-qec", &line, "/dev/null"]);
    let output = script.current_dir(folder.path()).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success());
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn there_are_colours_on_a_terminal_that_shows_them_unless_they_are_not_wanted() {
    let cases = [(&[][..], true), (&["NO_COLOR="], true), (&["NO_COLOR=1"], false), (&["TERM=dumb"], false)];
    for (environment, has_colours) in cases {
        let shown = on_terminal(environment);
        assert!(shown.contains("Memory not freed"), "{environment:?}: {shown}");
        assert_eq!(shown.contains("\u{1b}["), has_colours, "{environment:?}: {shown:?}");
    }
    assert!(!text(&report(&[]).stdout).contains('\u{1b}'), "a pipe gets none");
}

#[test]
fn a_part_that_is_not_known_for_certain_is_a_doubt() {
    let output = report(&["--fail-above", "0B", "--older", "1s"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(text(&output.stderr).contains("decide is not certain:\n"), "{}", text(&output.stderr));
    assert_eq!(report(&["--fail-on", "loss"]).status.code(), Some(0));
}
