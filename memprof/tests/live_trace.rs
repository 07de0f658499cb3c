//! Calls one by one, as they happen: against glibc's own `mtrace`, and read by its script.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

mod support;

use std::{
    collections::HashMap,
    fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;
use support::{Program, ROOM_FOR_COPIES, Report, Target, memprof, signal};

/// Every function of C that allocates or frees, in all the ways that there are.
const FUNCTIONS: &str = r#"
#define _GNU_SOURCE
#include <malloc.h>
#include <mcheck.h>
#include <stdlib.h>
#include <string.h>
static void *keep[32];
static char *copy(const char *text) { return strdup(text); }
__attribute__((noinline)) static void *grow(void *block, size_t size) { return realloc(block, size); }
int main(void) {
    mtrace();
    int n = 0;
    keep[n++] = malloc(100);
    keep[n++] = calloc(3, 7);
    keep[n++] = memalign(64, 200);
    keep[n++] = aligned_alloc(64, 128);
    keep[n++] = valloc(300);
    if (posix_memalign(&keep[n++], 64, 77)) return 1;
    keep[n++] = copy("hello");
    keep[n++] = strndup("hello world", 7);
    keep[0] = grow(keep[0], 5000);
    keep[0] = grow(keep[0], 20);
    keep[n++] = realloc(NULL, 33);
    keep[n++] = reallocarray(keep[1], 11, 13);
    keep[1] = NULL;
    if (realloc(keep[3], (size_t)1 << 62)) return 1;
    if (malloc((size_t)1 << 62)) return 1;
    free(keep[2]);
    free(NULL);
    if (realloc(keep[5], 0)) return 1;
    malloc(456); // and forgotten
    free(keep[6]);
    muntrace();
    return 0;
}
"#;

const GLIBC: &str = "libc_malloc_debug.so.0";

/// glibc's own log of a run, by `./program` in its folder.
fn log_of_glibc(program: &Program) -> String {
    let log = program.folder().join("glibc.log");
    let mut command = Command::new("./program");
    command.current_dir(program.folder()).env("LD_PRELOAD", GLIBC).env("MALLOC_TRACE", &log);
    assert!(command.stdout(Stdio::null()).status().unwrap().success());
    fs::read_to_string(log).unwrap()
}

/// memprof's log of a run; what it said on standard error.
fn log_of_memprof(program: &Program, options: &[&str]) -> (PathBuf, String) {
    let log = program.folder().join("memprof.mtrace");
    let output = memprof()
        .args(["-o", log.to_str().unwrap()])
        .args(options)
        .arg("--")
        .arg(program.path())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    (log, said)
}

/// A line without what differs from run to run: blocks have numbers, in the order of their appearance.
fn canonical(log: &str, last_byte_of_call: bool) -> Vec<String> {
    let mut blocks = HashMap::new();
    let mut numbered = |block: &str| {
        let next = blocks.len();
        *blocks.entry(block.to_owned()).or_insert(next)
    };
    let events = log.lines().filter(|line| line.starts_with("@ ") && !line.contains("(nil)"));
    let canonical = events.map(|line| {
        let words: Vec<_> = line.split(' ').collect();
        let module = Path::new(words[1].split(':').next().unwrap()).file_name().unwrap().to_str().unwrap();
        let bracket = words[1].rsplit("[0x").next().unwrap().trim_end_matches(']');
        let caller = u64::from_str_radix(bracket, 16).unwrap() + u64::from(last_byte_of_call);
        let size = words.get(4).copied().unwrap_or_default();
        format!("{module}[{caller:#x}] {} #{} {size}", words[2], numbered(words[3]))
    });
    canonical.collect()
}

#[test]
fn the_log_is_that_of_glibc() {
    let program = Program::c(FUNCTIONS, &["-w", "-O1", "-fno-builtin"]);
    let expected = canonical(&log_of_glibc(&program), false);
    let (log, said) = log_of_memprof(&program, &[]);
    let log = fs::read_to_string(log).unwrap();
    assert_eq!(canonical(&log, true), expected, "{said}");
    assert_eq!(expected.len(), 20);
    assert!(log.starts_with("= Start\n@ ") && log.ends_with("\n= End\n"), "{log}");
    assert_eq!(log.lines().count(), 22);
}

/// What the script says: of each block that was not freed, its size and its source.
fn script(program: &Path, log: &Path, folder: &Path) -> (Vec<(u64, String)>, String) {
    let output = Command::new("mtrace").arg(program).arg(log).current_dir(folder).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let blocks = text.lines().filter(|line| line.starts_with("0x")).map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let size = u64::from_str_radix(words[1].trim_start_matches("0x"), 16).unwrap();
        let source = words[3].rsplit('/').next().unwrap();
        (size, source.to_owned())
    });
    (blocks.collect(), text)
}

