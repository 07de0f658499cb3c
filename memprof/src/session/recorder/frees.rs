//! Frees on their way from the ring to their heaps, some at a time.

use std::collections::HashMap;

use crate::{
    heap::Heap,
    model::{Allocation, Free, ImageId, Timestamp},
};

/// How many go together.
const MOST: usize = 32;

/// Frees of one image.
pub(super) struct Frees<'a> {
    heaps: &'a mut HashMap<ImageId, Heap>,
    image: ImageId,
    waiting: Vec<Free>,
}

impl<'a> Frees<'a> {
    pub(super) fn new(heaps: &'a mut HashMap<ImageId, Heap>) -> Self {
        Self { heaps, image: ImageId(0), waiting: Vec::with_capacity(MOST) }
    }

    /// Applies a free, now or with those that follow.
    pub(super) fn push(&mut self, image: ImageId, free: Free) {
        if image != self.image || self.waiting.len() == MOST {
            self.apply();
            self.image = image;
        }
        self.waiting.push(free);
    }

    /// Applies a free at once, and says whether the block was known.
    pub(super) fn free(&mut self, image: ImageId, address: u64, time: Timestamp) -> bool {
        self.apply();
        self.heaps.get_mut(&image).is_some_and(|heap| heap.free(address, time))
    }

    /// Takes in a block that was told of among the frees.
    pub(super) fn allocate(&mut self, image: ImageId, allocation: Allocation) {
        self.apply();
        self.heaps.entry(image).or_default().allocate(allocation);
    }

    fn apply(&mut self) {
        // Not known: allocated before the attach, or by an image that is over.
        if let Some(heap) = self.heaps.get_mut(&self.image) {
            heap.free_all(&self.waiting);
        }
        self.waiting.clear();
    }
}

impl Drop for Frees<'_> {
    fn drop(&mut self) {
        self.apply();
    }
}
