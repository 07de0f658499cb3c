//! Names of known return addresses in real programs.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{Running, Seen, real, run, write};
use memprof::{
    model::{Frame, Object, ObjectId, ObjectKind, ProfileFrame, RawFrame, Source},
    symbols::{Isolation, Symbolizer},
};

/// Prints the return addresses of `probe`'s caller and of that one's. Line numbers are asserted below.
const PROGRAM: &str = r#"#include <stdio.h>
__attribute__((noinline)) void probe(void) {
  printf("%p\n", __builtin_return_address(0));
}
__attribute__((noinline)) void leaf(void) {
  probe();
}
int main(void) {
  leaf();
  printf("\n");
  fflush(stdout);
  while (getchar() != EOF) {}
  return 0;
}
"#;

struct Program {
    directory: tempfile::TempDir,
}

impl Program {
    fn write(source: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), "leak.c", source);
        Self { directory }
    }

    fn run(self, command: &str) -> Self {
        run(self.directory.path(), command);
        self
    }

    fn path(&self) -> PathBuf {
        real(self.directory.path().join("leak"))
    }

    fn at(&self, file: &str, line: u32) -> Option<Source> {
        let directory = Some(real(self.directory.path()));
        Some(Source { directory, file: file.into(), line: Some(line) })
    }

    /// The names of the addresses that the program prints, made after it has ended.
    fn frames(&self, symbolizer: &mut Symbolizer) -> Vec<Frame> {
        let mut running = Running::start(self.path());
        let seen = Seen::of(running.pid());
        let frames: Vec<_> = running.printed.iter().map(|address| seen.frame(*address)).collect();
        running.end();
        symbolizer.name(frames, |id| seen.object(id))
    }

    fn assert_leaf_is_at_line_6(&self, symbolizer: &mut Symbolizer) {
        let frames = self.frames(symbolizer);
        assert_eq!(frames.len(), 1, "{frames:?}");
        assert_eq!(frames[0].function.as_deref(), Some("leaf"));
        assert_eq!(frames[0].source, self.at("leak.c", 6));
        assert_eq!(frames[0].module.as_deref(), Some(self.path().as_path()));
    }
}

#[test]
fn position_independent_or_not_the_line_is_that_of_the_call() {
    for options in ["-O0 -pie -fPIE", "-O0 -no-pie -fno-pie", "-O0 -static", "-O0 -gdwarf-4"] {
        let program = Program::write(PROGRAM).run(&format!("gcc -g {options} leak.c -o leak"));
        program.assert_leaf_is_at_line_6(&mut Symbolizer::default());
    }
}

#[test]
fn a_deleted_program_is_named() {
    let program = Program::write(PROGRAM).run("gcc -g -O0 leak.c -o leak");
    let path = program.path();
    let running = Running::start(&path);
    fs::remove_file(&path).unwrap();
    let seen = Seen::of(running.pid());
    let frames = Symbolizer::default().name(vec![seen.frame(running.printed[0])], |id| seen.object(id));
    assert_eq!(frames[0].function.as_deref(), Some("leaf"));
    assert_eq!(frames[0].source, program.at("leak.c", 6));
    assert_eq!(frames[0].module.as_deref(), Some(path.as_path()));
}

#[test]
fn separate_debug_files_are_found_beside_the_program() {
    for place in [".", ".debug"] {
        let program = Program::write(PROGRAM)
            .run("gcc -g -O0 leak.c -o leak")
            .run(&format!("mkdir -p {place}"))
            .run("objcopy --only-keep-debug leak leak.dbg")
            .run("objcopy --strip-all leak")
            .run("objcopy --add-gnu-debuglink=leak.dbg leak");
        if place != "." {
            run(program.directory.path(), &format!("mv leak.dbg {place}/leak.dbg"));
        }
        program.assert_leaf_is_at_line_6(&mut Symbolizer::default());
    }
}