/// `memprof report` of a log: each stack's bytes, blocks, and its frames' sources.
fn report(log: &Path, folder: &Path) -> Report {
    let mut command = memprof();
    command.args(["report", "--format", "json", "--top", "0"]).arg(log).current_dir(folder);
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    Report::parse(str::from_utf8(&output.stdout).unwrap())
}

/// Each place with what is outstanding there, sorted.
fn places(report: &Report) -> Vec<(u64, u64, String)> {
    let process = report.process();
    let of = |stack: &support::StackReport<'_>| {
        let (bytes, allocations) = stack.outstanding();
        (bytes, allocations, stack.sources()[0].clone().unwrap_or_default())
    };
    let mut places: Vec<_> = process.stacks().iter().map(of).collect();
    places.sort();
    places
}

#[test]
fn glibcs_script_finds_the_leaks_of_our_log_and_their_lines() {
    let program = Program::c(FUNCTIONS, &["-w", "-O1", "-fno-builtin"]);
    let json = program.folder().join("live.json");
    let (log, _) = log_of_memprof(&program, &["-o", json.to_str().unwrap(), "--top", "0"]);
    let (blocks, text) = script(program.path(), &log, program.folder());
    assert!(!text.contains("never alloc'd") && !text.contains("duplicate"), "{text}");
    let live = Report::parse(&fs::read_to_string(json).unwrap());
    let held: Vec<_> = places(&live);
    let mut by_script: HashMap<String, (u64, u64)> = HashMap::new();
    for (size, source) in blocks {
        let place = by_script.entry(source).or_default();
        *place = (place.0 + size, place.1 + 1);
    }
    let mut by_script: Vec<_> =
        by_script.into_iter().map(|(source, (bytes, blocks))| (bytes, blocks, source)).collect();
    by_script.sort();
    assert_eq!(by_script, held);
    assert!(held.contains(&(456, 1, format!("program.c:{}", program.line("and forgotten")))), "{held:?}");
    assert_eq!(live.process().outstanding(), (20 + 143 + 128 + 300 + 8 + 33 + 456, 7));
}

#[test]
fn a_report_of_a_log_has_the_figures_of_the_live_report() {
    let program = Program::c(FUNCTIONS, &["-w", "-O1", "-fno-builtin"]);
    let json = program.folder().join("live.json");
    let (log, _) = log_of_memprof(&program, &["-o", json.to_str().unwrap(), "--top", "0"]);
    let live = Report::parse(&fs::read_to_string(json).unwrap());
    let later = report(&log, Path::new("/"));
    assert_eq!(later.process().totals(), live.process().totals());
    assert_eq!(later.process().outstanding(), live.process().outstanding());
    assert_eq!(places(&later), places(&live));
    assert_eq!(later.warnings().len(), 1, "{:?}", later.warnings());
    // And glibc's own, of the same program.
    let log = program.folder().join("glibc.log");
    log_of_glibc(&program);
    assert_eq!(places(&report(&log, Path::new("/"))), places(&live));
}

/// 456 bytes, in three blocks, of two places.
const LEAK: &str = "
#include <mcheck.h>
#include <stdlib.h>
static void *keep[4];
__attribute__((noinline)) static void *one(size_t size) { return malloc(size); } // one
int main(void) {
    mtrace();
    keep[0] = one(100);
    keep[1] = one(56);
    malloc(300); // forgotten
    keep[2] = malloc(7);
    free(keep[2]);
    return 0;
}
";

#[test]
fn memory_not_freed_has_its_lines_where_the_script_has_none() {
    let program = Program::c(LEAK, &["-w", "-O0", "-fPIE", "-pie"]);
    log_of_glibc(&program);
    let log = program.folder().join("glibc.log");
    let (one, forgotten) = (program.line("// one"), program.line("// forgotten"));
    // Where the program was started, the script takes the next line for the one that is forgotten.
    let (blocks, text) = script(Path::new("./program"), &log, program.folder());
    assert!(blocks.contains(&(300, format!("program.c:{}", forgotten + 1))), "{text}");
    // Elsewhere, it knows none.
    let (blocks, text) = script(program.path(), &log, Path::new("/"));
    assert_eq!(blocks.len(), 3, "{text}");
    assert!(blocks.iter().all(|(_, source)| source.starts_with("0x")), "{text}");
    let expected = [(156, 2, format!("program.c:{one}")), (300, 1, format!("program.c:{forgotten}"))];
    assert_eq!(places(&report(&log, Path::new("/"))), expected);
    let output = memprof().arg("report").arg(&log).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("program  Memory not freed: 456 B in 3 allocations\n"), "{text}");
    assert!(text.contains(&format!("program.c:{forgotten}\n")), "{text}");
}

