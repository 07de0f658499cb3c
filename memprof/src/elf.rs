//! What the stages ask of an ELF file, and the only user of the ELF reader: plain data out, nothing borrowed.
//!
//! Files are read, not mapped: a file that its owner truncates meanwhile gives an error here, not a `SIGBUS`.
//! Everything in them is taken for hostile: sizes are checked against the file's before memory is asked for.

use std::{
    ffi::OsString,
    fs::File,
    io,
    ops::{Range, RangeInclusive},
    os::unix::{ffi::OsStringExt as _, fs::FileExt as _},
    path::PathBuf,
};

use object::{
    Endianness, Object as _, ObjectSection as _, RelocationFlags, RelocationTarget, SectionIndex, elf,
    read::{
        ReadCache, ReadCacheOps,
        elf::{ElfFile64, FileHeader as _, ProgramHeader as _, SectionHeader as _, Sym as _, SymbolTable},
    },
};

use crate::model::BuildId;

/// Larger files are read up to here; their end is out of reach.
const MOST_BYTES: u64 = 4 << 30;

/// Build ids are 16 or 20 bytes; a linker may be told to write others, within reason.
const MOST_BUILD_ID_BYTES: usize = 64;

/// No name that is looked for is longer, its version included; a string table without ends must cost nothing.
const MOST_NAME_BYTES: usize = 128;

/// The `.eh_frame` of a program of 2 GiB has some 100 MB.
const MOST_EH_FRAME_BYTES: u64 = 256 << 20;

/// Code that is only searched is read by such pieces.
const PIECE_BYTES: usize = 1 << 20;

/// No larger code is decoded.
const MOST_CODE_BYTES: u64 = 1 << 30;

/// Why a file could not be read as an ELF file.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    /// It is something else.
    #[error("not an ELF file")]
    NotElf,
    /// It is for a 32-bit process.
    #[error("a 32-bit ELF file, which memprof does not support")]
    ThirtyTwoBit,
    /// It is for another processor.
    #[error("an ELF file for another processor")]
    OtherProcessor,
    /// It contradicts itself, or ends early.
    #[error("a malformed ELF file: {0}")]
    Malformed(#[from] object::Error),
    /// It could not be read.
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
}

/// A loadable segment: where bytes of the file lie in the object's own addresses (as in its symbol table).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Offsets in the file.
    pub offsets: Range<u64>,
    /// Address of the first byte.
    pub address: u64,
    /// Whether code runs from it.
    pub executable: bool,
}

impl Segment {
    /// Offset in the file of the byte at `address`, if it is in this segment.
    pub fn offset_of(&self, address: u64) -> Option<u64> {
        let distance = address.checked_sub(self.address)?;
        (distance < self.offsets.end - self.offsets.start).then(|| self.offsets.start + distance)
    }

    /// Address of the byte at `offset` in the file, if it is in this segment.
    pub fn address_of(&self, offset: u64) -> Option<u64> {
        self.offsets.contains(&offset).then(|| self.address.wrapping_add(offset - self.offsets.start))
    }
}

/// A function that an object defines for others to call.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// A `.gnu_debuglink`: the name of the file that holds the debug information.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DebugLink {
    /// Its name, without a directory.
    pub name: OsString,
    /// CRC-32 of its content.
    pub checksum: u32,
}

/// Whether the file begins as a 32-bit ELF file does. Anything that cannot be read does not.
pub fn is_32_bit(file: &File) -> bool {
    matches!(check_identification(file), Err(ElfError::ThirtyTwoBit))
}

/// The build id; `None` if there is none, or it is of no sensible length, or the file is no readable ELF file.
pub fn build_id(file: &File) -> Option<BuildId> {
    with_elf(file, |elf| {
        let id = elf.build_id()?.filter(|id| !id.is_empty() && id.len() <= MOST_BUILD_ID_BYTES);
        Ok(id.map(|id| BuildId(id.into())))
    })
    .ok()?
}

