//! Perf events of uprobes: whom the kernel lets open them.
//!
//! Until 2025 that took CAP_PERFMON. Since then, and in the stable kernels of then, it takes CAP_SYS_ADMIN (`perf_uprobe_event_init` in
//! kernel/events/core.c). Links of many probes ([`super::multi`]) go on without it.

use std::io;

use perf_event::{Builder, events::Dynamic};

use crate::privileges::{CapabilitySet, raise};

/// What opening one may take.
pub(super) const PRIVILEGE: CapabilitySet = CapabilitySet::SYS_ADMIN;

/// Whether this thread may open any. The kernel decides that before it looks for the file, of which there is none here.
pub(super) fn are_allowed() -> bool {
    let Some(uprobe) = of_no_file() else { return false };
    let _raised = raise(PRIVILEGE);
    Builder::new(uprobe).build().map_or_else(|error| error.kind() != io::ErrorKind::PermissionDenied, |_| true)
}

/// Nothing where the kernel has no such events.
fn of_no_file() -> Option<Dynamic> {
    let mut builder = Dynamic::builder("uprobe").ok()?;
    for field in ["retprobe", "ref_ctr_offset"] {
        builder.field(field, 0).ok()?;
    }
    builder.build().ok()
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_kernel_can_be_asked() {
        assert_eq!(of_no_file().is_some(), Path::new("/sys/bus/event_source/devices/uprobe").exists());
    }
}
