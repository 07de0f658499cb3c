//! How a file is read: by pieces, and not without end.

use std::{cell::Cell, fs::File, io, ops::Range, os::unix::fs::FileExt as _};

use object::{
    Endianness, elf,
    read::{
        ReadCache, ReadCacheOps, ReadRef,
        elf::{ElfFile64, SymbolTable},
    },
};

use super::ElfError;

/// Larger files are read up to here; their end is out of reach.
const MOST_BYTES: u64 = 4 << 30;

/// What one question may read into memory: the symbols of a program of 2 GiB with their names have less.
const MOST_BYTES_READ: u64 = 1 << 30;

pub(super) type Data<'data> = Bounded<'data>;
pub(super) type Elf<'data> = ElfFile64<'data, Endianness, Data<'data>>;
pub(super) type Symbols<'data> = SymbolTable<'data, elf::FileHeader64<Endianness>, Data<'data>>;

pub(super) fn with_elf<T>(file: &File, ask: impl FnOnce(&Elf<'_>) -> Result<T, ElfError>) -> Result<T, ElfError> {
    check_identification(file)?;
    let left = Cell::new(MOST_BYTES_READ);
    let cache = ReadCache::new(Contents { file, position: 0, left: &left });
    let elf = Elf::parse(Bounded { cache: &cache, left: &left })?;
    ask(&elf)
}

/// Checks the class and the machine, which stand at the same places in every ELF file.
pub(super) fn check_identification(file: &File) -> Result<(), ElfError> {
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

/// Reads what the file has of `offsets`, and no more than `most` bytes.
pub(super) fn read_bounded(file: &File, offsets: &Range<u64>, most: u64) -> io::Result<Vec<u8>> {
    let end = offsets.end.min(file.metadata()?.len());
    let length = end.saturating_sub(offsets.start).min(most);
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, offsets.start)?;
    Ok(bytes)
}

fn own_machine() -> u16 {
    if cfg!(target_arch = "aarch64") { elf::EM_AARCH64.0 } else { elf::EM_X86_64.0 }
}

/// The bytes of a file, as the ELF reader is given them. It keeps all that it has read, and what overlaps it reads and keeps
/// several times; so there is an end to it, which is looked at before memory is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounded<'data> {
    cache: &'data ReadCache<Contents<'data>>,
    left: &'data Cell<u64>,
}

impl<'data> ReadRef<'data> for Bounded<'data> {
    fn len(self) -> Result<u64, ()> {
        self.cache.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> Result<&'data [u8], ()> {
        if size > self.left.get() { Err(()) } else { self.cache.read_bytes_at(offset, size) }
    }

    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> Result<&'data [u8], ()> {
        self.cache.read_bytes_at_until(range, delimiter)
    }
}

/// The bytes of a file, read without moving the position that all users of the descriptor share.
#[derive(Debug)]
struct Contents<'file> {
    file: &'file File,
    position: u64,
    /// How many may still be read.
    left: &'file Cell<u64>,
}

impl Contents<'_> {
    fn take(&self, length: usize) -> Result<(), ()> {
        self.left.set(self.left.get().checked_sub(length as u64).ok_or(())?);
        Ok(())
    }
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
        self.take(buffer.len())?;
        let count = self.file.read_at(buffer, self.position).map_err(|_| ())?;
        self.position += count as u64;
        Ok(count)
    }

    fn read_exact(&mut self, buffer: &mut [u8]) -> Result<(), ()> {
        self.take(buffer.len())?;
        self.file.read_exact_at(buffer, self.position).map_err(|_| ())?;
        self.position += buffer.len() as u64;
        Ok(())
    }
}
