//! Sampling: the nursery is the table of live samples, read as a whole at each drain. So no free has to be told: what is
//! not there any more was freed. A block is removed from here only when its image is over.

use std::collections::BTreeSet;

use super::Recorder;
use crate::{heap::Heap, model::ImageId, session::observed::Life};

impl Recorder {
    /// Replaces what is known of each living process by what the nursery holds of it.
    pub(super) fn read_samples(&mut self) {
        let settled = self.settled_images();
        let Self { kernel, heaps, sampling, .. } = self;
        let living = heaps.iter_mut().filter(|(image, _)| !settled.contains(image));
        living.for_each(|(_, heap)| heap.begin_again());
        kernel.read_nursery(|image, allocation| {
            if settled.contains(&image) {
                return;
            }
            heaps.entry(image).or_insert_with(|| Heap::sampled(*sampling)).allocate(allocation);
        });
    }

    /// Makes room where an image is over. What was read last of it stays.
    pub(super) fn remove_samples(&mut self, image: ImageId) {
        if self.sampling.bytes().is_some() {
            self.kernel.remove_from_nursery(image);
        }
    }

    fn settled_images(&self) -> BTreeSet<ImageId> {
        self.processes.iter().filter(|process| process.life == Life::Settled).map(|process| process.image).collect()
    }
}
