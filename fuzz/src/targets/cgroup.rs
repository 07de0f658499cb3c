//! `/proc/PID/cgroup`: who may make cgroups names them.

use memprof::target::container_and_unit;

pub(super) fn run(data: &[u8]) {
    container_and_unit(&String::from_utf8_lossy(data));
}
