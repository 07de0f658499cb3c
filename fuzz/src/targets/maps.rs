//! `/proc/PID/maps`, and what becomes of the mappings.

use memprof::{model::Timestamp, target::executable_mappings};

pub(super) fn run(data: &[u8]) {
    for mapping in executable_mappings(data, 1, Timestamp(1)) {
        assert!(mapping.addresses.start < mapping.addresses.end);
    }
}