/// Addresses of functions, by name.
fn symbols(program: &Path) -> HashMap<String, u64> {
    let output = Command::new("nm").arg(program).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let symbols = text.lines().filter_map(|line| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [address, _, name] => Some((name.to_owned(), u64::from_str_radix(address, 16).unwrap())),
        _ => None,
    });
    symbols.collect()
}

/// Older versions of glibc log return addresses as they are, wherever the program was loaded.
#[test]
fn addresses_as_they_were_are_found_by_the_symbols_beside_them() {
    let program = Program::c(LEAK, &["-w", "-O0", "-fPIE", "-pie"]);
    let log = log_of_glibc(&program);
    let of_program = |line: &&str| line.starts_with("@ ./program:[");
    let addresses: Vec<_> = log.lines().filter(of_program).map(|line| line.split(['[', ']']).nth(1).unwrap()).collect();
    let address = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).unwrap();
    let symbols = symbols(program.path());
    let loaded = 0x5581_2345_6000_u64;
    let with_symbols = addresses.iter().zip(log.lines().filter(of_program)).map(|(text, line)| {
        let event = line.split("] ").nth(1).unwrap();
        let of_one = address(text).wrapping_sub(symbols["one"]);
        // Only what others can see has a symbol there.
        let symbol = if of_one < 64 { String::new() } else { format!("(main+{:#x})", address(text) - symbols["main"]) };
        format!("@ {}:{symbol}[{:#x}] {event}\n", program.path().display(), address(text) + loaded)
    });
    let old = program.folder().join("old.log");
    fs::write(&old, format!("= Start\n{}", with_symbols.collect::<String>())).unwrap();
    let (one, forgotten) = (program.line("// one"), program.line("// forgotten"));
    let expected = [(156, 2, format!("program.c:{one}")), (300, 1, format!("program.c:{forgotten}"))];
    assert_eq!(places(&report(&old, Path::new("/"))), expected);
}

/// Threads that hand blocks to each other, while others resize. Of each block that is kept, one byte more.
const THREADS: &str = "
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
enum { THREADS = 4, ROUNDS = 25000, SLOTS = 64 };
static _Atomic(void *) slots[SLOTS];
static void *work(void *seed) {
    unsigned random = (unsigned)(size_t)seed;
    for (int round = 0; round < ROUNDS; round++) {
        random = random * 1103515245 + 12345;
        void *block = malloc(16 + (random >> 16) % 100);
        block = realloc(block, 16 + (random >> 20) % 2000);
        free(atomic_exchange(&slots[(random >> 8) % SLOTS], block));
    }
    return NULL;
}
int main(void) {
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++) pthread_create(&threads[i], NULL, work, (void *)(i + 1));
    for (size_t i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    return 0;
}
";

#[test]
fn of_threads_at_full_speed_nothing_is_lost_nor_out_of_order() {
    let program = Program::c(THREADS, &["-O1", "-pthread"]);
    let json = program.folder().join("live.json");
    let options = [&["-o", json.to_str().unwrap(), "--top", "0"][..], &ROOM_FOR_COPIES].concat();
    let (log, said) = log_of_memprof(&program, &options);
    let live = Report::parse(&fs::read_to_string(json).unwrap());
    assert_eq!(live.lost(), (0, 0, 0), "{said}");
    let text = fs::read_to_string(&log).unwrap();
    let count = |kind: &str| text.lines().filter(|line| line.contains(kind)).count();
    assert_eq!((count("] < 0x"), count("] > 0x")), (100_000, 100_000));
    assert!(text.lines().all(|line| !line.starts_with('#')), "{said}");
    let later = report(&log, Path::new("/"));
    assert_eq!(later.warnings().len(), 1, "{:?}", later.warnings());
    assert_eq!(later.process().totals(), live.process().totals());
    assert_eq!(later.process().outstanding(), live.process().outstanding());
    let [allocations, ..] = live.process().totals();
    assert!(allocations >= 200_000, "{allocations}");
    let (_, said) = script(program.path(), &log, program.folder());
    assert!(!said.contains("never alloc'd") && !said.contains("duplicate"), "{said}");
}

/// Allocates at each line that it reads.
const ASKED: &str = r#"
#include <stdio.h>
#include <stdlib.h>
static char line[16];
static void *block;
static void on_line(void) { free(block); block = malloc(1000); }
int main(void) {
    setvbuf(stdin, NULL, _IONBF, 0);
    setvbuf(stdout, NULL, _IONBF, 0);
    puts("ready");
    while (fgets(line, sizeof line, stdin)) on_line();
    return 0;
}
"#;

