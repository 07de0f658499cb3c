//! Names of symbols. A few bytes can stand for many.

pub(super) fn run(data: &[u8]) {
    if let Ok(name) = std::str::from_utf8(data) {
        assert!(memprof::symbols::demangle(name).len() <= 1 << 16);
    }
}
