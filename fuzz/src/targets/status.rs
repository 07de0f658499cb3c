//! `/proc/PID/status` and `/proc/PID/stat`, which hold the command's name.

use memprof::target::{Stat, Status};

pub(super) fn run(data: &[u8]) {
    let status = Status::of(data.to_vec());
    let _ = (status.thread_group(), status.parent(), status.user(), status.memory());
    let _ = Stat::parse(data);
}
