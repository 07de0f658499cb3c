//! QEMU, and the daemon that serves it the host's files. Both end with this program, and at a time limit.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::process::{is_on_path, privileged};

/// Where distributions have it. It runs as root, since the guest's programs do.
const DAEMONS: [&str; 2] = ["/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd"];

const QEMU: &str = "qemu-system-x86_64";
const MEMORY: &str = "4G";

/// Nobody waits for a guest whose kernel failed; emulation is too slow for the watchdogs.
const KERNEL_COMMAND_LINE: &str =
    "console=ttyS0 quiet loglevel=4 oops=panic panic=-1 nowatchdog rcupdate.rcu_cpu_stall_suppress=1";

/// A guest that runs.
pub(super) struct Machine {
    qemu: Process,
    // After QEMU, since it ends by itself when QEMU does.
    files: Process,
}

impl Machine {
    /// Starts a kernel. The socket, through which QEMU speaks with the daemon, must not exist.
    pub(super) fn boot(kernel: &Path, initramfs: &Path, socket: &Path, limit: Duration) -> Result<Self> {
        if !is_on_path(QEMU) {
            bail!("{QEMU} is missing: `cargo xtask setup --vm` installs it");
        }
        let files = serve_files(socket, limit)?;
        let mut qemu = limited(QEMU, limit)?;
        // In one thread: with more, a processor was seen to execute kernel code that another one had patched before.
        qemu.args(["-machine", "q35,memory-backend=memory", "-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2"]);
        qemu.args(["-m", MEMORY, "-object", &format!("memory-backend-memfd,id=memory,size={MEMORY},share=on")]);
        qemu.args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"]);
        qemu.arg("-chardev").arg(format!("socket,id=files,path={}", socket.display()));
        qemu.args(["-device", "vhost-user-fs-pci,chardev=files,tag=host"]);
        qemu.arg("-kernel").arg(kernel).arg("-initrd").arg(initramfs).args(["-append", KERNEL_COMMAND_LINE]);
        let qemu = Process::start(qemu.stdin(Stdio::null()).stdout(Stdio::piped()))?;
        Ok(Self { qemu, files })
    }

    /// What the guest prints. To be asked for once.
    pub(super) fn console(&mut self) -> Result<impl BufRead + use<>> {
        let stdout: ChildStdout = self.qemu.0.stdout.take().context("QEMU's output was taken before")?;
        Ok(BufReader::new(stdout))
    }

    /// Waits for the end of both processes.
    pub(super) fn wait(mut self) -> Result<()> {
        self.qemu.0.wait().context("cannot wait for QEMU")?;
        self.files.0.wait().context("cannot wait for virtiofsd")?;
        Ok(())
    }
}

fn serve_files(socket: &Path, limit: Duration) -> Result<Process> {
    let Some(daemon) = DAEMONS.into_iter().find(|path| Path::new(path).exists()) else {
        bail!("virtiofsd is missing: install the package qemu-system-common, or virtiofsd where there is one");
    };
    let mut command = limited(daemon, limit)?;
    command.arg(format!("--socket-path={}", socket.display()));
    command.args(["-o", "source=/", "-o", "cache=always", "-o", "sandbox=chroot"]);
    let daemon = Process::start(command.stdin(Stdio::null()).stderr(Stdio::null()))?;
    let start = Instant::now();
    while !socket.exists() {
        if start.elapsed() > Duration::from_secs(10) {
            bail!("virtiofsd does not come up");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(daemon)
}

/// A command that runs as root, ends when this program does, and after some time.
fn limited(program: &str, limit: Duration) -> Result<Command> {
    let mut command = privileged("setpriv")?;
    command.args(["--pdeathsig", "TERM", "timeout", "--kill-after=5", &limit.as_secs().to_string(), program]);
    Ok(command)
}

/// A process that does not outlive this.
struct Process(Child);

impl Process {
    fn start(command: &mut Command) -> Result<Self> {
        Ok(Self(command.spawn().with_context(|| format!("cannot run {}", command.get_program().display()))?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // `timeout` passes it on, and so does sudo.
            let _ = privileged("kill").map(|mut kill| kill.arg(self.0.id().to_string()).status());
            let _ = self.0.wait();
        }
    }
}
