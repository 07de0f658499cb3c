//! Many of everything: live blocks, pairs of calls a second, libraries.

mod blocks;
mod libraries;
mod target;
mod watching;

use anyhow::Result;
use serde::Serialize;

use super::{Arguments, builds::Builds};

#[derive(Serialize)]
pub(super) struct Figures {
    blocks: Option<blocks::Figures>,
    libraries: Vec<libraries::Figures>,
}

const ALL: [&str; 2] = ["blocks", "libraries"];

/// Measures, and prints each table as it is ready.
pub(super) fn measure(arguments: &Arguments, builds: &Builds) -> Result<Figures> {
    let wants = |name: &str| arguments.wants(name, &ALL);
    let libraries = if wants("libraries") { libraries::measure(arguments, builds)? } else { Vec::new() };
    let blocks = wants("blocks").then(|| blocks::measure(arguments, builds)).transpose()?;
    Ok(Figures { blocks, libraries })
}
