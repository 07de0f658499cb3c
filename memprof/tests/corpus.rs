//! Each fuzz target once on each input that is kept: what was found once stays found. `cargo xtask fuzz` looks for more.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]
#![allow(unreachable_pub, missing_docs, reason = "the targets are a crate of their own")]

#[path = "../../fuzz/src/targets/mod.rs"]
mod targets;

use std::{collections::BTreeSet, fs, path::Path};

#[test]
fn every_kept_input_is_survived() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let names: BTreeSet<_> = fs::read_dir(&corpora).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, targets::ALL.iter().map(|(name, _)| (*name).into()).collect());
    for (name, target) in targets::ALL {
        let inputs = fs::read_dir(corpora.join(name)).unwrap().map(|entry| entry.unwrap().path());
        let inputs: Vec<_> = inputs.collect();
        assert!(inputs.len() >= 3, "{name}");
        for input in inputs {
            eprintln!("{}", input.display());
            target(&fs::read(&input).unwrap());
        }
        target(&[]);
    }
}