#[test]
fn without_a_build_id_the_checksum_decides() {
    let program = Program::write(PROGRAM)
        .run("gcc -g -O0 -Wl,--build-id=none leak.c -o leak")
        .run("objcopy --only-keep-debug leak leak.dbg")
        .run("objcopy --strip-all --add-gnu-debuglink=leak.dbg leak");
    program.assert_leaf_is_at_line_6(&mut Symbolizer::default());
    let debug_file = program.directory.path().join("leak.dbg");
    let mut content = fs::read(&debug_file).unwrap();
    content.push(0);
    fs::write(&debug_file, content).unwrap();
    let frames = program.frames(&mut Symbolizer::default());
    assert_eq!((frames[0].function.as_deref(), &frames[0].source), (None, &None));
}

#[test]
fn separate_debug_files_are_found_by_build_id_alone() {
    let program = Program::write(PROGRAM)
        .run("gcc -g -O0 -Wl,--build-id=0xabcdef0123456789 leak.c -o leak")
        .run("mkdir -p debug/.build-id/ab")
        .run("objcopy --only-keep-debug leak debug/.build-id/ab/cdef0123456789.debug")
        .run("objcopy --strip-all leak");
    let mut symbolizer = Symbolizer::new(vec![program.directory.path().join("debug")], Isolation::Here);
    program.assert_leaf_is_at_line_6(&mut symbolizer);
}

#[test]
fn a_fifo_in_the_place_of_a_debug_file_holds_nobody_up() {
    let program = Program::write(PROGRAM)
        .run("gcc -g -O0 leak.c -o leak")
        .run("objcopy --only-keep-debug leak leak.dbg")
        .run("objcopy --add-gnu-debuglink=leak.dbg leak")
        .run("rm leak.dbg")
        .run("mkfifo leak.dbg");
    assert_eq!(program.frames(&mut Symbolizer::default())[0].function.as_deref(), Some("leaf"));
}

#[test]
fn without_symbols_module_offset_and_build_id_remain() {
    let program = Program::write(PROGRAM)
        .run("gcc -O0 -Wl,--build-id=0xabcdef0123456789 leak.c -o leak")
        .run("objcopy --strip-all leak");
    let frames = program.frames(&mut Symbolizer::default());
    assert_eq!(frames.len(), 1);
    assert_eq!((frames[0].function.as_deref(), &frames[0].source), (None, &None));
    assert_eq!(frames[0].module.as_deref(), Some(program.path().as_path()));
    assert_eq!(frames[0].build_id.as_ref().unwrap().to_string(), "abcdef0123456789");
    assert!(frames[0].offset_in_file.is_some_and(|offset| offset > 0));
}

#[test]
fn inlined_functions_are_frames_innermost_first() {
    let source = r#"#include <stdio.h>
__attribute__((noinline)) void probe(void) { printf("%p\n", __builtin_return_address(0)); }
static inline __attribute__((always_inline)) void inner(void) {
  probe();
}
static inline __attribute__((always_inline)) void middle(void) {
  inner();
}
__attribute__((noinline)) void outer(void) {
  middle();
  __asm__ volatile("");
}
int main(void) {
  outer();
  printf("\n");
  fflush(stdout);
  while (getchar() != EOF) {}
}
"#;
    let program = Program::write(source).run("gcc -g -O2 leak.c -o leak");
    let frames = program.frames(&mut Symbolizer::default());
    let named: Vec<_> = frames
        .iter()
        .map(|frame| (frame.function.as_deref().unwrap(), frame.source.as_ref().unwrap().line.unwrap(), frame.inlined))
        .collect();
    assert_eq!(named, [("inner", 4, true), ("middle", 7, true), ("outer", 10, false)]);
    assert!(frames.iter().all(|frame| frame.address == frames[0].address));
}

