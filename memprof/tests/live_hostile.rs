//! Targets that are made to mislead or to break whoever looks at them: their names, and the files that they have mapped.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::{
    ffi::OsStr,
    fs,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use support::{Program, Run, Target, launch, memprof, wait_until};

/// What a terminal obeys, begins a line, turns the direction of writing and is markup; of the names' lengths.
const ORDERS: &str = "\u{1b}[2J\n\u{9b}31m\u{202e}<b onload='x'>]]>;#\u{7}\r\u{2028}";

const LEAK: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#line 7 "EVIL_SOURCE"
__attribute__((noinline)) void EVIL_FUNCTION(void) {
    void *block = malloc(4711);
    __asm__ volatile("" : : "r"(block));
}
int main(int count, char **arguments) {
    if (count > 1) prctl(PR_SET_NAME, arguments[1]);
    EVIL_FUNCTION();
    if (count > 2) getchar();
    return 0;
}
"#;

fn edit(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).unwrap();
    change(&mut bytes);
    fs::write(path, bytes).unwrap();
}

/// Runs a command of a shell in the program's folder.
fn run(program: &Program, command: &str) {
    let output = Command::new("sh").args(["-ec", command]).current_dir(program.folder()).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A program that leaks 4711 bytes.
fn leak(flags: &[&str]) -> Program {
    Program::c(LEAK, &[&["-O1", "-no-pie", "-fno-pie"], flags].concat())
}

/// What the one leak of a run is called, and its source line; all of it is known, and in a minute.
fn named(run: &Run) -> (Option<String>, Option<String>) {
    let process = run.last().process();
    assert_eq!(process.outstanding(), (4711, 1), "{}", run.stderr);
    let stacks = process.stacks();
    (stacks[0].functions()[0].clone(), stacks[0].sources()[0].clone())
}

/// Where a section is in a file, and how long it is.
fn section(path: &Path, name: &str) -> (usize, usize) {
    let output = Command::new("readelf").args(["--sections", "--wide"]).arg(path).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let line = text.lines().find(|line| line.split_whitespace().any(|word| word == name)).unwrap();
    let words: Vec<_> = line.split_whitespace().skip_while(|word| *word != name).collect();
    let number = |index: usize| usize::from_str_radix(words[index], 16).unwrap();
    (number(3), number(4))
}

fn is_obeyed(character: char) -> bool {
    let is_direction = matches!(character, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    character.is_control() && !matches!(character, '\n' | '\t') || is_direction
}

#[test]
fn what_terminals_and_browsers_obey_reaches_no_output() {
    let long = |name: &str| format!("{name}{}", "_".repeat(ORDERS.len() - name.len()));
    let source =
        ["EVIL_FUNCTION", "EVIL_SOURCE"].iter().fold(LEAK.to_owned(), |text, name| text.replace(name, &long(name)));
    let program = Program::c(&source, &["-O1"]);
    let folder = program.folder();
    edit(program.path(), |bytes| {
        for name in ["EVIL_FUNCTION", "EVIL_SOURCE"].map(long) {
            let found = bytes.windows(name.len()).enumerate().filter(|(_, part)| *part == name.as_bytes());
            let places: Vec<_> = found.map(|(place, _)| place).collect();
            assert!(!places.is_empty(), "{name}");
            places.into_iter().for_each(|place| bytes[place..place + name.len()].copy_from_slice(ORDERS.as_bytes()));
        }
    });
    let executable = folder.join("a\u{1b}[2J\n\u{202e}<b>b");
    fs::rename(program.path(), &executable).unwrap();
    let outputs = ["a.txt", "a.json", "a.folded", "a.svg", "a.html", "a.pb.gz"].map(|name| folder.join(name));
    let mut command = memprof();
    command.args(["--verbose", "--top", "0"]);
    outputs.iter().for_each(|output| _ = command.arg("--output").arg(output));
    let output =
        command.arg("--").args([executable.as_os_str(), OsStr::new("c\u{1b}[31m\n\u{202e}")]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{told}");
    let report = Command::new(memprof().get_program()).arg("report").arg(folder.join("a.pb.gz")).output().unwrap();
    let trace = folder.join("a.mtrace");
    let traced = memprof().args(["--output"]).arg(&trace).arg("--").arg(&executable).output().unwrap();
    let mut target = Target::start(Command::new(&executable).args(["d\u{1b}[31m", "wait"]).stdin(Stdio::piped()));
    let pid = target.pid();
    wait_until("it has its name", || fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().starts_with("d\u{1b}"));
    let doctor = memprof().args(["doctor", "--pid", &pid.to_string()]).output().unwrap();
    assert!(doctor.status.success());
    target.tell("");
    let text_of = |path: &PathBuf| String::from_utf8(fs::read(path).unwrap()).unwrap();
    let mut texts: Vec<_> = outputs[..5].iter().map(text_of).collect();
    texts.extend([told, text_of(&trace)]);
    texts.extend(
        [report.stdout, report.stderr, traced.stderr, doctor.stdout, doctor.stderr]
            .map(|bytes| String::from_utf8(bytes).unwrap()),
    );
    for text in &texts {
        assert_eq!(text.chars().find(|character| is_obeyed(*character)), None, "{text:?}");
    }
    for markup in [&texts[3], &texts[4]] {
        assert!(!markup.contains("<b onload") && !markup.contains("<b>b"), "{markup}");
        assert!(markup.contains("&lt;b onload"), "{markup}");
    }
    let json = support::Report::parse(texts[1].lines().next().unwrap());
    let names = ["c\u{1b}[31m\n\u{202e}", "a\u{1b}[2J\n\u{202e}<b>b"];
    assert!(names.contains(&json.process().command()), "{}", json.process().command());
    let stacks = json.process().stacks().iter().map(|stack| stack.functions()[0].clone().unwrap()).collect::<Vec<_>>();
    assert!(stacks.contains(&ORDERS.to_owned()), "{stacks:?}");
}

#[test]
fn files_that_an_object_names_are_not_opened_unless_they_are_regular_and_beside_it() {
    let program = leak(&[]);
    let expected = (Some("EVIL_FUNCTION".to_owned()), Some("EVIL_SOURCE:8".to_owned()));
    assert_eq!(named(&launch(&[], &[program.path()])), expected);
    // Whoever opens a FIFO waits for a writer, for ever.
    run(
        &program,
        "mkdir .debug; mkfifo .debug/name fifo; cp program name; objcopy --add-gnu-debuglink=name program linked; rm name
        { printf '%s/fifo\\0' $PWD; head -c 20 /dev/zero; } >altlink
        objcopy --add-section .gnu_debugaltlink=altlink program altlinked
        { printf '\\5\\0\\0%s/fifo\\0\\10' $PWD; head -c 8 /dev/zero; } >sup; objcopy --add-section .debug_sup=sup program supplemented",
    );
    for name in ["linked", "altlinked", "supplemented"] {
        assert_eq!(named(&launch(&[], &[program.folder().join(name)])), expected, "{name}");
    }
    // A link that leads elsewhere, to what it would be named by.
    run(
        &program,
        "rm .debug/name; mkdir far; objcopy --only-keep-debug program far/name; cp far/name name; cp program stripped
        strip stripped; objcopy --add-gnu-debuglink=name stripped; mv name .debug/name",
    );
    assert_eq!(named(&launch(&[], &[program.folder().join("stripped")])), expected);
    run(&program, "rm .debug/name; ln -s $PWD/far/name .debug/name; ln -s far/name name");
    assert_eq!(named(&launch(&[], &[program.folder().join("stripped")])), expected);
    run(&program, "rm name; ln -s $PWD/far/name name");
    assert_eq!(named(&launch(&[], &[program.folder().join("stripped")])), (None, None));
}

/// Debug information in which functions are inlined into one another, as deep as the file is long.
fn nested(depth: usize) -> (Vec<u8>, Vec<u8>) {
    let (compile_unit, subprogram, inlined) = (0x11, 0x2e, 0x1d);
    let (name, lines, low_pc, high_pc) = (0x03, 0x10, 0x11, 0x12);
    let (address, data8, string, offset) = (0x01, 0x07, 0x08, 0x17);
    let ranged = |code, tag| [code, tag, 1, name, string, lines, offset, low_pc, address, high_pc, data8, 0, 0];
    let abbreviations = [&ranged(1, compile_unit)[..], &ranged(2, subprogram), &[3, inlined, 1, 0, 0, 0]].concat();
    let range = [&b"f\0\0\0\0\0"[..], &0x40_0000_u64.to_le_bytes(), &0x10_0000_u64.to_le_bytes()].concat();
    let unit = [&[4, 0, 0, 0, 0, 0, 8, 1][..], &range, &[2], &range, &vec![3; depth]].concat();
    (abbreviations, [&(unit.len() as u32).to_le_bytes()[..], &unit].concat())
}

fn assert_left_out(program: &Path) {
    let run = launch(&[], &[program]);
    assert_eq!(named(&run), (Some("EVIL_FUNCTION".to_owned()), None), "{}", run.stderr);
    assert!(run.stderr.contains("debug information cannot be read within the limits"), "{}", run.stderr);
}

#[test]
fn debug_information_that_overflows_a_parsers_stack_is_left_out() {
    let program = leak(&[]);
    let (abbreviations, information) = nested(4 << 20);
    fs::write(program.folder().join("abbreviations"), abbreviations).unwrap();
    fs::write(program.folder().join("information"), information).unwrap();
    run(
        &program,
        "objcopy --remove-section .debug_aranges --update-section .debug_abbrev=abbreviations \
        --update-section .debug_info=information program deep",
    );
    assert_left_out(&program.folder().join("deep"));
}

#[test]
fn debug_information_that_is_said_to_be_endless_when_decompressed_is_left_out() {
    let program = leak(&["-gz=zlib"]);
    // `Elf64_Chdr`: the kind of compression, and the size of what was compressed.
    for name in [".debug_info", ".debug_line"] {
        let (start, _) = section(program.path(), name);
        edit(program.path(), |bytes| {
            assert_eq!(bytes[start..start + 8], [1, 0, 0, 0, 0, 0, 0, 0]);
            bytes[start + 8..start + 16].copy_from_slice(&(1_u64 << 45).to_le_bytes());
        });
    }
    assert_left_out(program.path());
}

#[test]
fn call_frame_information_that_makes_no_sense_costs_callers_only() {
    // An entry of 2 GiB; entries of eight bytes, each its own CIE; entries that point to each other.
    for pattern in [0x7fff_fff0_0000_0000_u64, 0x0000_0000_0000_0004, 0x0000_0010_0000_0004] {
        let program = leak(&[]);
        let (start, length) = section(program.path(), ".eh_frame");
        edit(program.path(), |bytes| {
            let words = pattern.to_le_bytes().into_iter().cycle().skip(4 * usize::from(pattern >> 32 > 0x100));
            bytes[start..start + length].iter_mut().zip(words).for_each(|(byte, new)| *byte = new);
        });
        let run = launch(&[], &[program.path()]);
        assert_eq!(named(&run).0.as_deref(), Some("EVIL_FUNCTION"), "{pattern:#x} {}", run.stderr);
    }
}

#[test]
fn who_asks_the_helper_by_hand_is_told_what_it_is_for() {
    let output = memprof().arg("read-names").stdin(Stdio::null()).output().unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("this is for memprof itself"), "{told}");
    assert_eq!(OsStr::from_bytes(&output.stdout), "");
}
