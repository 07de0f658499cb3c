//! The pictures in the README, from a real run: a made-up server (`xtask/demo/server.c`) under memprof, its flame graph, and
//! its page and `memprof top` as a browser shows them.

mod ansi;
mod browser;
mod terminal;

use std::{
    fs,
    path::Path,
    process::{Child, Command},
};

use anyhow::{Context as _, Result};

use self::browser::{Colours, photograph};
use crate::{
    demo,
    process::{self, build_memprof, privileged, root, target_directory},
    setup,
};

/// How long the server runs: so long that its cache has filled, and that it is known what grows.
const SECONDS: &str = "45";

/// Installs what it takes, and replaces what is in `docs/pictures/`.
pub(crate) fn run() -> Result<()> {
    setup::install_for_pictures()?;
    let memprof = build_memprof()?;
    // Where paths in the pictures say nothing of who made them.
    let place = tempfile::tempdir().context("cannot create a folder")?;
    let server = place.path().join("server");
    fs::copy(demo::compile("server")?, &server).context("cannot copy the server")?;
    let pictures = root().join("docs/pictures");
    let folder = target_directory().join("pictures");
    [&pictures, &folder].into_iter().try_for_each(fs::create_dir_all).context("cannot create folders")?;

    let (page, graph) = (folder.join("page.html"), pictures.join("flamegraph.svg"));
    let mut command = privileged(&memprof)?;
    command.arg("--output").arg(&page).arg("--output").arg(&graph).arg("--").arg(&server).arg(SECONDS);
    process::run(&mut command)?;
    photograph(&page, (1280, 1220), Colours::Light, &pictures.join("page.png"))?;
    photograph(&page, (1280, 1220), Colours::Dark, &pictures.join("page-dark.png"))?;

    let screen = folder.join("top.html");
    let server = Server::start(&server)?;
    terminal::draw(&memprof, server.0.id(), &screen)?;
    photograph(&screen, terminal::PIXELS, Colours::Dark, &pictures.join("top.png"))
}

/// The server in the background, until this is dropped.
struct Server(Child);

impl Server {
    fn start(program: &Path) -> Result<Self> {
        let child = Command::new(program).arg("600").spawn();
        Ok(Self(child.with_context(|| format!("cannot start {}", program.display()))?))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It can only fail when the program has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
