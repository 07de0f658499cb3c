//! Logs of mtrace.

use memprof::saved::Saved;

pub(super) fn run(data: &[u8]) {
    let log = [b"= Start\n".as_slice(), data].concat();
    if let Ok(Saved::Log(log)) = memprof::saved::read_bytes(&log, &super::pprof::LIMITS) {
        super::reports::write_everywhere(
            &log.map_frames(|callers| callers.iter().map(super::reports::frame_of).collect()),
        );
    }
}
