//! Hash maps read a batch at a time (`BPF_MAP_LOOKUP_BATCH` and `BPF_MAP_LOOKUP_AND_DELETE_BATCH`, Linux 5.6), which
//! aya does not wrap: one system call for thousands of elements instead of two for each.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use aya::{
    Pod,
    maps::{HashMap, Map, MapData},
};
use aya_obj::generated::{bpf_attr, bpf_cmd};

use super::KernelError;

/// Elements asked for at a time, at first.
const BATCH: usize = 1 << 14;

/// A hash map with keys `K` and values `V`.
pub(super) struct BatchMap<K, V> {
    map: HashMap<MapData, K, V>,
    // The same map: aya's type does not show its own.
    descriptor: OwnedFd,
}

/// Where a walk through the map stands: the kernel's, opaque, no larger than a key or four bytes.
type Cursor = u64;

impl<K: Pod, V: Pod> BatchMap<K, V> {
    /// Wraps a map. An error if its keys and values have other sizes than `K` and `V`.
    pub(super) fn new(map: MapData) -> Result<Self, KernelError> {
        let descriptor = map.fd().as_fd().try_clone_to_owned();
        let descriptor = descriptor.map_err(|source| KernelError::Call { call: "dup", source })?;
        Ok(Self { map: Map::HashMap(map).try_into()?, descriptor })
    }

    /// Removes one element. An error if it is not there.
    pub(super) fn remove(&mut self, key: &K) -> Result<(), KernelError> {
        Ok(self.map.remove(key)?)
    }

    /// Reads every element.
    pub(super) fn for_each(&self, apply: impl FnMut(K, V)) -> Result<(), KernelError> {
        self.walk(bpf_cmd::BPF_MAP_LOOKUP_BATCH, apply)
    }

    /// Reads every element and removes it.
    pub(super) fn take_all(&mut self, apply: impl FnMut(K, V)) -> Result<(), KernelError> {
        self.walk(bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_BATCH, apply)
    }

    fn walk(&self, command: bpf_cmd, mut apply: impl FnMut(K, V)) -> Result<(), KernelError> {
        let mut capacity = BATCH;
        let (mut keys, mut values) = buffers(capacity);
        let mut cursor: Option<Cursor> = None;
        loop {
            let mut next: Cursor = 0;
            let batch = self.batch(command, cursor.as_ref(), &mut next, &mut keys, &mut values);
            match batch {
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                    // One bucket of the hash holds more than the buffers.
                    capacity *= 2;
                    (keys, values) = buffers(capacity);
                    continue;
                }
                Err(source) => return Err(KernelError::Call { call: "bpf(batched look-up)", source }),
                Ok(Batch { count, is_last }) => {
                    for (key, value) in keys.iter().zip(&values).take(count) {
                        // SAFETY: the kernel has filled in this many.
                        unsafe { apply(key.assume_init(), value.assume_init()) };
                    }
                    if is_last {
                        return Ok(());
                    }
                }
            }
            cursor = Some(next);
        }
    }

    fn batch(
        &self,
        command: bpf_cmd,
        cursor: Option<&Cursor>,
        next: &mut Cursor,
        keys: &mut [MaybeUninit<K>],
        values: &mut [MaybeUninit<V>],
    ) -> io::Result<Batch> {
        // SAFETY: all-zero is a valid value of this union of integers.
        let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
        // SAFETY: this is the member that the command reads and writes.
        let batch = unsafe { &mut attr.batch };
        batch.map_fd = self.descriptor.as_raw_fd() as u32;
        batch.in_batch = cursor.map_or(0, |cursor| &raw const *cursor as u64);
        batch.out_batch = &raw mut *next as u64;
        batch.keys = keys.as_mut_ptr() as u64;
        batch.values = values.as_mut_ptr() as u64;
        batch.count = keys.len() as u32;
        // SAFETY: the buffers hold `count` elements each, of the map's key and value sizes, and outlive the call.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_long, &raw mut attr, size_of::<bpf_attr>()) };
        let is_last = match result {
            0 => false,
            _ => match io::Error::last_os_error() {
                error if error.raw_os_error() == Some(libc::ENOENT) => true,
                error => return Err(error),
            },
        };
        // SAFETY: the member written above, with the count that the kernel put there.
        Ok(Batch { count: unsafe { attr.batch.count } as usize, is_last })
    }
}

struct Batch {
    count: usize,
    is_last: bool,
}

fn buffers<K, V>(capacity: usize) -> (Vec<MaybeUninit<K>>, Vec<MaybeUninit<V>>) {
    let mut keys = Vec::with_capacity(capacity);
    let mut values = Vec::with_capacity(capacity);
    keys.resize_with(capacity, MaybeUninit::uninit);
    values.resize_with(capacity, MaybeUninit::uninit);
    (keys, values)
}
