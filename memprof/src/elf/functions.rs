//! Functions: by their symbols, by the slots through which they are called, and by where they begin.

use std::{collections::HashSet, fs::File};

use object::{
    Object as _, ObjectSection as _, RelocationFlags, RelocationTarget, SectionIndex, elf,
    read::elf::{ProgramHeader as _, SectionHeader as _, Sym as _},
};

use super::{
    ElfError,
    eh_frame::MOST_EH_FRAME_BYTES,
    reader::{Elf, Symbols, read_bounded, with_elf},
};

/// A browser has a million or two, most of which are no slots.
const MOST_RELOCATIONS: usize = 1 << 24;

/// So many symbols of the names that are looked for.
const MOST_FOUND: usize = 1 << 20;

/// No name that is looked for is longer, its version included; a string table without ends must cost nothing.
const MOST_NAME_BYTES: usize = 128;

/// A function that an object defines for others to call.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Function {
    /// Its symbol, without the version.
    pub name: String,
    /// Its address in the object.
    pub address: u64,
    /// Bytes of its code; zero if the symbol does not say.
    pub size: u64,
    /// Whether the symbol is an indirect function (`STT_GNU_IFUNC`): then the address is that of its resolver.
    pub indirect: bool,
    /// Whether only its own object can mean it by this name.
    pub local: bool,
}

/// The functions among `names` that the object defines, from both of its symbol tables, each once.
///
/// What it merely imports is not defined by it, even where a non-PIE executable gives the import the address of its PLT
/// stub. Symbols of local binding are said to be so: `static void free(…)` is somebody's own function. Not so where the
/// same code is also called `__libc_free`: in a static PIE the linker makes glibc's hidden symbols, such as `malloc`, local.
///
/// # Errors
/// Where the file cannot be read as an ELF file.
pub fn defined_functions(file: &File, names: &[&str]) -> Result<Vec<Function>, ElfError> {
    let mut wanted = names.to_vec();
    wanted.sort_unstable();
    with_elf(file, |elf| {
        let mut functions = Vec::new();
        for table in [elf.elf_dynamic_symbol_table(), elf.elf_symbol_table()] {
            add_functions(elf, table, &wanted, &mut functions)?;
        }
        Ok(functions)
    })
}

/// A word of memory into which the dynamic loader writes the address of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Its address in the object.
    pub address: u64,
    /// The function's symbol.
    pub name: String,
    /// The function's address, if the object defines it.
    pub function: Option<u64>,
}

/// The words through which the object calls functions by name: those of `JUMP_SLOT` and `GLOB_DAT` relocations.
///
/// # Errors
/// Where the file cannot be read as an ELF file.
pub fn slots(file: &File) -> Result<Vec<Slot>, ElfError> {
    let of_function = [elf::R_X86_64_JUMP_SLOT, elf::R_X86_64_GLOB_DAT];
    with_elf(file, |elf| {
        let Some(relocations) = elf.dynamic_relocations() else { return Ok(Vec::new()) };
        let table = elf.elf_dynamic_symbol_table();
        let names = symbol_names(elf, table)?;
        let slots = relocations.take(MOST_RELOCATIONS).filter_map(|(address, relocation)| {
            let RelocationFlags::Elf { r_type } = relocation.flags() else { return None };
            let RelocationTarget::Symbol(index) = relocation.target() else { return None };
            let symbol = of_function.contains(&r_type).then(|| table.symbol(index).ok())??;
            let name = String::from_utf8_lossy(name_at(names, symbol.st_name(elf.endian()))?).into_owned();
            let is_here = !symbol.is_undefined(elf.endian()) && symbol.st_type() == elf::STT_FUNC;
            Some(Slot { address, name, function: is_here.then(|| symbol.st_value(elf.endian())) })
        });
        Ok(slots.collect())
    })
}

/// Where functions begin, by the sorted table behind `PT_GNU_EH_FRAME` (LSB, Core, section 10.6.2): addresses in ascending order.
/// Where there is no such table, as in static executables, or it is not as all linkers write it, by the symbols; none if these are
/// missing too.
///
/// # Errors
/// Where the file cannot be read as an ELF file.
pub fn function_starts(file: &File) -> Result<Vec<u64>, ElfError> {
    with_elf(file, |elf| {
        let endian = elf.endian();
        let headers = elf.elf_program_headers();
        let mut starts = Vec::new();
        if let Some(header) = headers.iter().find(|header| header.p_type(endian) == elf::PT_GNU_EH_FRAME) {
            let offset = header.p_offset(endian);
            let end = offset.saturating_add(header.p_filesz(endian));
            let bytes = read_bounded(file, &(offset..end), MOST_EH_FRAME_BYTES)?;
            starts = starts_in(&bytes, header.p_vaddr(endian));
        }
        if starts.is_empty() {
            let symbols = elf.elf_symbol_table().iter();
            let functions = symbols.filter(|symbol| symbol.st_type() == elf::STT_FUNC && !symbol.is_undefined(endian));
            starts = functions.map(|symbol| symbol.st_value(endian)).collect();
            starts.sort_unstable();
        }
        Ok(starts)
    })
}

