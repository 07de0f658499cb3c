//! What can befall a target: it is killed, stopped, replaced again and again, it forks thousands, it has hundreds of threads. What is
//! reported is true all the same, and memprof stays small.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use std::{
    fs,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use support::{
    Attached, ProcessReport, Program, ROOM_FOR_COPIES, Report, TALK, Target, attach, kernel_objects::descendants,
    launch, memory_of, numbers, signal, start, wait_until,
};

const INCLUDES: &str = "
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/wait.h>
";

fn c(source: &str) -> Program {
    Program::c(&format!("{TALK}{INCLUDES}{source}"), &["-O1", "-fno-builtin", "-pthread", "-w"])
}

fn source(program: &Program, mark: &str) -> String {
    format!("program.c:{}", program.line(mark))
}

/// Four threads that allocate and free without end. Each counts a call before and after it, where that outlives the process.
const BUSY: &str = r#"
enum { THREADS = 4, BLOCKS = 1000, SIZE = 64 };
static volatile struct { unsigned long begun, done, freeing, freed; } *counts;
static pthread_barrier_t all;
static void *work(void *argument) {
    long self = (long)argument;
    static void *blocks[THREADS][BLOCKS];
    unsigned long state = 88172645463325252u + self;
    pthread_barrier_wait(&all);
    for (;;) {
        state ^= state << 13; state ^= state >> 7; state ^= state << 17;
        void **block = &blocks[self][state % BLOCKS];
        if (*block) { counts[self].freeing++; free(*block); counts[self].freed++; }
        counts[self].begun++; CHECK(*block = malloc(SIZE)); counts[self].done++;
    }
}
int main(int count, char **arguments) {
    int file = open(arguments[1], O_RDWR | O_CREAT, 0600);
    CHECK(file >= 0 && !ftruncate(file, THREADS * sizeof *counts));
    counts = mmap(NULL, THREADS * sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    CHECK(counts != MAP_FAILED);
    pthread_barrier_init(&all, NULL, THREADS + 1);
    for (long i = 0; i < THREADS; i++) {
        pthread_t thread;
        CHECK(!pthread_create(&thread, NULL, work, (void *)i));
    }
    say("ready");
    if (count > 2) _exit(0);
    await_line();
    pthread_barrier_wait(&all);
    for (;;) pause();
}
"#;

/// What the busy program has counted, of a moment at which it does not run: how many calls there were, one that was under way in or out.
struct Truth {
    allocations: RangeInclusive<u64>,
    frees: RangeInclusive<u64>,
}

impl Truth {
    fn read(file: &Path) -> Self {
        let bytes = fs::read(file).unwrap();
        let words: Vec<_> = bytes.as_chunks().0.iter().map(|word| u64::from_ne_bytes(*word)).collect();
        let sum = |column: usize| words.iter().skip(column).step_by(4).sum::<u64>();
        Self { allocations: sum(1)..=sum(0), frees: sum(3)..=sum(2) }
    }

    /// With nothing lost and nothing doubted. `before` are what was allocated before it was busy.
    fn assert_is_that_of(&self, report: &Report, before: [u64; 4]) {
        assert_eq!((report.lost(), report.warnings()), ((0, 0, 0), Vec::new()));
        let process = report.process();
        let [allocations, bytes, frees, freed] = {
            let totals = process.totals();
            [0, 1, 2, 3].map(|column| totals[column] - before[column])
        };
        assert!(self.allocations.contains(&allocations), "{allocations} {:?}", self.allocations);
        assert!(self.frees.contains(&frees), "{frees} {:?}", self.frees);
        assert_eq!((bytes, freed), (64 * allocations, 64 * frees));
        let outstanding = (before[1] - before[3] + bytes - freed, before[0] - before[2] + allocations - frees);
        assert_eq!(process.outstanding(), outstanding);
    }
}

fn busy(program: &Program) -> Target {
    let mut command = Command::new(program.path());
    command.arg(program.folder().join("counts")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut target = Target::start(&mut command);
    assert_eq!(target.hear(), "ready");
    target
}

#[test]
fn a_target_that_is_killed_while_it_allocates() {
    let program = c(BUSY);
    let mut target = busy(&program);
    let mut memprof = attach(target.pid(), &["--interval", "100ms"]);
    memprof.ready();
    target.tell("go");
    (0..5).for_each(|_| drop(memprof.next_report()));
    signal(target.pid(), "KILL");
    target.0.wait().unwrap();
    let run = memprof.wait();
    assert_eq!(run.status.code(), Some(0), "{}", run.stderr);
    assert!(run.last().process().exited());
    Truth::read(&program.folder().join("counts")).assert_is_that_of(run.last(), [0; 4]);
}

#[test]
fn a_command_that_is_killed_while_it_allocates() {
    let program = c(BUSY);
    let counts = program.folder().join("counts");
    let reports = program.folder().join("reports.json");
    let options = ["--interval", "100ms", "--output", reports.to_str().unwrap()];
    let mut memprof = start(&options, &[program.path(), &counts]);
    // What the loader and the threads' beginnings take.
    wait_until("it is ready", || fs::read(&counts).is_ok_and(|counts| !counts.is_empty()));
    memprof.tell("go");
    let is_busy = || *Truth::read(&counts).allocations.start() > 10_000;
    wait_until("it allocates", is_busy);
    let command = descendants(memprof.pid())[0];
    signal(command, "KILL");
    assert_eq!(memprof.wait().status.code(), Some(128 + 9));
    let report = Report::parse(fs::read_to_string(&reports).unwrap().lines().last().unwrap());
    assert!(report.process().exited());
    let before = launch(&[], &[program.path().as_os_str(), counts.as_ref(), "only".as_ref()]);
    Truth::read(&counts).assert_is_that_of(&report, before.exact().totals());
}

fn is_stopped(pid: u32) -> bool {
    let mut threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(Result::unwrap);
    threads.all(|thread| fs::read_to_string(thread.path().join("stat")).unwrap().contains(") T "))
}

fn stop(pid: u32) {
    signal(pid, "STOP");
    wait_until("it is stopped", || is_stopped(pid));
}

#[test]
fn a_target_that_is_stopped_while_memprof_comes_and_goes() {
    let program = c(BUSY);
    let counts = program.folder().join("counts");
    let mut target = busy(&program);
    stop(target.pid());
    let mut memprof = attach(target.pid(), &["--interval", "1h"]);
    memprof.ready();
    memprof.signal("USR1");
    assert_eq!(memprof.next_report().process().totals(), [0; 4]);
    signal(target.pid(), "CONT");
    target.tell("go");
    wait_until("it allocates", || *Truth::read(&counts).allocations.start() > 10_000);
    stop(target.pid());
    for _ in 0..2 {
        memprof.signal("USR1");
        Truth::read(&counts).assert_is_that_of(&memprof.next_report(), [0; 4]);
    }
    let run = memprof.interrupt();
    assert!(run.status.success(), "{}", run.stderr);
    assert!(is_stopped(target.pid()));
    assert!(!run.last().process().exited());
    Truth::read(&counts).assert_is_that_of(run.last(), [0; 4]);
    signal(target.pid(), "CONT");
    let before = *Truth::read(&counts).allocations.end();
    wait_until("it goes on", || *Truth::read(&counts).allocations.start() > before + 10_000);
}

/// Replaces itself as often as its argument says, and allocates in each image. The last one waits, and so do the first two if there is
/// another argument.
const CHAIN: &str = r#"
int main(int count, char **arguments) {
    int left = atoi(arguments[1]);
    for (int i = 0; i < 20; i++) CHECK(malloc(1000 + left)); // each image
    free(malloc(3));
    int is_first = count > 2 && !strcmp(arguments[2], "first");
    if (count > 2 || !left) { say("ready"); await_line(); }
    if (!left) return 0;
    char number[20];
    snprintf(number, sizeof number, "%d", left - 1);
    execl("/proc/self/exe", "program", number, is_first ? "second" : NULL, NULL);
    return 1;
}
"#;

const IMAGES: u64 = 400;

fn assert_is_last_image(program: &Program, process: ProcessReport<'_>) {
    assert_eq!(process.totals(), [21, 20_003, 1, 3]);
    assert_eq!(process.outstanding_at(&source(program, "// each image")), (20_000, 20));
    assert_eq!(process.stacks().len(), 1);
}

/// How many files a memprof has open, but for those that it has from time to time, while it measures and reads of processes.
fn open_files(memprof: &Attached) -> usize {
    let files = fs::read_dir(format!("/proc/{}/fd", memprof.pid())).unwrap().flatten();
    let names = files.filter_map(|file| fs::read_link(file.path()).ok());
    let is_passing = |name: &PathBuf| name.starts_with("/proc") || name.to_string_lossy().contains("bpf-stats");
    names.filter(|name| !is_passing(name)).count()
}

/// Has a memprof report once more.
fn report(memprof: &mut Attached) -> Report {
    memprof.signal("USR1");
    memprof.next_report()
}

#[test]
fn a_target_that_replaces_itself_hundreds_of_times() {
    let program = c(CHAIN);
    let mut command = Command::new(program.path());
    command.args([&IMAGES.to_string(), "first"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut target = Target::start(&mut command);
    assert_eq!(target.hear(), "ready");
    let mut memprof = attach(target.pid(), &[&["--interval", "1h"][..], &ROOM_FOR_COPIES].concat());
    memprof.ready();
    target.tell("go");
    assert_eq!(target.hear(), "ready");
    // What names need is open from here on.
    report(&mut memprof);
    let files = open_files(&memprof);
    target.tell("go");
    assert_eq!(target.hear(), "ready");
    let report = report(&mut memprof);
    assert_eq!((report.lost(), report.warnings()), ((0, 0, 0), Vec::new()));
    assert_is_last_image(&program, report.process());
    wait_until("files are closed", || open_files(&memprof) == files);
    target.tell("end");
    assert_is_last_image(&program, memprof.wait().exact());
}

#[test]
fn a_command_that_replaces_itself_hundreds_of_times() {
    let program = c(CHAIN);
    let options = [&["--interval", "1h"][..], &ROOM_FOR_COPIES].concat();
    let mut memprof = start(&options, &[program.path().as_os_str(), IMAGES.to_string().as_ref()]);
    memprof.tell("end");
    let run = memprof.wait();
    assert!(run.status.success());
    assert_is_last_image(&program, run.exact());
}

const CHILDREN: u64 = 5000;

/// Forks children, a few dozen at once, of which each allocates ten blocks and frees half of them, and its parent's.
const PARENT: &str = r#"
enum { CHILDREN = 5000, AT_ONCE = 50 };
static void *inherited[10];
static void child(void) {
    void *blocks[10];
    for (int i = 0; i < 10; i++) { CHECK(blocks[i] = malloc(100)); free(inherited[i]); }
    for (int i = 0; i < 5; i++) free(blocks[i]);
    _exit(0);
}
int main(void) {
    say("ready");
    await_line();
    for (int i = 0; i < 10; i++) CHECK(inherited[i] = malloc(1000));
    say("has what children inherit");
    await_line();
    for (int number = 0; number < CHILDREN; number += AT_ONCE) {
        for (int i = 0; i < AT_ONCE; i++) {
            pid_t pid = fork();
            CHECK(pid >= 0);
            if (!pid) child();
        }
        int status;
        for (int i = 0; i < AT_ONCE; i++) CHECK(wait(&status) > 0 && status == 0);
        free(malloc(7));
    }
    say("done");
    await_line();
    return 0;
}
"#;

/// The last report on the parent of thousands, and by how many bytes memprof had grown. Of the parent all is known, and no file of the
/// children's is left open.
fn report_on_parent(options: &[&str]) -> (Report, u64) {
    let program = c(PARENT);
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let mut memprof = attach(target.pid(), &[&["--interval", "1h"], options].concat());
    memprof.ready();
    target.tell("go");
    assert_eq!(target.hear(), "has what children inherit");
    // What names need is open from here on.
    self::report(&mut memprof);
    let (memory, files) = (memory_of(memprof.pid(), "RssAnon"), open_files(&memprof));
    target.tell("go");
    assert_eq!(target.hear(), "done");
    // Of the last children it may not be known yet that they have ended.
    wait_until("their files are closed", || {
        self::report(&mut memprof);
        open_files(&memprof) <= files
    });
    let growth = memory_of(memprof.pid(), "RssAnon").saturating_sub(memory);
    target.tell("end");
    let run = memprof.wait();
    assert!(run.status.success(), "{}", run.stderr);
    let parent = run.last().process_of(target.pid());
    assert_eq!((parent.totals(), parent.outstanding()), ([110, 10_700, 100, 700], (10_000, 10)));
    (run.last().clone(), growth)
}

/// How many children were followed, and what they did in all.
fn children(report: &Report) -> (u64, [u64; 4]) {
    let ended = &report.0["ended_processes"];
    let ended_number = |field: &serde_json::Value| field.as_u64().unwrap_or_default();
    let mut totals =
        ["allocations", "allocated_bytes", "frees", "freed_bytes"].map(|name| ended_number(&ended["totals"][name]));
    let shown = report.0["processes"].as_array().unwrap().iter().skip(1).map(ProcessReport);
    let mut count = ended_number(&ended["processes"]);
    for child in shown {
        count += 1;
        totals.iter_mut().zip(child.totals()).for_each(|(total, of_child)| *total += of_child);
    }
    (count, totals)
}

/// The number that the one warning begins with that says this; 0 if none does.
fn warned(report: &Report, said: &str) -> u64 {
    let warnings = report.warnings();
    let of = warnings.iter().find(|warning| warning.contains(said));
    of.map_or(0, |warning| numbers(warning)[0])
}

const NOT_FOLLOWED: &str = "forked processes were not observed because too many were at once";

#[test]
fn thousands_of_children_that_are_not_followed() {
    let (report, growth) = report_on_parent(&[]);
    assert_eq!((report.lost(), report.warnings()), ((0, 0, 0), Vec::new()));
    assert_eq!(report.0["processes"].as_array().unwrap().len(), 1);
    assert!(growth < 1 << 20, "{growth}");
}

#[test]
fn thousands_of_children_that_are_followed() {
    let (report, growth) = report_on_parent(&["--follow-children"]);
    let (followed, totals) = children(&report);
    assert_eq!(warned(&report, "forked processes were observed from a moment after their start"), followed);
    assert_eq!(followed + warned(&report, NOT_FOLLOWED), CHILDREN);
    assert!(totals[0] <= 10 * followed && totals[2] <= 5 * followed, "{totals:?}");
    assert!(growth < 64 << 20, "{growth}");
}

#[test]
fn thousands_of_children_that_are_followed_from_their_first_instruction() {
    let (report, growth) = report_on_parent(&["--follow-children=exact"]);
    let (followed, totals) = children(&report);
    assert_eq!(followed + warned(&report, NOT_FOLLOWED), CHILDREN);
    // More than there are places for at once, which come to be free again.
    assert!(followed > 512, "{followed}");
    let (lost, lost_frees, _) = report.lost();
    assert_eq!(lost, 0, "{:?}", report.warnings());
    let [allocations, bytes, frees, freed] = totals;
    assert_eq!((allocations, bytes), (10 * followed, 1000 * followed));
    // Where memprof is slow, the ring fills up; of the frees that are lost then, most are of what the children have from their parent.
    assert!(
        ((5 * followed).saturating_sub(lost_frees)..=5 * followed).contains(&frees),
        "{frees} {followed} {lost_frees}"
    );
    assert_eq!(freed, 100 * frees);
    assert!(growth < 64 << 20, "{growth}");
}

#[test]
fn hundreds_of_threads() {
    const THREADS: u64 = 500;
    let program = c(&format!(
        r#"
enum {{ THREADS = {THREADS} }};
static pthread_barrier_t all;
static void *work(void *argument) {{
    long size = 100 + (long)argument;
    void *kept = NULL;
    pthread_barrier_wait(&all);
    for (int i = 0; i < 100; i++) {{
        void *block = malloc(size); // kept
        CHECK(block);
        if (i % 10) free(block);
        CHECK(kept = realloc(kept, 10 + i));
    }}
    free(kept);
    pthread_barrier_wait(&all);
    return NULL;
}}
int main(void) {{
    static pthread_t threads[THREADS];
    pthread_attr_t small;
    pthread_attr_init(&small);
    CHECK(!pthread_attr_setstacksize(&small, 128 << 10));
    pthread_barrier_init(&all, NULL, THREADS + 1);
    for (long i = 0; i < THREADS; i++) CHECK(!pthread_create(&threads[i], &small, work, (void *)i));
    say("ready");
    await_line();
    pthread_barrier_wait(&all);
    pthread_barrier_wait(&all);
    say("done");
    await_line();
    return 0;
}}"#
    ));
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    let mut memprof = attach(target.pid(), &["--interval", "1h"]);
    memprof.ready();
    target.tell("go");
    assert_eq!(target.hear(), "done");
    let run = memprof.interrupt();
    let process = run.exact();
    let sizes: u64 = (0..THREADS).map(|number| 100 + number).sum();
    let resized: u64 = (10..110).sum();
    let kept = (10 * sizes, 10 * THREADS);
    assert_eq!(process.outstanding(), kept);
    assert_eq!(process.outstanding_at(&source(&program, "// kept")), kept);
    let allocated = [200 * THREADS, 100 * sizes + resized * THREADS];
    assert_eq!(process.totals(), [allocated[0], allocated[1], allocated[0] - kept.1, allocated[1] - kept.0]);
}
