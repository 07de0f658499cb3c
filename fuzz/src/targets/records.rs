//! Records from the kernel's rings: their bytes are the kernel's, and the names in them the target's.

pub(super) fn run(data: &[u8]) {
    let _ = memprof::kernel::decode_record(data);
    let _ = memprof::kernel::decode_notice(data);
}
