//! A vector in chunks: it grows and shrinks by a fixed amount, and moves nothing when it does.

use std::ops::{Index, IndexMut};

/// Elements in a chunk. A constant: what is unused is less than one chunk, whatever the length.
const CHUNK: usize = 1024;

/// A dense vector of up to 2^32 elements.
#[derive(Debug)]
pub(super) struct Chunks<T> {
    /// All full but the last, none empty.
    chunks: Vec<Vec<T>>,
}

impl<T> Chunks<T> {
    /// Number of elements.
    pub(super) fn len(&self) -> u32 {
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        let length = full + self.chunks.last().map_or(0, Vec::len);
        u32::try_from(length).expect("push() keeps the length within 32 bits")
    }

    /// Appends an element and returns its slot.
    ///
    /// # Panics
    /// At 2^32 elements.
    pub(super) fn push(&mut self, element: T) -> u32 {
        let slot = self.len();
        assert!(slot < u32::MAX, "fewer than 2^32 elements");
        match self.chunks.last_mut() {
            Some(chunk) if chunk.len() < CHUNK => chunk.push(element),
            _ => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(element);
                self.chunks.push(chunk);
            }
        }
        slot
    }

    /// Removes the element in `slot`; the last one takes its place. `None` if there is no element at all.
    pub(super) fn swap_remove(&mut self, slot: u32) -> Option<T> {
        let last = self.pop()?;
        if slot == self.len() { Some(last) } else { Some(std::mem::replace(&mut self[slot], last)) }
    }

    /// All elements, by slot.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.chunks.iter().flatten()
    }

    /// Bytes allocated.
    #[cfg(test)]
    pub(super) fn allocated_bytes(&self) -> usize {
        let elements: usize = self.chunks.iter().map(Vec::capacity).sum();
        elements * size_of::<T>() + self.chunks.capacity() * size_of::<Vec<T>>()
    }

    fn pop(&mut self) -> Option<T> {
        let chunk = self.chunks.last_mut()?;
        let last = chunk.pop();
        if chunk.is_empty() {
            self.chunks.pop();
        }
        last
    }
}

impl<T> Default for Chunks<T> {
    fn default() -> Self {
        Self { chunks: Vec::new() }
    }
}

impl<T> Index<u32> for Chunks<T> {
    type Output = T;

    fn index(&self, slot: u32) -> &T {
        &self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }
}

impl<T> IndexMut<u32> for Chunks<T> {
    fn index_mut(&mut self, slot: u32) -> &mut T {
        &mut self.chunks[slot as usize / CHUNK][slot as usize % CHUNK]
    }
}
