//! Objects and plans of real programs: what is mapped, what is found in it.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

mod common;

use std::{
    collections::BTreeMap,
    fs::{self, File},
    path::Path,
    sync::Arc,
};

use common::{Running, Seen, real, run, write};
use memprof::{
    elf,
    model::{AttachPlan, ObjectKind, Timestamp},
    plan::{Functions, plan},
    target::{
        AddressSpace, ObjectTable, Process, TargetError,
        launch::{Surroundings, objects_of},
    },
};

const WAITS: &str = r#"
#include <stdio.h>
int main(void) {
  printf("\n");
  fflush(stdout);
  while (getchar() != EOF) {}
}
"#;

fn launched(program: &Path) -> (ObjectTable, AttachPlan) {
    let mut table = ObjectTable::new();
    let ids = objects_of(program, &Surroundings::own().unwrap(), &mut table).unwrap();
    let objects: Vec<_> = ids.iter().map(|id| Arc::clone(table.get(*id).unwrap())).collect();
    (table, plan(&objects, &Functions::default()))
}

/// Functions of libc by name, as `nm` has them. The offsets of its code equal its addresses.
fn nm(directory: &Path, library: &Path) -> BTreeMap<String, u64> {
    let listing = run(directory, &format!("nm -D --defined-only {}", library.display()));
    let symbols = listing.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let address = u64::from_str_radix(words.next()?, 16).ok()?;
        let name = words.nth(1)?.split('@').next()?;
        Some((name.to_owned(), address))
    });
    symbols.collect()
}

#[test]
fn the_plan_of_libc_is_what_nm_lists() {
    let (_table, plan) = launched(Path::new("/bin/true"));
    let libc = plan.searched.iter().find(|searched| searched.path.ends_with("libc.so.6")).unwrap();
    let listed = nm(Path::new("/"), &libc.path);
    assert_eq!(libc.outcome, Ok(plan.sites.len()));
    let mut planned = BTreeMap::new();
    for site in &plan.sites {
        assert_eq!(site.object, libc.object);
        assert!(site.segment.contains(&site.offset_in_file));
        for name in site.aliases.iter().chain([&site.function.name]) {
            planned.insert((*name).to_owned(), site.entry_in_file);
        }
    }
    let expected: BTreeMap<_, _> =
        listed.into_iter().filter(|(name, _)| memprof::plan::FUNCTIONS.iter().any(|one| one.name == name)).collect();
    assert!(expected.contains_key("malloc") && expected.contains_key("free"));
    assert_eq!(planned, expected);
    let mut offsets: Vec<_> = plan.sites.iter().map(|site| site.entry_in_file).collect();
    offsets.dedup();
    assert_eq!(offsets.len(), plan.sites.len(), "one site for each offset");
}

#[test]
fn names_of_one_address_are_one_site() {
    let directory = tempfile::tempdir().unwrap();
    let source = "#include <stddef.h>\n\
        void *aligned_alloc(size_t a, size_t n) { return (void *)(a + n); }\n\
        void *memalign(size_t a, size_t n) __attribute__((alias(\"aligned_alloc\")));\n\
        static void free(void *p) { *(int *)p = 0; }\n\
        void use(void *p) { free(p); }\n\
        int main(void) { return 0; }\n";
    write(directory.path(), "a.c", source);
    run(directory.path(), "gcc -O0 -fno-builtin a.c -o a");
    let (table, plan) = launched(&directory.path().join("a"));
    let own = table.iter().next().unwrap();
    let sites: Vec<_> = plan.sites.iter().filter(|site| site.object == own.id).collect();
    assert_eq!(sites.len(), 1, "a static function is nobody's allocator");
    assert_eq!(sites[0].function.name, "aligned_alloc");
    assert_eq!(sites[0].aliases, ["memalign"]);
}

#[test]
fn imports_are_no_definitions_even_with_an_address() {
    let directory = tempfile::tempdir().unwrap();
    let source = "#include <stdlib.h>\nvoid *(*volatile f)(size_t) = malloc;\nint main(void) { return f(1) == 0; }\n";
    write(directory.path(), "a.c", source);
    run(directory.path(), "gcc -no-pie -fno-pie a.c -o a");
    let (table, plan) = launched(&directory.path().join("a"));
    assert!(plan.searched.iter().any(|searched| searched.path.ends_with("libc.so.6") && searched.outcome != Ok(0)));
    assert_eq!(plan.searched[0].path, table.iter().next().unwrap().path);
    assert_eq!(plan.searched[0].outcome, Ok(0));
}

#[test]
fn a_static_executable_is_its_own_allocator() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "a.c", "#include <stdlib.h>\nint main(void) { free(malloc(1)); }\n");
    run(directory.path(), "gcc -static a.c -o a");
    let (table, plan) = launched(&directory.path().join("a"));
    assert_eq!(table.iter().count(), 1);
    let listed = run(directory.path(), "nm a");
    let address = |name: &str| {
        let line = listed.lines().find(|line| line.ends_with(&format!(" {name}"))).unwrap();
        u64::from_str_radix(line.split(' ').next().unwrap(), 16).unwrap()
    };
    for name in ["malloc", "free", "realloc"] {
        let site = plan.sites.iter().find(|site| site.function.name == name).unwrap();
        assert_eq!(site.entry_in_file, address(name) - 0x40_0000, "{name}");
    }
}