/// The program interpreter (dynamic loader) that an executable asks for; `None` for a static one, or a library.
///
/// # Errors
/// Where the file cannot be read as an ELF file.
pub fn interpreter(file: &File) -> Result<Option<PathBuf>, ElfError> {
    with_elf(file, |elf| {
        for header in elf.elf_program_headers() {
            if let Some(path) = header.interpreter(elf.endian(), elf.data())? {
                return Ok(Some(OsString::from_vec(path.to_vec()).into()));
            }
        }
        Ok(None)
    })
}

/// Whether the file is a program, and no library: it has fixed addresses, asks for a loader, or says that it is a static PIE.
///
/// # Errors
/// Where the file cannot be read as an ELF file.
pub fn is_executable(file: &File) -> Result<bool, ElfError> {
    with_elf(file, |elf| {
        let endian = elf.endian();
        let headers = elf.elf_program_headers();
        let has_loader = headers.iter().any(|header| header.p_type(endian) == elf::PT_INTERP);
        let mut is_pie = false;
        for header in headers {
            let entries = header.dynamic(endian, elf.data())?.unwrap_or_default();
            is_pie |= entries.iter().any(|entry| {
                entry.d_tag.get(endian) == elf::DT_FLAGS_1 && entry.d_val.get(endian) & elf::DF_1_PIE.0 != 0
            });
        }
        Ok(has_loader || is_pie || elf.elf_header().e_type(endian) == elf::ET_EXEC)
    })
}

