//! What the maps cost in kernel memory.

use std::os::fd::AsFd as _;

use aya::maps::{Map, MapData};

use super::fdinfo::FdInfo;

/// Bytes that the kernel accounts to a map. Nothing if it does not tell.
pub(super) fn of_map(map: &Map) -> Option<u64> {
    FdInfo::of(data_of(map)?.fd().as_fd()).number("memlock")
}

/// What is behind a map, of the kinds that memprof uses.
pub(super) fn data_of(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuHashMap(data)
        | Map::Queue(data)
        | Map::RingBuf(data) => Some(data),
        _ => None,
    }
}
