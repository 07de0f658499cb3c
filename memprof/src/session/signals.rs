//! Signals to memprof itself.

use std::io;

use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};

/// The signals that mean something here.
pub(super) struct Signals {
    interrupt: unix::Signal,
    quit: unix::Signal,
    terminate: unix::Signal,
    // None under nohup(1): then neither this process nor a launched command minds.
    hang_up: Option<unix::Signal>,
    report: unix::Signal,
    ignored: Vec<Signal>,
}

/// Caught in any case: a shell has the first two ignored by what it starts in the background, which is to report all the same.
const CAUGHT: [Signal; 4] = [Signal::INT, Signal::QUIT, Signal::TERM, Signal::USR1];

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
        let ignored = CAUGHT.into_iter().filter(|signal| is_ignored(*signal)).collect();
        Ok(Self {
            ignored,
            interrupt: unix::signal(SignalKind::interrupt())?,
            quit: unix::signal(SignalKind::quit())?,
            terminate: unix::signal(SignalKind::terminate())?,
            hang_up: if is_ignored(Signal::HUP) { None } else { Some(unix::signal(SignalKind::hangup())?) },
            report: unix::signal(SignalKind::user_defined1())?,
        })
    }

    /// Those that this process catches, though whoever started it had them ignored: as they are for a launched command.
    pub(super) fn ignored(&self) -> &[Signal] {
        &self.ignored
    }

    /// Waits for one.
    pub(super) async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::End(Signal::INT),
            _ = self.quit.recv() => Asked::End(Signal::QUIT),
            _ = self.terminate.recv() => Asked::End(Signal::TERM),
            _ = received(&mut self.hang_up) => Asked::End(Signal::HUP),
            _ = self.report.recv() => Asked::Report,
        }
    }
}

async fn received(signal: &mut Option<unix::Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Whether whoever started this process had the signal ignored.
fn is_ignored(signal: Signal) -> bool {
    // SAFETY: all zeroes is a `sigaction` with no handler and an empty mask.
    let mut action = unsafe { std::mem::zeroed::<libc::sigaction>() };
    // SAFETY: with a null pointer for the new action it only writes the old one to `action`.
    let result = unsafe { libc::sigaction(signal.as_raw(), std::ptr::null(), &raw mut action) };
    result == 0 && action.sa_sigaction == libc::SIG_IGN
}

/// Whether a launched command has had this signal already: what one types at a terminal goes to the whole foreground
/// process group.
pub(super) fn reaches_group(signal: Signal) -> bool {
    let typed = signal == Signal::INT || signal == Signal::QUIT;
    typed && rustix::termios::tcgetpgrp(rustix::stdio::stdin()).is_ok_and(|group| group == rustix::process::getpgrp())
}