#[test]
fn events_are_written_while_the_process_runs() {
    let program = Program::c(ASKED, &["-O0"]);
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let mut memprof = memprof();
    memprof.args(["--trace", "--format", "json", "--verbose", "--pid", &target.pid().to_string()]);
    let mut memprof = memprof.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(memprof.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.contains("attached to process")));
    let drained = std::thread::spawn(move || said.for_each(drop));
    let mut lines = BufReader::new(memprof.stdout.take().unwrap()).lines().map(|line| line.unwrap());
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap()).unwrap();
    target.tell("once");
    let first = next();
    assert_eq!((&first["schema"], &first["event"]), (&"memprof.trace/1".into(), &"alloc".into()));
    assert_eq!(
        (&first["size"], &first["pid"], &first["tid"]),
        (&1000.into(), &target.pid().into(), &target.pid().into())
    );
    assert_eq!(first["caller"][0]["function"], "on_line");
    let source = format!("program.c:{}", program.line("static void on_line"));
    assert_eq!(first["caller"][0]["source"], source.as_str());
    target.tell("twice");
    let (second, third) = (next(), next());
    assert_eq!((&second["event"], &second["address"]), (&"free".into(), &first["address"]));
    assert_eq!((&second["caller"][0]["source"], &third["event"]), (&source.as_str().into(), &"alloc".into()));
    signal(memprof.id(), "INT");
    let last = next();
    assert_eq!(last["schema"], "memprof.report/1");
    assert_eq!(last["processes"][0]["outstanding"]["bytes"], 1000);
    assert!(memprof.wait().unwrap().success());
    drained.join().unwrap();
}

#[test]
fn a_trace_with_stacks_has_whole_ones() {
    let program = Program::c(FUNCTIONS, &["-w", "-O1", "-fno-builtin"]);
    let output = memprof().args(["--trace=stacks", "--"]).arg(program.path()).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    let first = lines.iter().position(|line| line.contains(" alloc ") && line.contains(" 100 B ")).unwrap();
    let functions: Vec<_> =
        lines[first + 1..].iter().map(|line| line.split_whitespace().next().unwrap()).take(4).collect();
    assert_eq!(functions, ["main", "__libc_start_call_main", "__libc_start_main_impl", "_start"]);
    assert!(text.contains("failed, still 0x"), "{text}");
    assert!(text.contains("outstanding "), "a report at the end: {text}");
}

#[test]
fn the_children_of_a_process_are_traced_too() {
    let command = ["--trace", "--follow-children=exact", "--quiet", "--", "sh", "-c"];
    let program = Program::c(LEAK, &["-w", "-O0"]);
    let two = format!("{0}; {0}", program.path().display());
    let output = memprof().args(command).arg(&two).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let source = format!("program.c:{}", program.line("// forgotten"));
    let pids = text.lines().filter(|line| line.ends_with(&source) && line.contains(" 300 B "));
    let pids: std::collections::BTreeSet<_> = pids.map(|line| line.split(['/', ' ']).nth(1).unwrap()).collect();
    assert_eq!(pids.len(), 2, "{text}");
}

#[test]
fn a_ring_that_is_full_is_told_of_in_the_log() {
    let program = Program::c(THREADS, &["-O1", "-pthread"]);
    let (log, said) = log_of_memprof(&program, &["--ring-size", "4KiB"]);
    let text = fs::read_to_string(&log).unwrap();
    let remark = text.lines().find(|line| line.starts_with("# ") && line.contains("were not traced"));
    assert!(remark.is_some_and(|remark| remark.contains("--ring-size")), "{said}");
    assert!(said.contains("were not traced"), "{said}");
    let warnings = report(&log, Path::new("/")).warnings();
    assert!(warnings.iter().any(|warning| warning.starts_with("the log says: ")), "{warnings:?}");
    let (_, text) = script(program.path(), &log, program.folder());
    assert!(text.contains("never alloc'd") || text.contains("Memory not freed"), "{text}");
}

/// Nobody reads any more: memprof ends, and the command goes on.
#[test]
fn a_reader_that_goes_away_ends_the_trace() {
    let program = Program::c(ASKED, &["-O0"]);
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let mut memprof = memprof();
    memprof.args(["--trace", "--verbose", "--pid", &target.pid().to_string()]);
    let mut memprof = memprof.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(memprof.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.contains("attached to process")));
    let drained = std::thread::spawn(move || said.for_each(drop));
    drop(memprof.stdout.take());
    target.tell("once");
    assert!(memprof.wait().unwrap().success());
    drained.join().unwrap();
}
