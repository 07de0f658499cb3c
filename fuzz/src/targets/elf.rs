//! ELF files: everything that is asked of one.

use memprof::{
    elf,
    unwind::{Code, Table, call_sites_only},
};

pub(super) fn run(data: &[u8]) {
    let file = super::file::of(data);
    let _ = (elf::is_32_bit(&file), elf::build_id(&file), elf::interpreter(&file), elf::is_executable(&file));
    let _ = (elf::is_named_library(&file), elf::has_code(&file), elf::is_glibc_loader(&file));
    let _ = (elf::has_symbol_table(&file), elf::has_debug_information(&file), elf::debug_link(&file));
    let _ = (elf::original_segments(&file), elf::slots(&file), elf::function_starts(&file));
    let _ = elf::defined_functions(&file, &["malloc", "free", "realloc", "_start", "main"]);
    let _ = elf::symbol_addresses(&file, |_| {});
    if elf::names_files(&file) {
        let copy = elf::without_names_of_files(&file).expect("a small file");
        assert!(elf::debug_link(&copy).ok().flatten().is_none());
    }
    let segments = elf::segments(&file).unwrap_or_default();
    let _ = elf::pieces(&file, &segments, 5, |_, _, _| {});
    let Ok(Some(eh_frame)) = elf::eh_frame(&file) else { return };
    let Ok(table) = Table::new(&eh_frame, &segments) else { return };
    let code = elf::code(&file, &segments).unwrap_or_default();
    let code: Vec<_> =
        code.iter().map(|(segment, bytes)| Code { offset_in_file: segment.offsets.start as u32, bytes }).collect();
    call_sites_only(&table.rows, &code);
}
