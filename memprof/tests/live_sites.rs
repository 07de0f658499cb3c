//! Probes behind a function's first instructions: every call is counted, once, whoever makes it and whenever the probes come;
//! and a function that can be entered there keeps its entry.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod support;

use support::{Program, Target, attach, memprof, numbers};

const PRELUDE: &str = r#"
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
void *malloc(size_t size);
void free(void *block);
// Without allocating, unlike stdio's.
#define say(...) do { char text[200]; write(1, text, snprintf(text, sizeof text, __VA_ARGS__)); } while (0)
static void await_line(void) { char c; do if (read(0, &c, 1) != 1) _exit(1); while (c != '\n'); }
"#;

/// What allocators in assembly go on to: blocks of 16 bytes, each thread's one after the other.
const BLOCKS: &str = r#"
void *next_block(void) {
    static __thread char space[1 << 20];
    static __thread size_t used;
    used = (used + 16) % sizeof space;
    return space + used;
}
"#;

/// A `free` that begins as glibc's does.
const FREE: &str = "
.globl free
.type free, @function
free:
    test %rdi, %rdi
    je 1f
    mov $0, %eax
1:  ret
.size free, . - free
";

/// A program with this `malloc`, and [`FREE`] behind it.
fn own_allocator(malloc: &str, main: &str) -> Program {
    let assembly = format!(".text\n.globl malloc\n.type malloc, @function\nmalloc:\n{malloc}\n.text\n{FREE}");
    let source = format!("{PRELUDE}{BLOCKS}__asm__(R\"({assembly})\");\n{main}");
    Program::c(&source, &["-fno-builtin", "-pthread", "-w", "-O1"])
}

/// 300 blocks of 1 to 300 bytes, of which two in three are freed. `OTHER` are other ways into the allocator.
const MAIN: &str = r#"
void *other(size_t size);
int main(void) {
    say("ready\n");
    await_line();
    for (size_t size = 1; size <= 300; size++) {
        void *block = malloc(size); // allocated
        if (size % 3) free(block);
        OTHER;
    }
    say("done\n");
    await_line();
    _exit(0);
}
"#;

