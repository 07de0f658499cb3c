//! What this process may do beyond its user's rights (capabilities(7)): what of it is kept, what is taken up for a moment, and what is
//! given up. A leaf module: any stage may use it.
//!
//! Capabilities belong to threads, and a thread begins with those of the one that starts it. So they are reduced where there is one
//! thread only, and later ones never have more.

use std::marker::PhantomData;

pub(crate) use rustix::thread::CapabilitySet;
use rustix::thread::{
    CapabilitySets, capabilities, capability_is_in_bounding_set, clear_ambient_capability_set,
    configure_capability_in_ambient_set, remove_capability_from_bounding_set, set_capabilities, set_no_new_privs,
};

/// Opening and replacing files where only somebody else may.
pub(crate) const WRITING: CapabilitySet = CapabilitySet::DAC_OVERRIDE.union(CapabilitySet::FOWNER);

/// What the process gets that reads names (`symbols/helper/`): it opens once more the files that it is given.
const PASSED_ON: CapabilitySet = CapabilitySet::DAC_READ_SEARCH;

/// What is in effect now.
pub(crate) fn in_effect() -> CapabilitySet {
    capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective)
}

/// Capabilities that are in effect for a moment.
#[must_use = "they are in effect until it is dropped"]
pub(crate) struct Raised {
    before: Option<CapabilitySets>,
    /// They are this thread's.
    _not_send: PhantomData<*const ()>,
}

/// Puts capabilities into effect, those of them that were not given up.
pub(crate) fn raise(wanted: CapabilitySet) -> Raised {
    let before = capabilities(None).ok().filter(|sets| !sets.effective.contains(wanted & sets.permitted));
    if let Some(sets) = &before {
        // If not, what wants them says so.
        let raised = CapabilitySets { effective: sets.effective | (wanted & sets.permitted), ..*sets };
        let _ = set_capabilities(None, raised);
    }
    Raised { before, _not_send: PhantomData }
}

impl Drop for Raised {
    fn drop(&mut self) {
        if let Some(before) = self.before {
            reduce_to(before);
        }
    }
}

/// Gives up all capabilities for good but these: the first are in effect from now on, the others when they are [raised](raise). What
/// is executed from now on gets [`PASSED_ON`] of them at most.
pub(crate) fn keep(in_effect: CapabilitySet, in_reserve: CapabilitySet) {
    // While it is allowed to.
    narrow_bounding_set();
    note("PR_SET_NO_NEW_PRIVS", set_no_new_privs(true));
    note("PR_CAP_AMBIENT_CLEAR_ALL", clear_ambient_capability_set());
    let Ok(now) = capabilities(None) else { return };
    let permitted = now.permitted & (in_effect | in_reserve);
    let inheritable = permitted & PASSED_ON;
    reduce_to(CapabilitySets { effective: permitted & in_effect, permitted, inheritable });
    if !inheritable.is_empty() {
        note("PR_CAP_AMBIENT_RAISE", configure_capability_in_ambient_set(inheritable, true));
    }
    log::debug!("capabilities kept: {}", names(permitted & in_effect));
    log::debug!("capabilities in reserve: {}", names(permitted - in_effect));
}

/// Gives up these too.
pub(crate) fn give_up(unneeded: CapabilitySet) {
    let Ok(now) = capabilities(None) else { return };
    reduce_to(CapabilitySets { effective: now.effective - unneeded, permitted: now.permitted - unneeded, ..now });
}

/// Names as everybody writes them.
pub(crate) fn names(set: CapabilitySet) -> String {
    let names: Vec<_> = set.iter_names().map(|(name, _)| format!("CAP_{name}")).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// So that no `execve` gives more than [`PASSED_ON`]. That takes CAP_SETPCAP; without it there is still `PR_SET_NO_NEW_PRIVS`.
fn narrow_bounding_set() {
    let others = (0..u64::BITS).map(|bit| CapabilitySet::from_bits_retain(1 << bit));
    for capability in others.filter(|capability| *capability != PASSED_ON) {
        match capability_is_in_bounding_set(capability) {
            Ok(true) if remove_capability_from_bounding_set(capability).is_err() => return,
            Ok(_) => {}
            // The kernel knows no more.
            Err(_) => return,
        }
    }
}

fn reduce_to(sets: CapabilitySets) {
    note("capset", set_capabilities(None, sets));
}

/// To have less always works, on the kernels that memprof runs on.
fn note(call: &str, result: rustix::io::Result<()>) {
    if let Err(error) = result {
        log::warn!("{call}: {error}: memprof keeps more privileges than it needs");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_have_their_names() {
        assert_eq!(names(CapabilitySet::BPF | CapabilitySet::SYS_PTRACE), "CAP_SYS_PTRACE, CAP_BPF");
        assert_eq!(names(WRITING), "CAP_DAC_OVERRIDE, CAP_FOWNER");
        assert_eq!(names(CapabilitySet::empty()), "none");
    }

    /// Threads have their own, so that other tests keep theirs. What this one has depends on who runs it.
    #[test]
    fn what_is_given_up_is_gone_and_what_is_in_reserve_can_be_raised() {
        std::thread::spawn(|| {
            let (kept, reserve) = (CapabilitySet::SYS_PTRACE, CapabilitySet::KILL);
            let own = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.permitted);
            let (kept_of_own, reserve_of_own) = (kept & own, reserve & own);
            keep(kept, reserve);
            assert_eq!(in_effect(), kept_of_own);
            {
                let _raised = raise(reserve | CapabilitySet::SYS_ADMIN);
                assert_eq!(in_effect(), kept_of_own | reserve_of_own);
            }
            assert_eq!(in_effect(), kept_of_own);
            give_up(reserve);
            let _raised = raise(reserve);
            assert_eq!(in_effect(), kept_of_own);
            assert!(rustix::thread::no_new_privs().is_ok_and(|is_set| is_set));
        })
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    }
}
