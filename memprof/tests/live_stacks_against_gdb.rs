//! Every frame of every stack, as gdb has it: the same object and the same offset in it, from the allocator's caller to
//! the thread's first frame. `docs/gdb.md` says what is compared, and how.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

mod gdb;
mod support;

use std::collections::{HashMap, HashSet};

use gdb::{Case, Gdb, Stack, What, frames, number};
use support::{ProcessReport, Program, StackReport, attach};

fn check_program(program: &Program, name: &str, least: u64) {
    Case::new(&[program.path().to_str().unwrap()]).check(name, least);
}

#[test]
fn c_of_a_hundred_and_ten_levels_without_frame_pointers() {
    let program = Program::c(include_str!("gdb/programs/deep.c"), &["-O2", "-fomit-frame-pointer"]);
    check_program(&program, "C, 110 levels", 1100);
}

#[test]
fn cpp_with_exceptions_templates_and_threads() {
    let program = Program::cpp(include_str!("gdb/programs/templates.cc"), &["-O2", "-std=c++17", "-pthread"]);
    check_program(&program, "C++ with threads", 900);
}

#[test]
fn rust_with_panics_and_closures() {
    let program = Program::rust(include_str!("gdb/programs/closures.rs"), &["-Copt-level=3", "--edition=2021"]);
    check_program(&program, "Rust", 1300);
}

#[test]
fn handlers_of_signals_and_faults() {
    let program = Program::c(include_str!("gdb/programs/signals.c"), &["-O2", "-fomit-frame-pointer", "-w"]);
    check_program(&program, "signals", 360);
}

/// Userspace learns of each library while it is already on stacks, and unwinds copies of these by itself.
#[test]
fn libraries_that_have_just_been_mapped() {
    let flags = ["-O2", "-fomit-frame-pointer"];
    let library = |number: usize| {
        let number = format!("-DNUMBER={number}");
        let flags = [&flags[..], &["-shared", "-fPIC", &number]].concat();
        Program::c(include_str!("gdb/programs/library.c"), &flags)
    };
    let libraries: Vec<_> = (1..=16).map(library).collect();
    let program = Program::c(include_str!("gdb/programs/mapped.c"), &flags);
    let paths = [&program].into_iter().chain(&libraries).map(|program| program.path().to_str().unwrap());
    Case::new(&paths.collect::<Vec<_>>()).check("C, new libraries", 16 * 39);
}

/// Where an alarm interrupts is never the same again: both look at one run. memprof has its stack from within `malloc`,
/// gdb from `mark`, which the handler calls next, so that the first frame, the handler's, differs in its pc.
#[test]
fn handlers_of_alarms_at_any_instruction() {
    let flags = ["-O2", "-fomit-frame-pointer", "-Wl,-z,now", "-w"];
    let program = Program::c(include_str!("gdb/programs/alarms.c"), &flags);
    let case = Case::new(&[program.path().to_str().unwrap()]);
    let mut target = case.start();
    let mut memprof = attach(target.pid(), &["--interval", "1h", "--show-allocations", "--min-size", "64B"]);
    memprof.ready();
    let gdb = Gdb::attach(target.pid(), What::Marks);
    case.release(&mut target);
    let marked = gdb.wait().marked();
    let run = memprof.wait();
    let process = run.exact();
    assert!(process.stacks().iter().all(|stack| stack.functions()[0].as_deref() == Some("handle")));
    let stacks = stacks_by_block(&process);
    assert_eq!(marked.len(), stacks.len());
    for (pointer, expected) in &marked {
        let found = &stacks[pointer];
        assert_eq!((&found[0].0, &found[1..]), (&expected[0].0, &expected[1..]));
    }
    let distinct: HashSet<_> = marked.iter().map(|(_, stack)| stack).collect();
    eprintln!("alarms: {0} of {0} allocations compared and equal, on {1} stacks", marked.len(), distinct.len());
    assert_eq!(marked.len(), 600);
    assert!(distinct.len() > 200, "all alarms in the same places");
}

/// Each block's stack.
fn stacks_by_block(process: &ProcessReport<'_>) -> HashMap<u64, Stack> {
    let of_stack = |stack: StackReport<'_>| {
        assert!(stack.0["truncated"].is_null(), "{stack:?}");
        let blocks = stack.0["allocations"].as_array().unwrap().iter().map(|block| number(&block["address"]).unwrap());
        blocks.map(|block| (block, frames(&stack))).collect::<Vec<_>>()
    };
    process.stacks().into_iter().flat_map(of_stack).collect()
}

#[test]
fn python_with_every_object_a_block() {
    let case = Case::new(&["/usr/bin/python3", "-c", include_str!("gdb/programs/work.py")]);
    case.with("PYTHONMALLOC", "malloc").with("PYTHONHASHSEED", "0").check("python3", 1500);
}

#[test]
fn perl() {
    Case::new(&["/usr/bin/perl", "-e", include_str!("gdb/programs/work.pl")])
        .with("PERL_HASH_SEED", "0")
        .check("perl", 900);
}

#[test]
fn bash() {
    Case::new(&["/bin/bash", "-c", include_str!("gdb/programs/work.sh")]).check("bash", 2500);
}

#[test]
fn sqlite3() {
    Case::new(&["/usr/bin/sqlite3", ":memory:"]).input(include_str!("gdb/programs/work.sql")).check("sqlite3", 1200);
}

#[test]
fn llc() {
    let input = "define i32 @f(i32 %a) {\n  %b = add i32 %a, 1\n  ret i32 %b\n}\n";
    Case::new(&["llc", "-O2", "-o", "/dev/null", "-"]).input(input).check("llc", 2500);
}