/// What `doctor` says of the program's own `malloc` and `free`.
fn told(target: &Target) -> [String; 2] {
    let output = memprof().args(["doctor", "--pid", &target.pid().to_string()]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = text.lines().skip_while(|line| !line.ends_with("/program"));
    let mut lines = lines.skip(1).filter_map(|line| line.trim().split_once("  "));
    std::array::from_fn(|_| lines.next().unwrap().1.to_owned())
}

fn expected(malloc: &str) -> [String; 2] {
    let free = "free + 3 (je, emulated; the entry's test would be single-stepped): frees arg0";
    [format!("malloc {malloc}: allocates arg0"), free.to_owned()]
}

/// Attaches, lets the program work, and checks what it is told and what it counts.
fn check(program: &Program, malloc: &str) {
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    assert_eq!(told(&target), expected(malloc));
    let mut memprof = attach(target.pid(), &[]);
    memprof.ready();
    target.tell("go");
    assert_eq!(target.hear(), "done");
    let run = memprof.interrupt();
    let process = run.exact();
    assert_eq!(process.totals(), [300, 45_150, 200, 30_000]);
    assert_eq!(process.outstanding(), (15_150, 100));
    assert_eq!(process.outstanding_at(&format!("program.c:{}", program.line("// allocated"))), (15_150, 100));
}

#[test]
fn a_site_behind_skipped_instructions_counts_each_call_once() {
    let malloc = "
        mov %rdi, %rax
        lea 7(%rdi), %r10
        test %rax, %rax
        js 1f
        jmp next_block
    1:  xor %eax, %eax
        ret
    .size malloc, . - malloc";
    let program = own_allocator(malloc, &MAIN.replace("OTHER;", ""));
    check(&program, "+ 10 (js, emulated; the entry's mov would be single-stepped)");
}

#[test]
fn a_loop_around_the_site_keeps_the_entry() {
    let malloc = "
        mov $5, %eax
    1:  dec %eax
        jne 1b
        jmp next_block
    .size malloc, . - malloc";
    let program = own_allocator(malloc, &MAIN.replace("OTHER;", ""));
    check(&program, "(the entry, single-stepped: it jumps back to its beginning, from + 7)");
}

#[test]
fn a_jump_back_into_the_skipped_bytes_keeps_the_entry() {
    let malloc = "
        mov $5, %eax
    1:  cmp $2, %eax
        jb 2f
        dec %eax
        jmp 1b
    2:  jmp next_block
    .size malloc, . - malloc";
    let program = own_allocator(malloc, &MAIN.replace("OTHER;", ""));
    check(&program, "(the entry, single-stepped: it jumps back to its beginning, from + 12)");
}

#[test]
fn a_jump_table_keeps_the_entry() {
    // A loop around the first bytes that only the table tells of.
    let malloc = "
        mov $2, %r10d
    1:  dec %r10d
        js 3f
        lea 4f(%rip), %rax
        jmp *(%rax,%r10,8)
    3:  jmp next_block
    .size malloc, . - malloc
    .section .data.rel.ro, \\\"aw\\\"
    .balign 8
    4:  .quad 1b, 1b
    .text"
        .replace("\\\"", "\"");
    let program = own_allocator(&malloc, &MAIN.replace("OTHER;", ""));
    check(&program, "(the entry, single-stepped: it jumps to an unknown place, from + 18)");
}

#[test]
fn a_second_symbol_inside_keeps_the_entry() {
    for kind in ["", ".globl other\n.type other, @function\n"] {
        let malloc = format!(
            "
            mov %rdi, %rax
            {kind}
        other:
            push %rbx
            call next_block
            pop %rbx
            ret
        .size malloc, . - malloc"
        );
        // A local one cannot be called from here, but from elsewhere in its file.
        let way = if kind.is_empty() { "" } else { "other(size);" };
        let program = own_allocator(&malloc, &MAIN.replace("OTHER;", way));
        check(&program, "(the entry, single-stepped: another symbol is at + 3)");
    }
}

#[test]
fn a_jump_from_elsewhere_keeps_the_entry() {
    let malloc = "
        mov %rdi, %rax
    1:  push %rbx
        call next_block
        pop %rbx
        ret
    .size malloc, . - malloc
    .section .text.unlikely, \"ax\"
    .globl other
    other:
        jmp 1b
    .text";
    let program = own_allocator(malloc, &MAIN.replace("OTHER;", "other(size);"));
    check(&program, "(the entry, single-stepped: other code jumps to + 3)");
}

/// Bytes that look like a jump, within other instructions: one into the middle of an instruction is none.
#[test]
fn what_seems_to_jump_between_the_bytes_of_an_instruction_is_no_jump() {
    let malloc = "
        mov %rdi, %rax
        push %rbx
        call next_block
        pop %rbx
        ret
    .size malloc, . - malloc
    .globl other
    other:
        mov $0xe9, %al
        .long malloc + 1 - . - 4
        ret";
    // It has e9, and then the distance to malloc's second byte.
    let program = own_allocator(malloc, &MAIN.replace("OTHER;", ""));
    check(&program, "+ 3 (push, emulated; the entry's mov would be single-stepped)");
}

#[test]
fn a_function_of_unknown_size_keeps_the_entry() {
    let malloc = "
        mov %rdi, %rax
        push %rbx
        call next_block
        pop %rbx
        ret";
    let program = own_allocator(malloc, &MAIN.replace("OTHER;", ""));
    check(&program, "(the entry, single-stepped: its symbol has no size)");
}

/// Threads that do nothing but allocate and free, until they are told to stop, and a thousand times more; then each keeps some.
const THREADS: &str = r#"
enum { THREADS = 4, PAIRS = 1000, KEPT = 100 };
static volatile int stop;
static pthread_barrier_t all;
static void *work(void *argument) {
    pthread_barrier_wait(&all);
    for (int i = 0; i < PAIRS || !stop; i += stop) { void *block = malloc(24); free(block); }
    for (int i = 0; i < KEPT; i++) if (!malloc(40)) _exit(1); // kept
    pthread_barrier_wait(&all);
    pthread_barrier_wait(&all);
    return NULL;
}
int main(void) {
    pthread_t threads[THREADS];
    pthread_barrier_init(&all, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++) if (pthread_create(&threads[i], NULL, work, NULL)) _exit(1);
    pthread_barrier_wait(&all);
    say("ready\n");
    await_line();
    stop = 1;
    pthread_barrier_wait(&all);
    say("done\n");
    await_line();
    _exit(0);
}
"#;

/// Attaches to busy threads, with one memprof after the other: what is outstanding for the last is exactly what was kept.
fn check_threads(program: &Program, site: &str) {
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    if !site.is_empty() {
        assert_eq!(told(&target), expected(site));
    }
    // With room for little: what is freed while the probes go in, and nobody reads, is not to fill it.
    let room = ["--ring-size", "16KiB"];
    for until in [&["--interval", "300ms", "--count", "1"][..], &["--duration", "300ms"]] {
        let run = attach(target.pid(), &[&room[..], until].concat()).wait();
        let process = run.exact();
        // Of each thread at most the block that it has at the time.
        let (bytes, blocks) = process.outstanding();
        assert!(blocks <= 4, "{blocks}");
        // The threads run on, and yet it is all of one moment.
        let [allocations, allocated, frees, freed] = process.totals();
        assert!(allocations > 0);
        assert_eq!((frees + blocks, freed + bytes), (allocations, allocated));
    }
    let mut memprof = attach(target.pid(), &room);
    memprof.ready();
    target.tell("stop");
    assert_eq!(target.hear(), "done");
    let run = memprof.interrupt();
    let process = run.exact();
    assert_eq!(process.outstanding(), (16_000, 400));
    assert_eq!(process.outstanding_at(&format!("program.c:{}", program.line("// kept"))), (16_000, 400));
    let [allocations, bytes, frees, freed] = process.totals();
    // Of each thread's thousand, the first may have been allocated before the attach.
    assert!(frees >= 4 * 999, "{frees}");
    assert_eq!((allocations, bytes, freed), (frees + 400, frees * 24 + 16_000, frees * 24));
}

#[test]
fn threads_that_are_within_the_skipped_bytes_at_the_attach_are_balanced() {
    // As slow as eight instructions can be that may be skipped.
    let malloc = "
        mov %rdi, %rax
        imul %rax, %rax
        imul %rax, %rax
        imul %rax, %rax
        imul %rax, %rax
        imul %rax, %rax
        imul %rax, %rax
        test %rdi, %rdi
        js 1f
        jmp next_block
    1:  xor %eax, %eax
        ret
    .size malloc, . - malloc";
    let program = own_allocator(malloc, THREADS);
    check_threads(&program, "+ 30 (js, emulated; the entry's mov would be single-stepped)");
}

#[test]
fn busy_threads_of_libc_are_balanced() {
    let source = format!("{PRELUDE}{THREADS}");
    let program = Program::c(&source, &["-fno-builtin", "-pthread", "-w", "-O1"]);
    check_threads(&program, "");
}

/// Every thread allocates and frees so often, and says in the end how often that was.
const COUNTED: &str = r#"
enum { THREADS = 8, PAIRS = 20000, KEPT = 100 };
static pthread_barrier_t all;
static void *work(void *argument) {
    pthread_barrier_wait(&all);
    for (int i = 0; i < PAIRS; i++) free(malloc(1 + i % 1000));
    for (int i = 0; i < KEPT; i++) if (!malloc(40)) _exit(1); // kept
    pthread_barrier_wait(&all);
    pthread_barrier_wait(&all);
    return NULL;
}
int main(void) {
    pthread_t threads[THREADS];
    pthread_barrier_init(&all, NULL, THREADS + 1);
    for (int i = 0; i < THREADS; i++) if (pthread_create(&threads[i], NULL, work, NULL)) _exit(1);
    say("ready\n");
    await_line();
    pthread_barrier_wait(&all);
    pthread_barrier_wait(&all);
    say("%d %d\n", THREADS * PAIRS, THREADS * KEPT);
    await_line();
    _exit(0);
}
"#;

#[test]
fn calls_from_many_threads_are_counted_each() {
    let malloc = "
        lea 7(%rdi), %r10
        shr $3, %r10
        cmp $4096, %rdi
        ja 1f
        jmp next_block
    1:  xor %eax, %eax
        ret
    .size malloc, . - malloc";
    let program = own_allocator(malloc, COUNTED);
    let mut target = Target::piped(program.path());
    assert_eq!(target.hear(), "ready");
    assert_eq!(told(&target), expected("+ 15 (ja, emulated; the entry's lea would be single-stepped)"));
    let mut memprof = attach(target.pid(), &[]);
    memprof.ready();
    target.tell("go");
    let truth = numbers(&target.hear());
    let run = memprof.interrupt();
    let process = run.exact();
    let (pairs, kept) = (truth[0], truth[1]);
    // One to a thousand bytes, each as often as any other.
    let freed = pairs / 1000 * 500_500;
    assert_eq!(process.totals(), [pairs + kept, freed + kept * 40, pairs, freed]);
    assert_eq!(process.outstanding_at(&format!("program.c:{}", program.line("// kept"))), (kept * 40, kept));
}