/// The loadable segments, those without bytes in the file left out.
///
/// # Errors
/// Where the file cannot be read as an ELF file.
pub fn segments(file: &File) -> Result<Vec<Segment>, ElfError> {
    with_elf(file, |elf| {
        let endian = elf.endian();
        let headers = elf.elf_program_headers().iter().filter(|header| header.p_type(endian) == elf::PT_LOAD);
        Ok(headers
            .filter_map(|header| {
                let offset = header.p_offset(endian);
                Some(Segment {
                    offsets: offset..offset.checked_add(header.p_filesz(endian))?,
                    address: header.p_vaddr(endian),
                    executable: header.p_flags(endian).contains(elf::PF_X),
                })
            })
            .collect())
    })
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
        let slots = relocations.filter_map(|(address, relocation)| {
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

/// The addresses among `ranges` at which a symbol of any name, kind and binding begins, in whatever order. (Of symbols of
/// thread-local variables and of files, the value is no address.)
///
/// # Errors
/// Where the file cannot be read as an ELF file.
pub fn symbols_within(file: &File, ranges: &[RangeInclusive<u64>]) -> Result<Vec<u64>, ElfError> {
    with_elf(file, |elf| {
        let endian = elf.endian();
        let tables = [elf.elf_dynamic_symbol_table(), elf.elf_symbol_table()];
        let symbols = tables
            .iter()
            .flat_map(|table| table.iter())
            .filter(|symbol| !symbol.is_undefined(endian) && !matches!(symbol.st_type(), elf::STT_TLS | elf::STT_FILE));
        let addresses = symbols.map(|symbol| symbol.st_value(endian));
        Ok(addresses.filter(|address| ranges.iter().any(|range| range.contains(address))).collect())
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

/// Whether the file itself holds debug information (line tables).
///
/// # Errors
/// Where the file cannot be read as an ELF file.
pub fn has_debug_information(file: &File) -> Result<bool, ElfError> {
    with_elf(file, |elf| {
        let names = [".debug_line", ".zdebug_line"];
        Ok(names.iter().filter_map(|name| elf.section_by_name(name)).any(|section| section.size() > 0))
    })
}

/// The separate file that holds the debug information, if the file names one. A name with a directory is none.
///
/// # Errors
/// Where the file cannot be read as an ELF file.
pub fn debug_link(file: &File) -> Result<Option<DebugLink>, ElfError> {
    with_elf(file, |elf| {
        let link = elf.gnu_debuglink()?;
        Ok(link
            .filter(|(name, _)| !name.is_empty() && !name.contains(&b'/') && *name != b"..")
            .map(|(name, checksum)| DebugLink { name: OsString::from_vec(name.to_vec()), checksum }))
    })
}

/// The call frame information that is there for exceptions, and so in stripped files too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EhFrame {
    /// Address of the first byte.
    pub address: u64,
    /// The section's content; where no section header tells its end, more may follow, after the terminator.
    pub bytes: Vec<u8>,
    /// Address of `.text`, to which pointers may be relative; unknown in files without section headers.
    pub text_address: Option<u64>,
    /// Address of the global offset table, to which pointers may be relative.
    pub got_address: Option<u64>,
}

/// The call frame information, found by its section header or else by the program header `PT_GNU_EH_FRAME`; `None` where
/// there is none, or none of sensible size.
///
/// # Errors
/// Where the file cannot be read as an ELF file.
pub fn eh_frame(file: &File) -> Result<Option<EhFrame>, ElfError> {
    with_elf(file, |elf| {
        let address_of = |name| elf.section_by_name(name).map(|section| section.address());
        let found = match eh_frame_by_section(elf)? {
            Some(found) => Some(found),
            None => eh_frame_by_header(elf, file)?,
        };
        Ok(found.map(|(address, bytes)| EhFrame {
            address,
            bytes,
            text_address: address_of(".text"),
            got_address: address_of(".got.plt").or_else(|| address_of(".got")),
        }))
    })
}

/// The bytes of an executable segment, from its first one on; the end of what is larger than any real code is left out.
///
/// # Errors
/// Where the file cannot be read.
pub fn code(file: &File, segment: &Segment) -> Result<Vec<u8>, ElfError> {
    Ok(read_bounded(file, &segment.offsets, MOST_CODE_BYTES)?)
}

/// Bytes of the file, all of them or none.
///
/// # Errors
/// Where the file cannot be read, or ends before.
pub fn bytes(file: &File, offset: u64, length: usize) -> Result<Vec<u8>, ElfError> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}

/// Shows a segment's bytes piece by piece, each with the offset in the file of its first byte. A piece begins with the last
/// `overlap` bytes of the one before, so that whatever is not longer than one more than that is whole in some piece.
///
/// # Errors
/// Where the file cannot be read.
pub fn pieces(
    file: &File,
    segment: &Segment,
    overlap: usize,
    mut show: impl FnMut(u64, &[u8]),
) -> Result<(), ElfError> {
    let end = segment.offsets.end.min(file.metadata()?.len());
    let mut piece = vec![0; PIECE_BYTES + overlap];
    let mut start = segment.offsets.start;
    while start < end {
        let length = piece.len().min((end - start) as usize);
        file.read_exact_at(&mut piece[..length], start)?;
        show(start, &piece[..length]);
        start += PIECE_BYTES as u64;
    }
    Ok(())
}

type Data<'data> = &'data ReadCache<Contents<'data>>;
type Elf<'data> = ElfFile64<'data, Endianness, Data<'data>>;
type Symbols<'data> = SymbolTable<'data, elf::FileHeader64<Endianness>, Data<'data>>;

fn with_elf<T>(file: &File, ask: impl FnOnce(&Elf<'_>) -> Result<T, ElfError>) -> Result<T, ElfError> {
    check_identification(file)?;
    let cache = ReadCache::new(Contents { file, position: 0 });
    let elf = Elf::parse(&cache)?;
    ask(&elf)
}

/// Checks the class and the machine, which stand at the same places in every ELF file.
fn check_identification(file: &File) -> Result<(), ElfError> {
    let mut start = [0; 20];
    let length = file.read_at(&mut start, 0)?;
    if length < start.len() || !start.starts_with(&elf::ELFMAG) {
        return Err(ElfError::NotElf);
    }
    if start[4] == elf::ELFCLASS32.0 {
        return Err(ElfError::ThirtyTwoBit);
    }
    let machine = u16::from_le_bytes([start[18], start[19]]);
    if machine == own_machine() { Ok(()) } else { Err(ElfError::OtherProcessor) }
}

fn eh_frame_by_section(elf: &Elf<'_>) -> Result<Option<(u64, Vec<u8>)>, ElfError> {
    let Some(section) = elf.section_by_name(".eh_frame") else { return Ok(None) };
    let has_bytes = section.elf_section_header().sh_type(elf.endian()) != elf::SHT_NOBITS;
    if !has_bytes || section.address() == 0 || section.size() == 0 || section.size() > MOST_EH_FRAME_BYTES {
        return Ok(None);
    }
    Ok(Some((section.address(), section.data()?.to_vec())))
}

/// Follows `PT_GNU_EH_FRAME` (LSB, Core, section 10.6.2) to the `.eh_frame`, whose end is not told: all of its segment's
/// bytes from there on.
fn eh_frame_by_header(elf: &Elf<'_>, file: &File) -> Result<Option<(u64, Vec<u8>)>, ElfError> {
    let endian = elf.endian();
    let headers = elf.elf_program_headers();
    let Some(header) = headers.iter().find(|header| header.p_type(endian) == elf::PT_GNU_EH_FRAME) else {
        return Ok(None);
    };
    let mut start = [0; 12];
    if file.read_at(&mut start, header.p_offset(endian))? < start.len() {
        return Ok(None);
    }
    let Some(address) = eh_frame_pointer(start, header.p_vaddr(endian)) else { return Ok(None) };
    let loads = headers.iter().filter(|header| header.p_type(endian) == elf::PT_LOAD);
    let mut offsets = loads.filter_map(|load| {
        let distance = address.checked_sub(load.p_vaddr(endian))?;
        let offset = load.p_offset(endian);
        (distance < load.p_filesz(endian))
            .then_some(offset.checked_add(distance)?..offset.checked_add(load.p_filesz(endian))?)
    });
    match offsets.next() {
        Some(offsets) => Ok(Some((address, read_bounded(file, &offsets, MOST_EH_FRAME_BYTES)?))),
        None => Ok(None),
    }
}

/// The pointer to `.eh_frame` in an `.eh_frame_hdr` that begins with these bytes at `address`. All linkers write it as
/// four or eight signed bytes relative to itself; other encodings, and other versions, are `None`.
fn eh_frame_pointer(start: [u8; 12], address: u64) -> Option<u64> {
    const PC_RELATIVE_4: u8 = 0x1b;
    const PC_RELATIVE_8: u8 = 0x1c;
    let [1, encoding, _, _, pointer @ ..] = start else { return None };
    let distance = match encoding {
        PC_RELATIVE_4 => i64::from(i32::from_le_bytes([pointer[0], pointer[1], pointer[2], pointer[3]])),
        PC_RELATIVE_8 => i64::from_le_bytes(pointer),
        _ => return None,
    };
    Some(address.wrapping_add(4).wrapping_add_signed(distance))
}

/// Reads what the file has of `offsets`, and no more than `most` bytes.
fn read_bounded(file: &File, offsets: &Range<u64>, most: u64) -> io::Result<Vec<u8>> {
    let end = offsets.end.min(file.metadata()?.len());
    let length = end.saturating_sub(offsets.start).min(most);
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, offsets.start)?;
    Ok(bytes)
}

fn own_machine() -> u16 {
    if cfg!(target_arch = "aarch64") { elf::EM_AARCH64.0 } else { elf::EM_X86_64.0 }
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
    let (mut local, mut of_libc) = (Vec::new(), Vec::new());
    for symbol in table.iter().filter(|symbol| !symbol.is_undefined(endian)) {
        let indirect = symbol.st_type() == elf::STT_GNU_IFUNC;
        if !indirect && symbol.st_type() != elf::STT_FUNC {
            continue;
        }
        let Some(symbol_name) = name_at(names, symbol.st_name(endian)) else { continue };
        let (name, list) = match symbol_name.strip_prefix(LIBC_PREFIX) {
            Some(name) => (name, &mut of_libc),
            None if symbol.is_local() => (symbol_name, &mut local),
            None => (symbol_name, &mut *functions),
        };
        let Some(name) = find_name(name, wanted) else { continue };
        let (address, size) = (symbol.st_value(endian), symbol.st_size(endian));
        let function = Function { name: name.to_owned(), address, size, indirect, local: false };
        if !list.contains(&function) {
            list.push(function);
        }
    }
    for function in local {
        let local = !of_libc.contains(&function);
        if !functions.contains(&function) {
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

/// The bytes of a file, read without moving the position that all users of the descriptor share.
struct Contents<'file> {
    file: &'file File,
    position: u64,
}

impl ReadCacheOps for Contents<'_> {
    fn len(&mut self) -> Result<u64, ()> {
        Ok(self.file.metadata().map_err(|_| ())?.len().min(MOST_BYTES))
    }

    fn seek(&mut self, position: u64) -> Result<u64, ()> {
        self.position = position;
        Ok(position)
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ()> {
        let count = self.file.read_at(buffer, self.position).map_err(|_| ())?;
        self.position += count as u64;
        Ok(count)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), ()> {
        self.file.read_exact_at(buffer, self.position).map_err(|_| ())?;
        self.position += buffer.len() as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use std::io::Write as _;

    use super::*;

    fn file_of(content: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(content).unwrap();
        file
    }

    #[test]
    fn what_is_no_elf_file_is_said_to_be_none() {
        for content in [b"".as_slice(), b"\x7fELF", b"#!/bin/sh\necho a script\n", &[0; 4096]] {
            assert!(matches!(segments(&file_of(content)), Err(ElfError::NotElf)));
            assert_eq!(build_id(&file_of(content)), None);
        }
    }

    #[test]
    fn a_32_bit_file_is_recognised_by_its_class() {
        let mut header = [0; 64];
        header[..5].copy_from_slice(b"\x7fELF\x01");
        assert!(is_32_bit(&file_of(&header)));
        assert!(!is_32_bit(&File::open("/proc/self/exe").unwrap()));
    }

    #[test]
    fn this_program_is_a_dynamic_executable_with_code() {
        let file = File::open("/proc/self/exe").unwrap();
        assert!(interpreter(&file).unwrap().unwrap().is_absolute());
        assert_eq!(segments(&file).unwrap().iter().filter(|segment| segment.executable).count(), 1);
    }

    #[test]
    fn every_truncation_of_a_program_is_an_error_or_an_answer() {
        let whole = std::fs::read("/bin/true").unwrap();
        for length in (0..whole.len()).step_by(97) {
            let file = file_of(&whole[..length]);
            let _ = (segments(&file), interpreter(&file), build_id(&file), debug_link(&file));
            let _ = (defined_functions(&file, &["malloc"]), is_glibc_loader(&file), has_debug_information(&file));
            let _ = eh_frame(&file);
        }
    }

    #[test]
    fn offsets_and_addresses_convert_within_the_segment_only() {
        let segment = Segment { offsets: 0x1000..0x2000, address: 0x40_1000, executable: true };
        assert_eq!(segment.offset_of(0x40_1234), Some(0x1234));
        assert_eq!(segment.offset_of(0x40_2000), None);
        assert_eq!(segment.offset_of(0x40_0fff), None);
        assert_eq!(segment.address_of(0x1234), Some(0x40_1234));
        assert_eq!(segment.address_of(0x2000), None);
    }

    #[test]
    fn the_header_points_to_the_section_relative_to_itself() {
        let pointer = |start| eh_frame_pointer(start, 0x1000);
        assert_eq!(pointer([1, 0x1b, 3, 0x3b, 0xfc, 0xff, 0xff, 0xff, 9, 9, 9, 9]), Some(0x1000));
        assert_eq!(pointer([1, 0x1c, 3, 0x3b, 0x10, 0, 0, 0, 1, 0, 0, 0]), Some(0x1_0000_1014));
        assert_eq!(pointer([1, 0xff, 3, 0x3b, 0, 0, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(pointer([2, 0x1b, 3, 0x3b, 0, 0, 0, 0, 0, 0, 0, 0]), None);
    }

    #[test]
    fn versions_are_no_part_of_a_name() {
        assert_eq!(find_name(b"memalign@@GLIBC_2.2.5", &["malloc", "memalign"]), Some("memalign"));
        assert_eq!(find_name(b"malloc_trim", &["malloc"]), None);
    }
}