#[test]
fn indirect_functions_and_old_loaders_are_left_out_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let indirect = "static void *f(unsigned long n) { return (void *)n; }\n\
        static void *(*pick(void))(unsigned long) { return f; }\n\
        void *malloc(unsigned long) __attribute__((ifunc(\"pick\")));\n";
    write(directory.path(), "i.c", indirect);
    run(directory.path(), "gcc -fno-builtin -shared -fPIC i.c -o i.so");
    let loader = "int _rtld_global; void *malloc(unsigned long n) { return (void *)n; }\n";
    write(directory.path(), "l.c", loader);
    run(directory.path(), "gcc -fno-builtin -shared -fPIC l.c -o l.so");
    write(directory.path(), "a.c", "int main(void) { return 0; }\n");
    run(directory.path(), "gcc -Wl,--no-as-needed a.c ./i.so ./l.so -o a");
    let mut table = ObjectTable::new();
    let surroundings = Surroundings { directory: directory.path().into(), ..Surroundings::own().unwrap() };
    objects_of(Path::new("./a"), &surroundings, &mut table).unwrap();
    let shown = plan(table.iter(), &Functions::default()).to_string();
    assert!(shown.contains("i.so: left out: malloc is an indirect function"), "{shown}");
    assert!(shown.contains("l.so: left out: the dynamic loader's own allocator"), "{shown}");
}

#[test]
fn the_objects_of_a_command_are_those_that_it_maps_then() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "a.c", WAITS);
    run(directory.path(), "gcc a.c -o a -lm -Wl,--no-as-needed");
    let program = directory.path().join("a");
    let (mut table, plan) = launched(&program);
    let before = table.iter().count();
    let running = Running::start(&program);
    let space = AddressSpace::read(running.pid(), Timestamp(0), &mut table).unwrap();
    let files = table.iter().filter(|object| object.kind == ObjectKind::File).count();
    assert_eq!(files, before, "nothing more was mapped: {table:?}");
    assert!(plan.sites.iter().all(|site| space.objects().contains(&site.object)));
    assert!(table.take_warnings().is_empty());
}

#[test]
fn a_program_behind_a_symbolic_link_has_its_libraries() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "b.c", "int b(void) { return 0; }");
    write(directory.path(), "bin/a.c", "int b(void);\nint main(void) { return b(); }");
    run(directory.path(), "gcc -shared -fPIC b.c -o libb.so");
    run(directory.path(), "gcc bin/a.c -o bin/a -L. -lb -Wl,-rpath,$ORIGIN/..");
    std::os::unix::fs::symlink("bin/a", directory.path().join("link")).unwrap();
    let (table, plan) = launched(&directory.path().join("link"));
    assert!(table.iter().any(|object| object.path.ends_with("libb.so")), "{table:?}");
    assert!(!plan.sites.is_empty());
}

#[test]
fn preloaded_libraries_count() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "p.c", "void free(void *p) { (void)p; }\n");
    run(directory.path(), "gcc -shared -fPIC -fno-builtin p.c -o p.so");
    let preload = directory.path().join("p.so");
    let environment = vec![("LD_PRELOAD".into(), preload.clone().into()), ("PATH".into(), "/bin".into())];
    let surroundings = Surroundings { environment, directory: "/".into() };
    let mut table = ObjectTable::new();
    objects_of(Path::new("true"), &surroundings, &mut table).unwrap();
    assert!(table.iter().any(|object| object.path == real(&preload)));
}

#[test]
fn a_deleted_program_is_still_read() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), "a.c", WAITS);
    run(directory.path(), "gcc a.c -o a -Wl,--build-id=0x0123456789abcdef");
    let program = real(directory.path().join("a"));
    let running = Running::start(&program);
    fs::remove_file(&program).unwrap();
    write(directory.path(), "a", "another file of that name");
    let seen = Seen::of(running.pid());
    let object = seen.object_named(&program);
    assert_eq!(object.build_id.as_ref().unwrap().to_string(), "0123456789abcdef");
    assert_eq!(Process::find(running.pid()).unwrap().command, "a");
}

/// Starts a program in a mount namespace of its own, after some mounts. `None` without the privilege.
fn in_own_namespace(directory: &Path, mounts: &str) -> Option<Running> {
    let script = format!("#!/bin/sh\ncd {0} && {mounts} && exec {0}/mounted/a\n", directory.display());
    write(directory, "script", &script);
    write(directory, "start", &format!("#!/bin/sh\nexec unshare --mount sh {}/script\n", directory.display()));
    run(directory, "chmod +x start");
    let permitted = std::process::Command::new("unshare").args(["--mount", "true"]).status().unwrap().success();
    permitted.then(|| Running::start(directory.join("start")))
}

