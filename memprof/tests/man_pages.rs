//! The man pages: what they hold, and that nothing which renders them complains.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

fn memprof() -> Command {
    Command::new(env!("CARGO_BIN_EXE_memprof"))
}

fn pages() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let status = memprof().arg("man").arg(folder.path()).args(["--date", "2026-01-02"]).status().unwrap();
    assert!(status.success());
    folder
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort_by_key(|file| file.file_stem().unwrap().to_owned());
    files
}

fn names(folder: &Path) -> Vec<String> {
    files(folder).iter().map(|file| file.file_stem().unwrap().to_str().unwrap().to_owned()).collect()
}

/// What a renderer prints on standard output, and what it says on standard error.
fn rendered(renderer: &str, page: &Path) -> (String, String) {
    let words: Vec<_> = renderer.split(' ').collect();
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(page).env("MANWIDTH", "80").env("LC_ALL", "C.UTF-8").env("GROFF_NO_SGR", "1");
    let output = command.output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert!(output.status.success(), "{renderer}: {out}{err}");
    (without_overstrikes(&out), err)
}

/// Bold is a character printed twice, one over the other.
fn without_overstrikes(text: &str) -> String {
    let mut plain = String::new();
    for character in text.chars() {
        if character == '\u{8}' {
            plain.pop();
        } else {
            plain.push(character);
        }
    }
    plain
}

#[test]
fn there_is_a_page_for_memprof_and_each_subcommand() {
    let folder = pages();
    let help = String::from_utf8(memprof().arg("--help").output().unwrap().stdout).unwrap();
    let commands = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands = commands.filter(|line| !line.starts_with("   "));
    let commands = commands.map(|line| line.split_whitespace().next().unwrap()).filter(|name| *name != "help");
    let mut expected: Vec<_> = commands.map(|name| format!("memprof-{name}")).chain(["memprof".to_owned()]).collect();
    expected.sort();
    assert_eq!(names(folder.path()), expected);
}

#[test]
fn nothing_that_renders_them_complains() {
    for page in files(pages().path()) {
        for renderer in ["groff -ww -man -Tutf8", "man --warnings=w -E UTF-8 -l", "mandoc -W style -T utf8"] {
            let (text, complaints) = rendered(renderer, &page);
            assert_eq!(complaints, "", "{renderer} {}", page.display());
            assert!(text.contains("NAME") && text.contains("EXAMPLES"), "{renderer}");
        }
    }
}

#[test]
fn the_page_of_memprof_has_what_a_good_one_has() {
    let folder = pages();
    let (text, _) = rendered("mandoc -T utf8 -O width=80", &folder.path().join("memprof.1"));
    let headings: Vec<_> = text.lines().filter(|line| line.starts_with(|first: char| first.is_alphabetic())).collect();
    let headings: Vec<_> = headings.iter().map(|line| line.trim()).collect();
    for heading in [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "OPTIONS",
        "CHECKS",
        "EXIT STATUS",
        "ENVIRONMENT",
        "FILES",
        "EXAMPLES",
        "SEE ALSO",
    ] {
        assert!(headings.contains(&heading), "{heading}: {headings:?}");
    }
    for words in ["--fail-above <SIZE>", "100", "memprof --pid 1234", "memprof-sweep(1)", "2026-01-02", "NO_COLOR"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(text.contains(concat!("memprof ", env!("CARGO_PKG_VERSION"))), "{text}");
    let whatis = Command::new("lexgrog").arg(folder.path().join("memprof.1")).output().unwrap();
    let whatis = String::from_utf8(whatis.stdout).unwrap();
    assert!(whatis.contains("memprof - Shows which call stacks"), "{whatis}");
}

#[test]
fn they_are_the_same_each_time() {
    let [one, other] = [pages(), pages()];
    for name in names(one.path()) {
        let [one, other] = [&one, &other].map(|folder| fs::read(folder.path().join(format!("{name}.1"))).unwrap());
        assert_eq!(one, other, "{name}");
    }
}
