//! How probes go: elsewhere and later, since each takes a grace period of the kernel's, about 0.1 s. Of links of many probes each takes
//! one, all at the same time; of perf events the kernel takes one after the other (`event_mutex` in kernel/trace/trace_event_perf.c).

use std::thread::JoinHandle;

use super::{programs::Link, undisturbed::undisturbed};

/// Threads that wait for probes to go.
const MOST_DETACHERS: usize = 64;

/// Probes that are going. When it is dropped they have gone.
#[derive(Default)]
pub(super) struct Detaching(Vec<JoinHandle<()>>);

impl Drop for Detaching {
    fn drop(&mut self) {
        for thread in self.0.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Detaching {
    /// Begins to take out what these links hold in place.
    pub(super) fn begin(&mut self, links: impl IntoIterator<Item = Link>) {
        self.0.retain(|detaching| !detaching.is_finished());
        let (mut singles, mut multis) = (Vec::new(), Vec::new());
        for link in links {
            match link {
                Link::Single { .. } => singles.push(link),
                Link::Multi { .. } => multis.push(link),
            }
        }
        let at_once = multis.len().div_ceil(MOST_DETACHERS).max(1);
        let mut multis = multis.into_iter().peekable();
        let mut parts = vec![singles];
        while multis.peek().is_some() {
            parts.push(multis.by_ref().take(at_once).collect());
        }
        let parts = parts.into_iter().filter(|part| !part.is_empty());
        let detach = |mut part: Vec<Link>| {
            // The links go, and their memory when that is done.
            undisturbed(|| part.clear());
        };
        self.0.extend(parts.map(|part| std::thread::spawn(move || detach(part))));
    }
}
