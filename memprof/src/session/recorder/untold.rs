//! What the kernel side could not tell, because the ring was full of what memprof had not read yet: made up for by looking.

use memprof_common::IMAGE_FROM_EXEC;

use super::{Recorder, now};
use crate::{
    kernel::Reach,
    model::{Event, ImageId},
    session::observed::Life,
    target,
};

/// Of the images that the kernel side numbers, those that it has told of.
#[derive(Debug, Default)]
pub(super) struct ToldImages {
    /// How many are to be told of by now.
    begun: u32,
    /// Of these, how many were.
    told: u32,
    /// Those told of that began later.
    later: u32,
}

impl ToldImages {
    /// So many have begun.
    pub(super) fn expect(&mut self, begun: u32) {
        // Who began later than the last time has begun by now.
        *self = Self { begun, told: self.told + self.later, later: 0 };
    }

    /// Takes note of one that is told of.
    pub(super) fn note(&mut self, event: &Event) {
        let (Event::Exec { image, .. } | Event::Fork { image, .. }) = event else { return };
        if image.0 & !IMAGE_FROM_EXEC < self.begun {
            self.told += 1;
        } else {
            self.later += 1;
        }
    }

    /// How many were not told of.
    pub(super) fn lack(&self) -> u32 {
        self.begun.saturating_sub(self.told)
    }

    /// Whether an image is one of those that are to be told of by now, or that the kernel side does not tell of.
    pub(super) fn counts_in(&self, image: ImageId) -> bool {
        image.0 & IMAGE_FROM_EXEC == 0 || image.0 & !IMAGE_FROM_EXEC < self.begun
    }

    /// They are known now.
    fn make_up(&mut self) {
        self.told = self.begun;
    }
}

impl Recorder {
    /// Finds out which processes have replaced their programs, and which of the threads have ended that probes are bound to, unless it is
    /// told after all. Says whether nothing is left in the rings.
    pub(super) fn make_up_for_untold(&mut self, portions: &mut usize) -> anyhow::Result<bool> {
        self.kernel.await_told()?;
        *portions = (*portions).max(1);
        let is_all = self.take_what_is_told(portions)?;
        let lack = self.images_told.lack();
        if lack == 0 {
            return Ok(is_all);
        }
        log::info!("{lack} times a program was begun that could not be told of: looking at all processes");
        self.images_told.make_up();
        for index in 0..self.processes.len() {
            if self.processes[index].life != Life::Settled {
                self.look_for_new_image(index)?;
                self.look_for_probed_thread(index);
            }
        }
        let known = self.processes.iter().map(|process| process.image).collect();
        self.past_losses += self.kernel.forget_untold(&known)?;
        Ok(is_all)
    }

    fn look_for_new_image(&mut self, index: usize) -> anyhow::Result<()> {
        let process = &self.processes[index];
        let (target, previous) = (process.target, process.image);
        let image = self.kernel.current_image(target)?;
        if image == previous {
            return Ok(());
        }
        let (target, time) = (target.0, now());
        self.take_occurrence(Event::Exec { target, previous, image, time, by_other_thread: false })?;
        // Whether it was another thread that did it is not known: then its probes are gone.
        if self.reach == Reach::Targets {
            self.probe_again(index, "it executed programs faster than memprof could follow");
        }
        Ok(())
    }

    /// Looks whether the thread has ended that a process's probes are bound to.
    pub(super) fn look_for_probed_thread(&mut self, index: usize) {
        if let Some(thread) = self.kernel.probed_thread(self.processes[index].target)
            && !self.is_bound_to_living(index)
        {
            self.go_on_without(index, thread);
        }
    }

    /// Whether the thread lives, if there is one.
    pub(super) fn is_bound_to_living(&self, index: usize) -> bool {
        let process = &self.processes[index];
        let thread = self.kernel.probed_thread(process.target);
        thread.is_none_or(|thread| target::threads(process.pid).any(|living| living == thread))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    fn exec(number: u32) -> Event {
        let image = ImageId(IMAGE_FROM_EXEC | number);
        Event::Exec { target: 0, previous: ImageId(0), image, time: Timestamp(0), by_other_thread: false }
    }

    #[test]
    fn what_is_not_told_is_missed_once() {
        let mut images = ToldImages::default();
        images.expect(4);
        [0, 1, 3, 4, 5].iter().for_each(|number| images.note(&exec(*number)));
        assert_eq!(images.lack(), 1);
        images.make_up();
        assert_eq!(images.lack(), 0);
        images.expect(7);
        images.note(&exec(6));
        assert_eq!(images.lack(), 0);
    }

    #[test]
    fn what_began_later_need_not_be_known() {
        let mut images = ToldImages::default();
        images.expect(4);
        assert!(images.counts_in(ImageId(IMAGE_FROM_EXEC | 3)) && images.counts_in(ImageId(9)));
        assert!(!images.counts_in(ImageId(IMAGE_FROM_EXEC | 4)));
    }
}
