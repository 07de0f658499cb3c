//! Signals to memprof itself.

use std::io;

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};

/// The signals that mean something here.
pub(super) struct Signals {
    interrupt: unix::Signal,
    quit: unix::Signal,
    terminate: unix::Signal,
    hang_up: unix::Signal,
    report: unix::Signal,
}

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A report at once.
    Report,
    /// The end; of a launched command: to be passed on.
    End(Signal),
}

impl Signals {
    /// From now on none of them ends the process by itself.
    pub(super) fn catch() -> io::Result<Self> {
        Ok(Self {
            interrupt: unix::signal(SignalKind::interrupt())?,
            quit: unix::signal(SignalKind::quit())?,
            terminate: unix::signal(SignalKind::terminate())?,
            hang_up: unix::signal(SignalKind::hangup())?,
            report: unix::signal(SignalKind::user_defined1())?,
        })
    }

    /// Waits for one.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::End(Signal::INT),
            _ = self.quit.recv() => Asked::End(Signal::QUIT),
            _ = self.terminate.recv() => Asked::End(Signal::TERM),
            _ = self.hang_up.recv() => Asked::End(Signal::HUP),
            _ = self.report.recv() => Asked::Report,
        }
    }
}

/// Whether a launched command has had this signal already: what one types at a terminal goes to the whole foreground
/// process group.
pub(super) fn reaches_group(signal: Signal) -> bool {
    let typed = signal == Signal::INT || signal == Signal::QUIT;
    typed && rustix::termios::tcgetpgrp(rustix::stdio::stdin()).is_ok_and(|group| group == rustix::process::getpgrp())
}
