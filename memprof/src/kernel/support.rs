//! What this kernel and these privileges allow.

use std::{error::Error as _, fs, path::Path};

use procfs::KernelVersion;

use super::{
    HugePages, KernelError,
    multi::MultiPrograms,
    try_loading, try_watching_page_faults,
    uprobe_events::{self, are_allowed},
};
use crate::privileges::{CapabilitySet, in_effect, names};

/// The oldest kernel with all that is needed: attach cookies (`bpf_get_attach_cookie`) came last.
const OLDEST: KernelVersion = KernelVersion { major: 5, minor: 15, patch: 0 };

/// The oldest kernel that the live tests run on (`cargo xtask vm-test`).
const OLDEST_TESTED: KernelVersion = KernelVersion { major: 6, minor: 1, patch: 0 };

/// The inode number of the first pid namespace (`PROC_PID_INIT_INO` in include/linux/proc_ns.h).
const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;

/// A privilege, and what it is for.
type Need = (CapabilitySet, &'static str);

/// What is needed everywhere.
const NEEDS: [Need; 3] = [
    (CapabilitySet::BPF, "to load programs"),
    (CapabilitySet::PERFMON, "to let them read memory, and to hear of new mappings"),
    (CapabilitySet::SYS_PTRACE, "to look into the processes of others"),
];

/// What is needed where there are no links of many probes.
const NEED_WITHOUT_LINKS: Need = (uprobe_events::PRIVILEGE, "to set probes, on this kernel");

/// What one can do without, and what follows from that.
const WISHES: [Need; 3] = [
    (CapabilitySet::SYS_ADMIN, "it is not known what observing costs, and there is no --max-overhead"),
    (CapabilitySet::DAC_READ_SEARCH, "files that this user may not read have neither names nor probes"),
    (CapabilitySet::CHECKPOINT_RESTORE, "libraries that were deleted or replaced have neither names nor probes"),
];

/// The result of one check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As it should be.
    Good,
    /// Less than one could wish, with what follows from it.
    Limited(String),
    /// memprof cannot work, with the remedy.
    Bad(String),
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What.
    pub subject: &'static str,
    /// What was found.
    pub found: String,
    /// What it means.
    pub outcome: Outcome,
}

impl Check {
    fn new(subject: &'static str, found: impl Into<String>, outcome: Outcome) -> Self {
        Self { subject, found: found.into(), outcome }
    }
}

/// What follows besides where links of many probes take the place of perf events.
const WITH_LINKS: Need = (
    uprobe_events::PRIVILEGE,
    "a process whose main thread has ended cannot be attached to, and what a target forks bears probes that do nothing until it executes a program",
);

/// Looks at everything else than [`programs`]. Changes nothing, and needs no privileges.
pub fn checks() -> Vec<Check> {
    let effective = in_effect();
    let mut checks = vec![kernel_version(), uprobes(), links(), btf(), lockdown(), capabilities(effective)];
    if matches!(checks.last(), Some(Check { outcome: Outcome::Good, .. })) {
        checks.extend(wishes(effective, !are_allowed()));
    }
    checks.push(pid_namespace());
    checks
}

/// Whether the kernel accepts the programs: they are loaded, and dropped. Worth asking if the [`checks`] found nothing bad.
pub fn programs() -> Check {
    const SUBJECT: &str = "programs";
    match try_loading() {
        Ok(cost) => Check::new(SUBJECT, cost.to_string(), Outcome::Good),
        Err(error) => {
            let source = error.source().map(ToString::to_string).unwrap_or_default();
            Check::new(SUBJECT, error.to_string(), Outcome::Bad(source))
        }
    }
}

/// Whether the kernel can tell where memory grows. Nothing else is affected if it cannot.
pub fn page_faults() -> Check {
    const SUBJECT: &str = "page faults";
    match try_watching_page_faults() {
        Ok(HugePages::Counted) => Check::new(SUBJECT, "can be watched", Outcome::Good),
        Ok(HugePages::AsOnePage(error)) => {
            let lack = format!("`memprof growth` counts a huge page as one of 4 KiB ({})", with_source(&error));
            Check::new(SUBJECT, "can be watched", Outcome::Limited(lack))
        }
        Err(error) => {
            let lack = format!("there is no `memprof growth` ({})", with_source(&error));
            Check::new(SUBJECT, "cannot be watched", Outcome::Limited(lack))
        }
    }
}

