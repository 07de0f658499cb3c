//! What capturing a stack costs: each stack, each pair of calls, the tables, and the cache of rules.

mod cache;
mod pair;
mod stacks;
mod tables;

use anyhow::Result;
use serde::Serialize;

use super::{Arguments, builds::Builds};

#[derive(Serialize)]
pub(super) struct Figures {
    stacks: Vec<stacks::Figures>,
    pair: Option<pair::Figures>,
    tables: Vec<tables::Figures>,
    cache: Option<cache::Figures>,
}

const ALL: [&str; 4] = ["stacks", "pair", "tables", "cache"];

/// Measures, and prints each table as it is ready.
pub(super) fn measure(arguments: &Arguments, builds: &Builds) -> Result<Figures> {
    let wants = |name: &str| arguments.wants(name, &ALL);
    let wants_variants = |name: &str| wants(name) && builds.has_variants();
    if !builds.has_variants() {
        eprintln!("only tables can be measured: the others need a compiler for BPF (`cargo xtask setup --ebpf`)");
    }
    let stacks = if wants_variants("stacks") { stacks::measure(arguments, builds)? } else { Vec::new() };
    let pair = wants_variants("pair").then(|| pair::measure(arguments, builds)).transpose()?;
    let tables = if wants("tables") { tables::measure(builds)? } else { Vec::new() };
    let cache = wants_variants("cache").then(|| cache::measure(arguments, builds)).transpose()?;
    Ok(Figures { stacks, pair, tables, cache })
}
