//! Attaching to many, some of which cannot be attached to.

use std::collections::BTreeMap;

use super::Recorder;
use crate::{
    model::{LeftOut, Sighting, Warning},
    target,
};

/// How many of those that are left out for one reason are named.
const MOST_NAMED: usize = 5;

/// A process that is to be attached to, if that is possible.
#[derive(Clone, Debug)]
pub(in crate::session) struct Candidate {
    sighting: Sighting,
    command: String,
}

impl Candidate {
    pub(in crate::session) fn new(sighting: Sighting, command: String) -> Self {
        Self { sighting, command }
    }

    /// Whether the process that was seen is still there.
    fn lives(&self) -> bool {
        target::began(self.sighting.pid) == Some(self.sighting.began)
    }

    fn name(&self) -> String {
        format!("{} ({})", self.command, self.sighting.pid)
    }
}

/// A process in which there is nothing to probe.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct NoAllocator(pub(super) String);

impl Recorder {
    /// Attaches to those that it can, and warns of the others.
    pub(in crate::session) fn attach_to_those_possible(&mut self, candidates: &[Candidate]) {
        let mut left_out: BTreeMap<LeftOut, Vec<String>> = BTreeMap::new();
        for candidate in candidates {
            if let Err((reason, name)) = self.attach_if_possible(candidate) {
                left_out.entry(reason).or_default().push(name);
            }
        }
        for (reason, names) in left_out {
            self.warn(Warning::LeftOut { reason, count: names.len(), names: listed(&names) });
        }
    }

    fn attach_if_possible(&mut self, candidate: &Candidate) -> Result<(), (LeftOut, String)> {
        let name = candidate.name();
        if !candidate.lives() {
            return Err((LeftOut::Ended, name));
        }
        let Err(error) = self.attach(candidate.sighting.pid) else { return Ok(()) };
        log::debug!("{name}: {error:#}");
        if target::threads(candidate.sighting.pid).next().is_none() {
            Err((LeftOut::Ended, name))
        } else if error.is::<NoAllocator>() {
            Err((LeftOut::NoAllocator, name))
        } else {
            Err((LeftOut::Refused, format!("{name}: {error:#}")))
        }
    }
}

fn listed(names: &[String]) -> String {
    let (named, more) = names.split_at(names.len().min(MOST_NAMED));
    match more.len() {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::listed;

    #[test]
    fn a_few_are_named_and_the_rest_is_counted() {
        let names = |number: usize| (1..=number).map(|number| format!("a ({number})")).collect::<Vec<_>>();
        assert_eq!(listed(&names(1)), "a (1)");
        assert_eq!(listed(&names(5)), "a (1), a (2), a (3), a (4), a (5)");
        assert_eq!(listed(&names(305)), "a (1), a (2), a (3), a (4), a (5) and 300 more");
    }
}