#[test]
fn a_call_that_never_returns_belongs_to_its_own_function() {
    let source = r#"#include <stdio.h>
#include <stdlib.h>
__attribute__((noinline, noreturn)) void probe(void) {
  printf("%p\n\n", __builtin_return_address(0));
  fflush(stdout);
  while (getchar() != EOF) {}
  exit(0);
}
__attribute__((noinline, noreturn)) void last(void) {
  probe();
}
__attribute__((noinline)) void next(void) {}
int main(void) {
  last();
}
"#;
    let program = Program::write(source).run("gcc -g -O1 -fno-align-functions leak.c -o leak");
    let frames = program.frames(&mut Symbolizer::default());
    assert_eq!(frames[0].function.as_deref(), Some("last"));
    assert_eq!(frames[0].source, program.at("leak.c", 10));
}

#[test]
fn shared_libraries_are_named_by_their_own_offsets() {
    let directory = tempfile::tempdir().unwrap();
    let library = "#include <stdio.h>\n\
        __attribute__((noinline)) static void probe(void) { printf(\"%p\\n\", __builtin_return_address(0)); }\n\
        void in_library(void) {\n  probe();\n}\n";
    write(directory.path(), "src/lib.c", library);
    let source = "#include <stdio.h>\nvoid in_library(void);\nint main(void) {\n  in_library();\n  printf(\"\\n\");\n  \
        fflush(stdout);\n  while (getchar() != EOF) {}\n}\n";
    write(directory.path(), "leak.c", source);
    run(directory.path(), "gcc -g -O0 -shared -fPIC src/lib.c -o libleak.so");
    run(directory.path(), &format!("gcc -g -O0 leak.c {}/libleak.so -o leak", directory.path().display()));
    let program = Program { directory };
    let frames = program.frames(&mut Symbolizer::default());
    assert_eq!(frames[0].function.as_deref(), Some("in_library"));
    assert_eq!(frames[0].module, Some(real(program.directory.path().join("libleak.so"))));
    let source = frames[0].source.as_ref().unwrap();
    assert_eq!(
        (source.directory.as_ref().unwrap().join(&source.file), source.line),
        (real(program.directory.path().join("src/lib.c")), Some(4))
    );
}

#[test]
fn cpp_and_rust_names_are_demangled() {
    let directory = tempfile::tempdir().unwrap();
    let cpp = r#"#include <cstdio>
namespace shop {
struct Cart {
  __attribute__((noinline)) void add(int) {
    std::printf("%p\n", __builtin_extract_return_addr(__builtin_return_address(0)));
  }
};
template <typename T> __attribute__((noinline)) void fill(T &cart) {
  cart.add(1);
  __asm__ volatile("");
}
}
int main() {
  shop::Cart cart;
  shop::fill(cart);
  std::puts("");
  std::fflush(stdout);
  while (std::getchar() != EOF) {}
}
"#;
    write(directory.path(), "leak.cc", cpp);
    run(directory.path(), "g++ -g -O1 leak.cc -o leak");
    let program = Program { directory };
    let frames = program.frames(&mut Symbolizer::default());
    assert_eq!(frames[0].function.as_deref(), Some("void shop::fill<shop::Cart>(shop::Cart&)"));
    assert_eq!(frames[0].source, program.at("leak.cc", 9));

    let rust = r#"use std::io::{Read, Write};
mod shop {
    #[inline(never)]
    pub fn fill(probe: extern "C" fn()) {
        probe();
        std::hint::black_box(());
    }
}
std::arch::global_asm!(
    ".globl address_of_caller", "address_of_caller:", "mov rax, [rsp]", "mov [rip + caller], rax", "ret",
    ".data", "caller: .quad 0", ".globl caller", ".text",
);
unsafe extern "C" { safe fn address_of_caller(); static caller: u64; }
extern "C" fn probe() { address_of_caller() }
fn main() {
    shop::fill(unsafe { std::mem::transmute(address_of_caller as *const ()) });
    let _ = probe;
    println!("{:x}\n", unsafe { caller });
    std::io::stdout().flush().unwrap();
    let _ = std::io::stdin().read(&mut [0]);
}
"#;
    write(program.directory.path(), "leak.rs", rust);
    run(program.directory.path(), "rustc --edition 2024 -g -C opt-level=1 leak.rs");
    let frames = program.frames(&mut Symbolizer::default());
    assert_eq!(frames[0].function.as_deref(), Some("leak::shop::fill"));
    assert_eq!(frames[0].source.as_ref().unwrap().file, Path::new("leak.rs"));
    assert_eq!(frames[0].source.as_ref().unwrap().line, Some(5));
}