/// The first column of the table in an `.eh_frame_hdr` that is mapped at `address`.
fn starts_in(header: &[u8], address: u64) -> Vec<u64> {
    /// Four signed bytes relative to the pc; four unsigned ones; four signed ones relative to the header.
    const ENCODINGS: [u8; 3] = [0x1b, 0x03, 0x3b];
    let Some((&[version, encodings @ .., _, _, _, _, c0, c1, c2, c3], table)) = header.split_first_chunk::<12>() else {
        return Vec::new();
    };
    if version != 1 || encodings != ENCODINGS {
        return Vec::new();
    }
    let count = u32::from_le_bytes([c0, c1, c2, c3]) as usize;
    let start = |row: &[u8; 8]| {
        let distance = i32::from_le_bytes([row[0], row[1], row[2], row[3]]);
        address.wrapping_add_signed(distance.into())
    };
    table.as_chunks::<8>().0.iter().take(count).map(start).collect()
}

/// Shows the address of each symbol, whatever its name, kind and binding, in whatever order. (Of symbols of thread-local
/// variables and of files, the value is no address.)
///
/// # Errors
/// Where the file cannot be read as an ELF file.
pub fn symbol_addresses(file: &File, show: impl FnMut(u64)) -> Result<(), ElfError> {
    with_elf(file, |elf| {
        let endian = elf.endian();
        let tables = [elf.elf_dynamic_symbol_table(), elf.elf_symbol_table()];
        let symbols = tables
            .iter()
            .flat_map(|table| table.iter())
            .filter(|symbol| !symbol.is_undefined(endian) && !matches!(symbol.st_type(), elf::STT_TLS | elf::STT_FILE));
        symbols.map(|symbol| symbol.st_value(endian)).for_each(show);
        Ok(())
    })
}

/// Whether the object is glibc's dynamic loader, which alone defines `_rtld_global`. (musl's loader is its libc.)
///
/// # Errors
/// Where the file cannot be read as an ELF file.
pub fn is_glibc_loader(file: &File) -> Result<bool, ElfError> {
    with_elf(file, |elf| {
        let table = elf.elf_dynamic_symbol_table();
        let names = symbol_names(elf, table)?;
        Ok(table.iter().any(|symbol| {
            !symbol.is_undefined(elf.endian())
                && name_at(names, symbol.st_name(elf.endian())) == Some(b"_rtld_global".as_slice())
        }))
    })
}

/// Whether the file names all of its functions: has a symbol table, not just that of what it exports.
///
/// # Errors
/// Where the file cannot be read as an ELF file.
pub fn has_symbol_table(file: &File) -> Result<bool, ElfError> {
    with_elf(file, |elf| Ok(elf.section_by_name(".symtab").is_some_and(|section| section.size() > 0)))
}

/// What glibc's internal names of its allocator functions begin with.
const LIBC_PREFIX: &[u8] = b"__libc_";

fn add_functions<'data>(
    elf: &Elf<'data>,
    table: &Symbols<'data>,
    wanted: &[&str],
    functions: &mut Vec<Function>,
) -> Result<(), ElfError> {
    let names = symbol_names(elf, table)?;
    let endian = elf.endian();
    let mut seen: HashSet<Function> = functions.iter().cloned().collect();
    let (mut local, mut of_libc) = (Vec::new(), HashSet::new());
    for symbol in table.iter().filter(|symbol| !symbol.is_undefined(endian)) {
        let indirect = symbol.st_type() == elf::STT_GNU_IFUNC;
        if !indirect && symbol.st_type() != elf::STT_FUNC {
            continue;
        }
        let Some(symbol_name) = name_at(names, symbol.st_name(endian)) else { continue };
        let (name, is_of_libc) = match symbol_name.strip_prefix(LIBC_PREFIX) {
            Some(name) => (name, true),
            None => (symbol_name, false),
        };
        let Some(name) = find_name(name, wanted) else { continue };
        let (address, size) = (symbol.st_value(endian), symbol.st_size(endian));
        let function = Function { name: name.to_owned(), address, size, indirect, local: false };
        if is_of_libc {
            of_libc.insert(function);
        } else if symbol.is_local() {
            local.push(function);
        } else if seen.insert(function.clone()) {
            functions.push(function);
        }
        if functions.len() + local.len() + of_libc.len() > MOST_FOUND {
            return Err(ElfError::TooMany("functions of the names in question"));
        }
    }
    for function in local {
        let local = !of_libc.contains(&function);
        if seen.insert(function.clone()) {
            functions.push(Function { local, ..function });
        }
    }
    Ok(())
}

/// Which of `wanted`, which are sorted, a symbol is, its version (`@GLIBC_2.2.5`, `@@GLIBC_2.2.5`) left aside.
fn find_name<'a>(symbol: &[u8], wanted: &[&'a str]) -> Option<&'a str> {
    let name = symbol.split(|byte| *byte == b'@').next()?;
    wanted.binary_search_by(|wanted| wanted.as_bytes().cmp(name)).ok().map(|index| wanted[index])
}

/// All names of a symbol table, read at once: one read for each symbol would take seconds on a large program.
fn symbol_names<'data>(elf: &Elf<'data>, table: &Symbols<'data>) -> Result<&'data [u8], ElfError> {
    if table.string_section() == SectionIndex(0) {
        return Ok(&[]);
    }
    let section = elf.elf_section_table().section(table.string_section())?;
    Ok(section.data(elf.endian(), elf.data())?)
}

/// The beginning of the name at `offset`, all of it if it is one of those that are looked for.
fn name_at(names: &[u8], offset: u32) -> Option<&[u8]> {
    let names = names.get(offset as usize..)?;
    names.get(..MOST_NAME_BYTES).unwrap_or(names).split(|byte| *byte == 0).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_no_part_of_a_name() {
        assert_eq!(find_name(b"memalign@@GLIBC_2.2.5", &["malloc", "memalign"]), Some("memalign"));
        assert_eq!(find_name(b"malloc_trim", &["malloc"]), None);
    }
}
