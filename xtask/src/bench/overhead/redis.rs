//! A redis-server under load from redis-benchmark: on a port of its own on 127.0.0.1, and ended by its own command.

use std::{
    fs,
    net::TcpListener,
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result};

use crate::{
    bench::{builds::Builds, launched::Launched},
    process::run_quietly,
};

/// How a server is to be started, and where it listens.
pub(super) struct Redis {
    port: u16,
    pub(super) configuration: PathBuf,
}

impl Redis {
    /// A port that was free a moment ago.
    pub(super) fn new(builds: &Builds) -> Result<Self> {
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).context("no port is free")?.port();
        let configuration = builds.scratch("redis.conf");
        let text = format!("bind 127.0.0.1\nport {port}\nsave \"\"\nappendonly no\ndaemonize no\n");
        fs::write(&configuration, text).context("cannot write a configuration for redis-server")?;
        Ok(Self { port, configuration })
    }

    /// The nanoseconds that so many requests took. The server ends after that.
    pub(super) fn load(&self, launched: &mut Launched, requests: u64) -> Result<u64> {
        launched.hear(|line| line.contains("Ready to accept connections").then_some(()))?;
        let start = Instant::now();
        let mut benchmark = self.client("redis-benchmark");
        benchmark.args(["-t", "set", "-r", "10000", "-d", "100", "-c", "10", "-q", "-n", &requests.to_string()]);
        run_quietly(&mut benchmark)?;
        let elapsed = start.elapsed();
        run_quietly(self.client("redis-cli").args(["shutdown", "nosave"]))?;
        Ok(elapsed.as_nanos() as u64)
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string()]).stdout(Stdio::null());
        command
    }
}