#[test]
fn the_vdso_has_names() {
    let seen = Seen::of(std::process::id());
    let vdso = seen.object_named(Path::new("[vdso]"));
    let listing = {
        let directory = tempfile::tempdir().unwrap();
        fs::copy(vdso.reachable_path().unwrap(), directory.path().join("vdso")).unwrap();
        run(directory.path(), "nm -D vdso")
    };
    let line =
        listing.lines().find(|line| line.ends_with(" __vdso_getcpu") || line.contains(" __vdso_getcpu@")).unwrap();
    let address = u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap();
    let frame = RawFrame { address: 7, place: Some((vdso.id, address + 4)) };
    let named = Symbolizer::default().name(vec![frame], |id| seen.object(id));
    assert!(matches!(named[0].function.as_deref(), Some("__vdso_getcpu" | "getcpu")), "{named:?}");
    assert_eq!(named[0].module.as_deref(), Some(Path::new("[vdso]")));
}

#[test]
fn unknown_places_stay_addresses() {
    let frames = vec![
        RawFrame { address: 0x1234, place: None },
        RawFrame { address: 0x5678, place: Some((ObjectId(99), 0x78)) },
    ];
    let named = Symbolizer::default().name(frames, |_| None);
    let address = |address| Frame { address, ..Frame::default() };
    assert_eq!(named, [address(0x1234), address(0x5678)]);
}

#[test]
fn damaged_files_cost_names_and_nothing_else() {
    let program = Program::write(PROGRAM).run("gcc -g -O0 leak.c -o leak");
    let whole = fs::read(program.path()).unwrap();
    // A fixed linear congruential sequence: the same damage each time.
    let mut state = 1_u64;
    let mut random = move |limit: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % limit
    };
    for round in 0..1000 {
        let mut damaged = whole.clone();
        (0..1 + round % 40).for_each(|_| {
            let place = random(damaged.len());
            damaged[place] = random(256) as u8;
        });
        if round % 3 == 0 {
            damaged.truncate(random(whole.len()));
        }
        let path = program.directory.path().join(format!("damaged{round}"));
        fs::write(&path, damaged).unwrap();
        let file = fs::File::open(&path).unwrap();
        let object = std::sync::Arc::new(Object {
            id: ObjectId(0),
            path: path.clone(),
            kind: ObjectKind::File,
            identity: None,
            build_id: None,
            file: Some(std::sync::Arc::new(file)),
        });
        let frames =
            (0x1130..0x1210).step_by(16).map(|offset| RawFrame { address: offset, place: Some((ObjectId(0), offset)) });
        let named = Symbolizer::default().name(frames, |_| Some(object.clone()));
        assert!(named.len() >= 14);
    }
}

#[test]
fn what_the_process_told_of_its_code_is_its_name() {
    let raw = RawFrame { address: 0x7f00_aa01, place: Some((ObjectId(3), 0x7f00_aa01)) };
    let told = ProfileFrame { raw, jit_function: Some("LazyCompile:~leak a.js:3".into()) };
    let named = Symbolizer::default().name([told, raw.into()], |_| None);
    let jit =
        Frame { function: Some("LazyCompile:~leak a.js:3".into()), module: Some("[JIT]".into()), ..named[1].clone() };
    assert_eq!(named, [jit, Frame { address: raw.address, ..Frame::default() }]);
}
