//! The terminal: entered, read, drawn on, and given back as it was, whatever happens.

use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal as _, Read as _, Stdout, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    sync::{
        Once,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::tz::TimeZone;
use ratatui::{
    Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::{Hide, Show},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
    layout::Rect,
};
use rustix::{
    process::{Signal, kill_current_process_group},
    termios::{InputModes, tcgetattr},
};
use tokio::{
    io::unix::AsyncFd,
    time::{Instant, timeout_at},
};

use super::{
    draw::draw,
    keys::{Decoder, Key},
    state::{Looks, State},
};
use crate::{readiness, wording::allows_colours};

/// What belongs to an escape character comes within this time, also from afar.
const WITHIN_A_KEY: Duration = Duration::from_millis(50);

/// Whether the terminal is another than it was.
static IS_ENTERED: AtomicBool = AtomicBool::new(false);

/// Why nothing can be shown.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// Nobody would see it.
    #[error(
        "top needs a terminal to show things on, and standard output is none; `memprof --pid PID` writes reports anywhere"
    )]
    NoTerminal,
    /// It cannot move its cursor.
    #[error("the terminal can show lines only (TERM={0}); `memprof --pid PID` writes reports to any terminal")]
    Dumb(String),
    /// There is nothing to read keys from.
    #[error("cannot read keys from the terminal: {0}; `memprof --pid PID` needs none")]
    NoKeys(io::Error),
}

/// Whether it can be shown what [`Screen`] shows. Changes nothing.
///
/// # Errors
/// Why not.
pub fn require() -> Result<(), Refusal> {
    if !io::stdout().is_terminal() {
        return Err(Refusal::NoTerminal);
    }
    let kind = std::env::var("TERM").unwrap_or_default();
    if kind.is_empty() || kind == "dumb" {
        return Err(Refusal::Dumb(kind));
    }
    open_keyboard().map(drop).map_err(Refusal::NoKeys)
}

/// An open file of memprof's own: that it does not block is nobody else's business.
fn open_keyboard() -> io::Result<File> {
    let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY).bits();
    File::options().read(true).custom_flags(flags.cast_signed()).open("/dev/tty")
}

impl Looks {
    /// What the environment says of the terminal.
    pub fn of_terminal() -> Self {
        Self { colour: allows_colours(), unicode: is_utf8(), time_zone: TimeZone::system() }
    }
}

/// As the locale has it; without one, as the terminal's driver has it.
fn is_utf8() -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(|name| std::env::var(name).ok());
    match locale.map(|value| value.to_lowercase()).find(|value| !value.is_empty()) {
        Some(locale) => locale.contains("utf-8") || locale.contains("utf8"),
        None => tcgetattr(io::stdout()).is_ok_and(|modes| modes.input_modes.contains(InputModes::IUTF8)),
    }
}

/// A terminal that shows a [`State`] and nothing else, until this is dropped.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    keyboard: AsyncFd<File>,
    decoder: Decoder,
    /// When what has come of a key is all of it.
    key_ends: Option<Instant>,
}

impl Screen {
    /// Takes the terminal over. Needs a tokio runtime.
    ///
    /// # Errors
    /// Those of the terminal.
    pub fn enter() -> io::Result<Self> {
        restore_on_panic();
        let keyboard = readiness::watch(open_keyboard()?)?;
        let terminal = Terminal::new(CrosstermBackend::new(BufWriter::new(io::stdout())))?;
        enter()?;
        let mut screen = Self { terminal, keyboard, decoder: Decoder::default(), key_ends: None };
        screen.forget()?;
        Ok(screen)
    }

    /// Draws what has changed.
    ///
    /// # Errors
    /// Those of the terminal.
    pub fn draw(&mut self, state: &mut State) -> io::Result<()> {
        self.terminal.autoresize()?;
        let size = self.terminal.size()?;
        state.resize(size.width, size.height);
        self.terminal.draw(|frame| {
            let area = frame.area();
            if let Some(position) = draw(state, area, frame.buffer_mut()) {
                frame.set_cursor_position(position);
            }
        })?;
        Ok(())
    }

    /// Draws everything next time, whatever the terminal shows now.
    ///
    /// # Errors
    /// Those of the terminal.
    pub fn forget(&mut self) -> io::Result<()> {
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::from(size))
    }

    /// Waits for keys. Can be dropped while it does.
    ///
    /// # Errors
    /// Those of the terminal, which may be gone.
    pub async fn keys(&mut self) -> io::Result<Vec<Key>> {
        loop {
            let mut ready = match self.key_ends {
                None => self.keyboard.readable().await?,
                Some(end) => match timeout_at(end, self.keyboard.readable()).await {
                    Ok(ready) => ready?,
                    Err(_) => {
                        self.key_ends = None;
                        return Ok(self.decoder.finish());
                    }
                },
            };
            let mut bytes = [0; 256];
            let keys = match ready.try_io(|keyboard| keyboard.get_ref().read(&mut bytes)) {
                Ok(Ok(0)) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the terminal is gone")),
                Ok(Ok(length)) => self.decoder.push(&bytes[..length]),
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => continue,
            };
            self.key_ends = self.decoder.is_waiting().then(|| Instant::now() + WITHIN_A_KEY);
            if !keys.is_empty() {
                return Ok(keys);
            }
        }
    }

    /// Stops this process and its group, as Ctrl-Z does. It goes on when somebody continues it.
    ///
    /// # Errors
    /// Those of the terminal.
    pub fn suspend(&mut self) -> io::Result<()> {
        leave();
        kill_current_process_group(Signal::TSTP)?;
        self.resume()
    }

    /// Takes the terminal over again: this process was stopped meanwhile, and others have used it.
    ///
    /// # Errors
    /// Those of the terminal.
    pub fn resume(&mut self) -> io::Result<()> {
        leave();
        enter()?;
        self.forget()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        leave();
    }
}

fn enter() -> io::Result<()> {
    enable_raw_mode()?;
    IS_ENTERED.store(true, Ordering::SeqCst);
    execute!(io::stdout(), EnterAlternateScreen, Hide)
}

/// Gives the terminal back, once. There is nobody to tell that this fails.
fn leave() {
    if IS_ENTERED.swap(false, Ordering::SeqCst) {
        let _ = execute!(io::stdout(), Show, LeaveAlternateScreen);
        let _ = io::stdout().flush();
        let _ = disable_raw_mode();
    }
}

/// Before a panic says what it has to say, it must be possible to read that.
fn restore_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            leave();
            previous(panic);
        }));
    });
}