fn with_source(error: &KernelError) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

/// The first thing that makes it impossible to go on, as one line with the remedy.
pub fn require() -> Result<(), String> {
    checks().into_iter().find_map(|check| check.into_failure()).map_or(Ok(()), Err)
}

impl Check {
    fn into_failure(self) -> Option<String> {
        match self.outcome {
            Outcome::Bad(remedy) => Some(format!("{}: {}; {remedy}", self.subject, self.found)),
            _ => None,
        }
    }
}

fn kernel_version() -> Check {
    const SUBJECT: &str = "kernel";
    match KernelVersion::current() {
        Ok(version) => judge_version(version),
        Err(error) => Check::new(SUBJECT, error.to_string(), Outcome::Limited("its version is not known".into())),
    }
}

fn judge_version(version: KernelVersion) -> Check {
    let found = format!("Linux {}.{}", version.major, version.minor);
    let outcome = if version >= OLDEST_TESTED {
        Outcome::Good
    } else if version >= OLDEST {
        let lack = "supported are 6.1 and newer; memprof has what it needs since 5.15, but is not tested before 6.1";
        Outcome::Limited(lack.into())
    } else {
        Outcome::Bad("memprof needs Linux 6.1 or newer; 5.15 to 6.0 may do, but are not tested".into())
    };
    Check::new("kernel", found, outcome)
}

fn uprobes() -> Check {
    let outcome = if Path::new("/sys/bus/event_source/devices/uprobe/type").exists() {
        return Check::new("uprobes", "available", Outcome::Good);
    } else if !Path::new("/sys/bus/event_source").exists() {
        Outcome::Bad("mount sysfs on /sys".into())
    } else {
        Outcome::Bad("the kernel must be built with CONFIG_UPROBE_EVENTS=y".into())
    };
    Check::new("uprobes", "not available", outcome)
}

fn links() -> Check {
    const SUBJECT: &str = "uprobe links";
    if MultiPrograms::is_supported() {
        return Check::new(SUBJECT, "available", Outcome::Good);
    }
    let lack =
        "they are used since Linux 6.10: where children are followed, or many processes, detaching takes 0.1 s a probe";
    Check::new(SUBJECT, "not used", Outcome::Limited(lack.into()))
}

fn btf() -> Check {
    match fs::metadata("/sys/kernel/btf/vmlinux") {
        Ok(_) => Check::new("kernel BTF", "present", Outcome::Good),
        Err(_) => {
            let lack =
                "stacks may end at other tools' return probes, and code that replaces code is noticed a moment late";
            Check::new("kernel BTF", "absent", Outcome::Limited(lack.into()))
        }
    }
}

fn lockdown() -> Check {
    let mode = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    if mode.contains("[confidentiality]") {
        let remedy = "boot with lockdown=integrity or lockdown=none: in this mode BPF programs cannot read memory";
        return Check::new("lockdown", "confidentiality", Outcome::Bad(remedy.into()));
    }
    Check::new("lockdown", if mode.is_empty() { "none" } else { mode.trim() }, Outcome::Good)
}

fn capabilities(effective: CapabilitySet) -> Check {
    // Asked only where it matters.
    let probes_anyway = MultiPrograms::is_supported() || are_allowed();
    let is_root = rustix::process::geteuid().is_root();
    judge_capabilities(is_root, &missing(effective, probes_anyway))
}

fn judge_capabilities(is_root: bool, missing: &[Need]) -> Check {
    const SUBJECT: &str = "privileges";
    if missing.is_empty() {
        let found = if is_root { "root" } else { "all capabilities needed" };
        return Check::new(SUBJECT, found, Outcome::Good);
    }
    let who = if is_root { "root, but" } else { "not root, and" };
    let missing: Vec<_> = missing.iter().map(|(set, purpose)| format!("{} ({purpose})", names(*set))).collect();
    let found = format!("{who} without {}", missing.join(", "));
    Check::new(SUBJECT, found, Outcome::Bad("run with sudo, or grant these capabilities".into()))
}

