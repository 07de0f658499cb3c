//! What this kernel and these privileges allow.

use std::{error::Error as _, fs, path::Path};

use procfs::{
    KernelVersion,
    process::{Process, Status},
};

use super::{HugePages, KernelError, multi::MultiPrograms, try_loading, try_watching_page_faults};

/// The oldest kernel with all that is needed: attach cookies (`bpf_get_attach_cookie`) came last.
const OLDEST: KernelVersion = KernelVersion { major: 5, minor: 15, patch: 0 };

/// The inode number of the first pid namespace (`PROC_PID_INIT_INO` in include/linux/proc_ns.h).
const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;

const CAP_SYS_PTRACE: u8 = 19;
const CAP_SYS_ADMIN: u8 = 21;

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

/// Looks at everything else than [`programs`]. Changes nothing, and needs no privileges.
pub fn checks() -> Vec<Check> {
    vec![kernel_version(), uprobes(), links(), btf(), lockdown(), capabilities(), pid_namespace()]
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
    let outcome =
        if version >= OLDEST { Outcome::Good } else { Outcome::Bad("memprof needs Linux 5.15 or newer".into()) };
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

fn capabilities() -> Check {
    const SUBJECT: &str = "privileges";
    match Process::myself().and_then(|process| process.status()) {
        Ok(status) => judge_capabilities(&status),
        Err(error) => Check::new(SUBJECT, error.to_string(), Outcome::Bad("mount procfs on /proc".into())),
    }
}

fn judge_capabilities(status: &Status) -> Check {
    let missing = missing_capabilities(status.capeff);
    if missing.is_empty() {
        let found = if status.euid == 0 { "root" } else { "all capabilities needed" };
        return Check::new("privileges", found, Outcome::Good);
    }
    let who = if status.euid == 0 { "root, but" } else { "not root, and" };
    let found = format!("{who} without {}", missing.join(", "));
    Check::new("privileges", found, Outcome::Bad("run with sudo, or grant these capabilities".into()))
}

/// CAP_BPF and CAP_PERFMON, which were split off CAP_SYS_ADMIN and which it stands for, are not enough: since 2025, and
/// in the stable kernels of then, uprobes want CAP_SYS_ADMIN (`perf_uprobe_event_init` in kernel/events/core.c).
fn missing_capabilities(effective: u64) -> Vec<&'static str> {
    [("CAP_SYS_ADMIN", CAP_SYS_ADMIN), ("CAP_SYS_PTRACE", CAP_SYS_PTRACE)]
        .into_iter()
        .filter_map(|(name, capability)| (effective >> capability & 1 == 0).then_some(name))
        .collect()
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
    fn a_kernel_without_cookies_is_too_old() {
        let of = |major, minor| judge_version(KernelVersion { major, minor, patch: 0 }).outcome;
        assert!(matches!(of(5, 14), Outcome::Bad(_)));
        assert_eq!(of(5, 15), Outcome::Good);
        assert_eq!(of(6, 1), Outcome::Good);
    }

    #[test]
    fn the_missing_capability_is_named() {
        assert_eq!(missing_capabilities(1 << CAP_SYS_ADMIN | 1 << CAP_SYS_PTRACE), Vec::<&str>::new());
        assert_eq!(missing_capabilities(1 << CAP_SYS_PTRACE), ["CAP_SYS_ADMIN"]);
        assert_eq!(missing_capabilities(1 << CAP_SYS_ADMIN), ["CAP_SYS_PTRACE"]);
        assert_eq!(missing_capabilities(0), ["CAP_SYS_ADMIN", "CAP_SYS_PTRACE"]);
    }
}
