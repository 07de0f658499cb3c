//! What the maps cost in kernel memory.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
};

use aya::maps::{Map, MapData};

/// Bytes that the kernel accounts to a map: `memlock` in its `/proc/self/fdinfo`. Nothing if it cannot be read.
pub(super) fn of_map(map: &Map) -> Option<u64> {
    let path = format!("/proc/self/fdinfo/{}", data_of(map)?.fd().as_fd().as_raw_fd());
    parse_memlock(&fs::read_to_string(path).ok()?)
}

fn data_of(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data)
        | Map::HashMap(data)
        | Map::PerCpuArray(data)
        | Map::PerCpuHashMap(data)
        | Map::RingBuf(data) => Some(data),
        _ => None,
    }
}

fn parse_memlock(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix("memlock:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memlock_is_one_line_of_many() {
        assert_eq!(parse_memlock("pos:\t0\nmap_type:\t1\nmemlock:\t25165824\nmap_id:\t7\n"), Some(25_165_824));
        assert_eq!(parse_memlock("pos:\t0\n"), None);
    }
}