/// What it is to have and has not.
fn missing(effective: CapabilitySet, probes_anyway: bool) -> Vec<Need> {
    let has = granted(effective);
    let needs = NEEDS.into_iter().chain((!probes_anyway).then_some(NEED_WITHOUT_LINKS));
    needs.filter(|(set, _)| !has.contains(*set)).collect()
}

/// With those that were split off CAP_SYS_ADMIN, which still stands for them.
fn granted(effective: CapabilitySet) -> CapabilitySet {
    let split_off = CapabilitySet::BPF | CapabilitySet::PERFMON | CapabilitySet::CHECKPOINT_RESTORE;
    if effective.contains(CapabilitySet::SYS_ADMIN) { effective | split_off } else { effective }
}

fn wishes(effective: CapabilitySet, uses_links: bool) -> Vec<Check> {
    let lack = |(set, consequence): &Need| {
        let outcome = Outcome::Limited((*consequence).into());
        Check::new("privileges", format!("without {}", names(*set)), outcome)
    };
    let wishes = WISHES.iter().chain(uses_links.then_some(&WITH_LINKS));
    wishes.filter(|(set, _)| !granted(effective).contains(*set)).map(lack).collect()
}

fn pid_namespace() -> Check {
    use std::os::unix::fs::MetadataExt as _;
    const SUBJECT: &str = "pid namespace";
    match fs::metadata("/proc/self/ns/pid") {
        Ok(namespace) if namespace.ino() == FIRST_PID_NAMESPACE => Check::new(SUBJECT, "the host's", Outcome::Good),
        Ok(_) => {
            let remedy = "in a container, share the host's (docker run --pid=host): the kernel reports the host's pids";
            Check::new(SUBJECT, "a container's", Outcome::Bad(remedy.into()))
        }
        Err(error) => Check::new(SUBJECT, error.to_string(), Outcome::Limited("it is not known".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_without_cookies_is_too_old_and_one_that_is_not_tested_is_told_of() {
        let of = |major, minor| judge_version(KernelVersion { major, minor, patch: 0 }).outcome;
        assert!(matches!(of(5, 14), Outcome::Bad(_)));
        assert!(matches!(of(5, 15), Outcome::Limited(_)));
        assert!(matches!(of(6, 0), Outcome::Limited(_)));
        assert_eq!(of(6, 1), Outcome::Good);
    }

    #[test]
    fn the_missing_capability_is_named() {
        let sets = |effective, probes_anyway| -> Vec<_> {
            missing(effective, probes_anyway).into_iter().map(|(set, _)| names(set)).collect()
        };
        let (bpf, perfmon, ptrace) = (CapabilitySet::BPF, CapabilitySet::PERFMON, CapabilitySet::SYS_PTRACE);
        let admin = CapabilitySet::SYS_ADMIN;
        assert_eq!(sets(bpf | perfmon | ptrace, true), Vec::<String>::new());
        assert_eq!(sets(admin | ptrace, false), Vec::<String>::new());
        assert_eq!(sets(bpf | perfmon | ptrace, false), ["CAP_SYS_ADMIN"]);
        assert_eq!(sets(perfmon | ptrace, true), ["CAP_BPF"]);
        assert_eq!(sets(bpf | ptrace, true), ["CAP_PERFMON"]);
        assert_eq!(sets(bpf | perfmon, true), ["CAP_SYS_PTRACE"]);
        assert_eq!(sets(CapabilitySet::empty(), true), ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE"]);
    }

    #[test]
    fn what_one_can_do_without_is_told_of() {
        let found = |effective, uses_links| -> Vec<_> {
            wishes(effective, uses_links).into_iter().map(|check| check.found).collect()
        };
        assert_eq!(found(CapabilitySet::all(), false), Vec::<String>::new());
        assert_eq!(found(CapabilitySet::SYS_ADMIN, false), ["without CAP_DAC_READ_SEARCH"]);
        let three = ["without CAP_SYS_ADMIN", "without CAP_DAC_READ_SEARCH", "without CAP_CHECKPOINT_RESTORE"];
        assert_eq!(found(CapabilitySet::empty(), false), three);
        assert_eq!(found(CapabilitySet::empty(), true), [&three[..], &three[..1]].concat());
    }
}
