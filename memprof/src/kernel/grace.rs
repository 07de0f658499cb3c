//! Waiting until no BPF program runs any more that began before.
//!
//! The kernel does that where a map within a map is replaced, so that whoever replaced it can free what it held
//! (`maybe_wait_bpf_programs` in kernel/bpf/syscall.c, Linux 4.20): programs run within RCU's read-side critical sections, and it waits for
//! a grace period. So there is a map here of one map, which no program uses, and which is replaced by itself.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_map_type};

use super::KernelError;

pub(super) struct GracePeriods {
    outer: OwnedFd,
    inner: OwnedFd,
}

impl GracePeriods {
    /// Makes the maps.
    pub(super) fn new() -> Result<Self, KernelError> {
        let make = || {
            let inner = create(bpf_map_type::BPF_MAP_TYPE_ARRAY, None)?;
            let outer = create(bpf_map_type::BPF_MAP_TYPE_ARRAY_OF_MAPS, Some(inner.as_raw_fd()))?;
            Ok(Self { outer, inner })
        };
        make().map_err(|source| KernelError::Call { call: "bpf(create map)", source })
    }

    /// Waits, some milliseconds as a rule. What was written to a map before is seen by every program that runs after.
    pub(super) fn wait(&self) -> Result<(), KernelError> {
        let (key, value) = (0_u32, self.inner.as_raw_fd());
        // SAFETY: all-zero is a valid value of this union of integers.
        let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
        // SAFETY: this is the member that the command reads; all-zero is valid for the union within, too.
        let update = unsafe { &mut attr.__bindgen_anon_2 };
        update.map_fd = self.outer.as_raw_fd() as u32;
        update.key = &raw const key as u64;
        update.__bindgen_anon_1.value = &raw const value as u64;
        // SAFETY: key and value are four bytes each, as the map's, and outlive the call.
        unsafe { bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr) }
            .map(drop)
            .map_err(|source| KernelError::Call { call: "bpf(update map)", source })
    }
}

/// A map of one element of four bytes.
fn create(kind: bpf_map_type, inner: Option<RawFd>) -> io::Result<OwnedFd> {
    // SAFETY: all-zero is a valid value of this union of integers.
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    // SAFETY: this is the member that the command reads.
    let map = unsafe { &mut attr.__bindgen_anon_1 };
    map.map_type = kind as u32;
    (map.key_size, map.value_size, map.max_entries) = (4, 4, 1);
    map.inner_map_fd = inner.unwrap_or_default() as u32;
    // SAFETY: the command reads nothing else.
    let descriptor = unsafe { bpf(bpf_cmd::BPF_MAP_CREATE, &mut attr)? };
    // SAFETY: the kernel has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor as RawFd) })
}

/// # Safety
/// What `attr` points to must be as the command wants it.
unsafe fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<libc::c_long> {
    // SAFETY: the attributes outlive the call; the rest is the caller's.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_long, &raw mut *attr, size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}
