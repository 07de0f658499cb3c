//! The executable in a root with nothing else: no libraries, no `/etc`, `/dev` or `/tmp`.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use super::{check::demand_leak, root::Root};
use crate::{
    demo,
    process::{self, output},
};

/// Where there is no `/etc/passwd`.
const USER: &str = "0";

/// Asks it for its version, whether this machine will do, and for a program's leak: launched in there, and attached to
/// out here.
pub(super) fn check(memprof: &Path) -> Result<()> {
    let (leak, leak_inside) = (demo::compile("leak")?, demo::compile_statically("leak")?);
    let root = Root { files: vec![memprof, &leak_inside], archive: None };
    let version = output(&mut root.command(["/memprof", "--version"])?)?;
    if version != concat!("memprof ", env!("CARGO_PKG_VERSION")) {
        bail!("its version is {version:?}");
    }
    process::run_quietly(&mut root.command(["/memprof", "doctor"])?)?;
    let report = output(&mut root.command(["/memprof", "--format", "json", "--", "/leak-static"])?)?;
    demand_leak(&report, USER).context("launched")?;
    demand_leak(&attached(&root, &leak)?, USER).context("attached to")
}

/// The last report on a leaking program outside, from before it allocates to its end.
fn attached(root: &Root, leak: &Path) -> Result<String> {
    let mut leak = Waiting::start(leak)?;
    let pid = leak.0.id().to_string();
    let mut memprof = root.command(["/memprof", "--verbose", "--format", "json", "--interval", "1h", "--pid", &pid])?;
    let mut memprof = memprof.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cannot run unshare")?;
    let mut said = BufReader::new(memprof.stderr.take().context("its standard error was taken")?);
    let mut heard = String::new();
    while !heard.contains("attached to process") {
        if said.read_line(&mut heard)? == 0 {
            bail!("memprof ended without attaching:\n{heard}");
        }
    }
    leak.go_on()?;
    // To its end, so that memprof has somebody to talk to.
    said.read_to_string(&mut heard)?;
    let output = memprof.wait_with_output()?;
    if !output.status.success() {
        bail!("memprof failed ({}):\n{heard}", output.status);
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The leaking program before it begins. It does not outlive this.
struct Waiting(Child);

impl Waiting {
    fn start(leak: &Path) -> Result<Self> {
        let child = Command::new(leak).arg("--wait").stdin(Stdio::piped()).spawn();
        Ok(Self(child.with_context(|| format!("cannot start {}", leak.display()))?))
    }

    fn go_on(&mut self) -> Result<()> {
        let mut stdin = self.0.stdin.take().context("it was told before")?;
        stdin.write_all(b"\n").context("it does not listen")?;
        self.0.wait().context("cannot wait for it")?;
        Ok(())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        // It can only fail when the program has ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
