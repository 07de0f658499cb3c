//! Logs by hand and by chance.
#![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::path::Path;

use proptest::prelude::*;

use super::{line::path, *};

const LOG: &str = "= Start
@ ./p:[0x11fa] + 0x1000 0x64
@ ./p:(main+0x20)[0x1210] + 0x2000 0x15
@ ./p:[0x1222] < 0x1000
@ ./p:[0x1222] > 0x3000 0xc8
@ ./p:[0x124d] ! 0x3000 0x4000000000000000
@ /lib/x86_64-linux-gnu/libc.so.6:(__strdup+1a)[0x9e9aa] + 0x4000 0x6
@ ./p:[0x12cc] + (nil) 0x4000000000000000
@ ./p:[0x12ba] - 0x2000
@ ./p:[0x12ba] - 0x2000
- 0x5000
@ [0x7f00] + 0x6000 0x1
@ ./p:[0x11fa] + 0x6000 0x2
nonsense
# 3 frees were not recorded
= End
";

fn snapshot(log: &str) -> Snapshot<Caller> {
    read(log.as_bytes()).unwrap()
}

fn outstanding(snapshot: &Snapshot<Caller>) -> Vec<(u64, u64, u64)> {
    let stacks = snapshot.processes[0].stacks.iter();
    stacks.map(|stack| (stack.frames[0].address, stack.outstanding.bytes, stack.outstanding.allocations)).collect()
}

#[test]
fn what_was_not_freed_stays_with_its_caller() {
    let snapshot = snapshot(LOG);
    let expected = [(0x11fa, 2, 1), (0x1210, 0, 0), (0x1222, 200, 1), (0x9e9aa, 6, 1), (0x7f00, 0, 0)];
    assert_eq!(outstanding(&snapshot), expected);
    let process = &snapshot.processes[0];
    assert_eq!(process.command, "p");
    assert_eq!(process.outstanding, Outstanding { bytes: 208, allocations: 3 });
    let Totals { allocations, allocated_bytes, frees, freed_bytes } = process.totals;
    assert_eq!((allocations, allocated_bytes, frees, freed_bytes), (6, 330, 3, 122));
    assert_eq!(process.peak.outstanding, Outstanding { bytes: 227, allocations: 3 });
    assert_eq!(process.stacks[1].at_peak, Outstanding { bytes: 21, allocations: 1 });
    assert_eq!(process.selected_stacks, 3);
}

#[test]
fn doubts_are_told_with_their_first_lines() {
    let warnings: Vec<_> = snapshot(LOG).warnings.iter().skip(1).map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "the log says: 3 frees were not recorded",
            "2 frees in the log are of blocks that it has not allocated, or has freed before: line 10 (0x2000 at ./p:[0x12ba]), \
             line 11 (0x5000)",
            "1 blocks were allocated again in the log without a free, which is missing: line 13 (0x6000 at ./p:[0x11fa])",
            "1 lines of the log are not understood, and left out: line 14",
        ]
    );
}

#[test]
fn a_place_may_be_anything_with_an_address() {
    let of = |place: &str| {
        let Caller { address, module, symbol, .. } = caller(place.as_bytes());
        (module.map(|path| path.display().to_string()), symbol, address)
    };
    let text = |text: &str| Some(text.to_owned());
    assert_eq!(of("[0x10]"), (None, None, 0x10));
    assert_eq!(of("/a b:(c)/d:(f+0x2)[0x10]"), (text("/a b:(c)/d"), Some(("f".to_owned(), 2)), 0x10));
    assert_eq!(of(r"/a\040b\:[0x10]"), (text(r"/a b\"), None, 0x10));
    assert_eq!(of("./p:(+0x1189)[0x55551189]"), (text("./p"), Some((String::new(), 0x1189)), 0x5555_1189));
    assert_eq!(of("./p:[0x]"), (None, None, 0));
    assert_eq!(of(""), (None, None, 0));
}

#[test]
fn what_is_no_log_is_none() {
    assert!(!looks_like_log(b"") && !looks_like_log(b"\x1f\x8b") && !looks_like_log(b"hello + 0x10 0x20"));
    assert!(looks_like_log(b"= Start\n") && looks_like_log(b"@ ./p:[0x1] + 0x10 0x20") && looks_like_log(b"- 0x10"));
    assert!(read(b"= Start\n").is_ok());
    assert!(read(b"nothing\nof it\n").is_err());
}

proptest! {
    /// Whatever stands in it, a log gives figures that fit together.
    #[test]
    fn any_bytes_can_be_read(lines in prop::collection::vec(line(), 0..60)) {
        let bytes = lines.join(&b'\n');
        if let Ok(snapshot) = read(&bytes) {
            let process = &snapshot.processes[0];
            let held: u64 = process.stacks.iter().map(|stack| stack.outstanding.allocations).sum();
            prop_assert_eq!(held, process.outstanding.allocations);
            prop_assert_eq!(held, process.totals.allocations - process.totals.frees);
            prop_assert!(process.peak.outstanding.bytes >= process.outstanding.bytes);
        }
    }

    #[test]
    fn a_path_is_what_was_escaped(name in "[ -~]{0,20}") {
        let escaped: String = name.bytes().map(|byte| format!("\\{byte:03o}")).collect();
        prop_assert_eq!(path(escaped.as_bytes()), Path::new(&name));
    }
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    let place =
        prop_oneof![Just("".to_owned()), "@ [ -~]{0,12} ", "@ m:[(]f[+]0x[0-9a-f]{1,3}[)][\\[]0x[0-9a-f]{1,16}[\\]] "];
    let event = prop_oneof!["[+>!] 0x[1-8] 0x[0-9a-f]{1,17}", "[-<] 0x[1-8]", "[ -~]{0,10}"];
    prop_oneof![
        9 => (place, event).prop_map(|(place, event)| (place + &event).into_bytes()),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ]
}
