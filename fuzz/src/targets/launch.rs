//! What is read of a command before it starts: the first line of a script, and what its loader lists.

use memprof::target::launch::{parse_listing, parse_script_line};

pub(super) fn run(data: &[u8]) {
    parse_script_line(data);
    parse_listing(data);
}
