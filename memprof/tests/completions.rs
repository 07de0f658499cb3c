//! What shells complete, asked of the shells themselves.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use tempfile::TempDir;

/// A script for a shell, in a folder that goes with it.
struct Script(TempDir);

impl Script {
    fn of(shell: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_memprof")).args(["completions", shell]).output().unwrap();
        assert!(output.status.success());
        assert!(output.stderr.is_empty());
        fs::write(folder.path().join("script"), output.stdout).unwrap();
        Self(folder)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("script")
    }

    /// The shell's answer to what follows the script.
    fn ask(&self, shell: &[&str], question: &str) -> Output {
        let mut command = Command::new(shell[0]);
        command.args(&shell[1..]).arg("-c").arg(question).arg(self.path()).current_dir(self.0.path());
        command.output().unwrap()
    }

    /// What bash completes the last of these words to.
    fn in_bash(&self, words: &[&str]) -> Vec<String> {
        let [.., previous, last] = words else { return Vec::new() };
        let quoted: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
        let question = format!(
            "source \"$0\"; COMP_WORDS=({}); COMP_CWORD={}; compopt() {{ :; }}; \
             _memprof memprof '{last}' '{previous}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            quoted.join(" "),
            words.len() - 1
        );
        let output = self.ask(&["bash", "--norc", "--noprofile"], &question);
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(String::from_utf8(output.stderr).unwrap(), "", "{words:?}");
        text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
    }
}

#[test]
fn bash_completes_options_their_values_and_subcommands() {
    let script = Script::of("bash");
    let cases: [(&[&str], &[&str]); 9] = [
        (&["memprof", "--form"], &["--format"]),
        (&["memprof", "--pid", "1", "--show-a"], &["--show-allocations"]),
        (&["memprof", "swe"], &["sweep"]),
        (&["memprof", "doc"], &["doctor"]),
        (&["memprof", "sweep", "--susp"], &["--suspects"]),
        (&["memprof", "--fail-on", ""], &["growing", "loss"]),
        (&["memprof", "--fail-on", "l"], &["loss"]),
        (&["memprof", "completions", "b"], &["bash"]),
        (&["memprof", "--pid", "12"], &["12"]),
    ];
    for (words, expected) in cases {
        assert_eq!(script.in_bash(words), expected, "{words:?}");
    }
    for format in ["text", "json"] {
        assert!(script.in_bash(&["memprof", "sweep", "--format", ""]).contains(&format.to_owned()), "{format}");
    }
    assert_eq!(script.in_bash(&["memprof", "sweep", "--suppressions", "scr"]), ["script"]);
}

#[test]
fn bash_offers_nothing_that_is_hidden() {
    let script = Script::of("bash");
    let offered = script.in_bash(&["memprof", ""]);
    assert!(offered.contains(&"growth".to_owned()), "{offered:?}");
    assert!(!offered.contains(&"man".to_owned()), "{offered:?}");
    assert!(offered.iter().all(|word| !word.contains(['[', '<'])), "{offered:?}");
}

#[test]
fn bash_takes_the_script_as_the_help_says() {
    let question = "source <(cat \"$0\") && complete -p memprof";
    let output = Script::of("bash").ask(&["bash", "--norc", "--noprofile"], question);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("complete ") && text.ends_with("-F _memprof memprof\n"), "{text}");
}

#[test]
fn fish_completes_them_too() {
    let script = Script::of("fish");
    let question = |line: &str| format!("source {:?}; complete --do-complete '{line}'", script.path());
    let answer = |line: &str| {
        let output = Command::new("fish").args(["--no-config", "-c", &question(line)]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(answer("memprof --form"), ["--format"]);
    assert_eq!(answer("memprof swe"), ["sweep"]);
    assert_eq!(answer("memprof sweep --fail-on "), ["growing", "loss"]);
}

#[test]
fn zsh_understands_the_script() {
    let script = Script::of("zsh");
    let question = "autoload -Uz compinit; compinit -D; source \"$0\"; print -r -- ${_comps[memprof]}";
    let output = script.ask(&["zsh", "-f"], question);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "_memprof\n");
}

#[test]
fn there_are_scripts_for_other_shells() {
    for (shell, sign) in [("elvish", "edit:completion"), ("powershell", "Register-ArgumentCompleter")] {
        let script = fs::read_to_string(Script::of(shell).path()).unwrap();
        assert!(script.contains(sign) && script.contains("--fail-above"), "{shell}");
    }
}
