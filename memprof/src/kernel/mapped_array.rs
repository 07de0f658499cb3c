//! BPF arrays that are mapped into this process (`BPF_F_MMAPABLE`): written with plain stores, seen by the programs at
//! once, a million entries in a millisecond.

use std::{
    os::fd::{AsFd as _, BorrowedFd},
    ptr::NonNull,
    sync::atomic::AtomicU64,
};

use aya::maps::MapData;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

use super::KernelError;

/// An array with elements `T`, which must be as large as a multiple of eight bytes.
pub(super) struct MappedArray<T> {
    start: NonNull<T>,
    entries: usize,
    // The mapping keeps the map alive, and this its descriptor open for those who ask for it.
    _map: MapData,
}

impl<T: Copy> MappedArray<T> {
    const ELEMENT_IS_WORDS: () = assert!(size_of::<T>().is_multiple_of(8));

    /// Maps all of `map`, which has `entries` elements.
    pub(super) fn new(map: MapData, entries: usize) -> Result<Self, KernelError> {
        let () = Self::ELEMENT_IS_WORDS;
        let start = map_shared(map.fd().as_fd(), Self::bytes(entries))
            .map_err(|error| KernelError::Call { call: "mmap of a BPF array", source: error.into() })?;
        Ok(Self { start: start.cast(), entries, _map: map })
    }

    /// Number of elements.
    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    /// Reads an element; the programs may write to it at the same time.
    pub(super) fn read(&self, index: usize) -> T {
        assert!(index < self.entries);
        // SAFETY: within the mapping, which lives as long as `self`.
        unsafe { self.start.add(index).read_volatile() }
    }

    /// A word of an element, `offset` bytes into it, that both sides read and write.
    pub(super) fn word(&self, index: usize, offset: usize) -> &AtomicU64 {
        assert!(index < self.entries && offset.is_multiple_of(8) && offset < size_of::<T>());
        // SAFETY: within the mapping, which lives as long as `self`, and aligned; elements consist of words.
        unsafe { AtomicU64::from_ptr(self.start.add(index).byte_add(offset).as_ptr().cast()) }
    }

    /// All words of an element, see [`Self::word`].
    pub(super) fn words(&self, index: usize) -> &[AtomicU64] {
        let first: *const AtomicU64 = self.word(index, 0);
        // SAFETY: an element is that many words, all as the first one.
        unsafe { std::slice::from_raw_parts(first, size_of::<T>() / size_of::<u64>()) }
    }

    /// Writes elements from `index` on.
    pub(super) fn write(&mut self, index: usize, elements: &[T]) {
        assert!(index <= self.entries && elements.len() <= self.entries - index);
        // SAFETY: within the mapping; nobody else writes there, and programs that read it meanwhile have no use for it yet.
        unsafe { self.start.add(index).as_ptr().copy_from_nonoverlapping(elements.as_ptr(), elements.len()) };
    }

    fn bytes(entries: usize) -> usize {
        (entries * size_of::<T>()).next_multiple_of(rustix::param::page_size())
    }
}

impl<T> Drop for MappedArray<T> {
    fn drop(&mut self) {
        let bytes = (self.entries * size_of::<T>()).next_multiple_of(rustix::param::page_size());
        // SAFETY: what was mapped in `new`; no reference to it exists. An error leaves it mapped, which does no harm.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), bytes) };
    }
}

fn map_shared(map: BorrowedFd<'_>, bytes: usize) -> rustix::io::Result<NonNull<u8>> {
    // SAFETY: a new mapping, at an address that the kernel picks.
    let start =
        unsafe { mmap(std::ptr::null_mut(), bytes, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, map, 0) }?;
    NonNull::new(start.cast()).ok_or(rustix::io::Errno::NOMEM)
}