#[test]
fn files_of_another_mount_namespace_are_read() {
    for mounts in [
        "mount -t tmpfs none mounted && cp a mounted",
        "mount -t tmpfs none top && mkdir top/up top/work && cp a mounted/a && \
         mount -t overlay none -o lowerdir=mounted,upperdir=top/up,workdir=top/work mounted",
    ] {
        let directory = tempfile::tempdir().unwrap();
        write(directory.path(), "a.c", WAITS);
        run(directory.path(), "gcc a.c -o a -Wl,--build-id=0x0123456789abcdef");
        run(directory.path(), "mkdir mounted top");
        let Some(running) = in_own_namespace(directory.path(), mounts) else { return };
        let mut seen = Seen::of(running.pid());
        // By the name alone: of a file in an overlay on another overlay the kernel does not know the whole path.
        let object = Arc::clone(seen.table.iter().find(|object| object.path.ends_with("a")).unwrap());
        assert_eq!(object.build_id.as_ref().unwrap().to_string(), "0123456789abcdef", "{mounts}");
        assert!(seen.table.take_warnings().is_empty());
    }
}

#[test]
fn a_process_whose_first_thread_has_exited_is_read_through_another() {
    let directory = tempfile::tempdir().unwrap();
    let source = "#include <pthread.h>\n#include <stdio.h>\n\
        static void *wait(void *p) { printf(\"\\n\"); fflush(stdout); while (getchar() != EOF) {} return p; }\n\
        int main(void) { pthread_t t; pthread_create(&t, 0, wait, 0); pthread_exit(0); }\n";
    write(directory.path(), "a.c", source);
    run(directory.path(), "gcc -pthread a.c -o a");
    let program = real(directory.path().join("a"));
    let running = Running::start(&program);
    let process = (0..1000)
        .map(|_| {
            std::thread::sleep(std::time::Duration::from_millis(1));
            Process::find(running.pid()).unwrap()
        })
        .find(|process| process.thread != process.pid)
        .unwrap();
    let seen = Seen::of(process.thread);
    assert!(seen.object_named(&program).file.is_some());
}

#[test]
fn a_32_bit_process_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    // The smallest one: pause() for ever. int 0x80 with eax = 29.
    let mut image = vec![0_u8; 0x60];
    let header: [(usize, &[u8]); 14] = [
        (0, b"\x7fELF\x01\x01\x01"),
        (0x10, &[2, 0, 3, 0, 1]),
        (0x18, &0x0804_8054_u32.to_le_bytes()),
        (0x1c, &[0x34]),
        (0x28, &[0x34, 0, 0x20, 0, 1]),
        (0x34, &[1]),
        (0x38, &[0]),
        (0x3c, &0x0804_8000_u32.to_le_bytes()),
        (0x40, &0x0804_8000_u32.to_le_bytes()),
        (0x44, &[0x60]),
        (0x48, &[0x60]),
        (0x4c, &[5]),
        (0x50, &0x1000_u32.to_le_bytes()),
        (0x54, b"\xb8\x1d\x00\x00\x00\xcd\x80\xeb\xf7"),
    ];
    header.iter().for_each(|(offset, bytes)| image[*offset..offset + bytes.len()].copy_from_slice(bytes));
    let program = directory.path().join("a");
    fs::write(&program, image).unwrap();
    run(directory.path(), "chmod +x a");
    let Ok(mut child) = std::process::Command::new(&program).spawn() else {
        return; // This kernel runs no 32-bit programs.
    };
    let found = Process::find(child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(found, Err(TargetError::ThirtyTwoBit(_))), "{found:?}");
}

/// What `objcopy --only-keep-debug` makes has lost where segments were in the file. It follows from the rest.
#[test]
fn segments_of_the_object_are_found_by_its_debug_file() {
    let folder = tempfile::tempdir().unwrap();
    write(
        folder.path(),
        "program.c",
        "int data[5000] = {1}; int none[9000]; int main(void) { return data[1] + none[2]; }",
    );
    let layouts = [
        "",
        "-no-pie",
        "-static",
        "-Wl,-z,noseparate-code",
        "-Wl,-z,max-page-size=0x200000",
        "-Wl,-z,noseparate-code,-z,max-page-size=0x200000",
        "-fuse-ld=gold",
        "-shared -fPIC",
    ];
    for layout in layouts {
        run(folder.path(), &format!("gcc -g {layout} program.c -o program"));
        run(folder.path(), "objcopy --only-keep-debug program program.debug");
        let [object, debug] = ["program", "program.debug"].map(|name| File::open(folder.path().join(name)).unwrap());
        let place = |segment: &elf::Segment| (segment.offsets.start, segment.address, segment.executable);
        let of = |segments: Vec<elf::Segment>| segments.iter().map(place).collect::<Vec<_>>();
        let original = of(elf::segments(&object).unwrap());
        assert_eq!([&object, &debug].map(|file| elf::has_code(file).unwrap()), [true, false], "{layout}");
        assert_eq!(of(elf::original_segments(&debug).unwrap()), original, "{layout}");
        assert_eq!(of(elf::original_segments(&object).unwrap()), original, "{layout}");
    }
}
