//! `memprof completions`.

use std::io::{self, Write as _};

use clap::{Arg, Args, Command, ValueHint};
use clap_complete::Shell;

#[derive(Args, Debug)]
pub(super) struct Completions {
    /// The shell that is to complete
    #[arg(value_enum)]
    shell: Shell,
}

impl Completions {
    /// Writes the script. That nobody reads it is no error.
    pub(super) fn write(&self, command: &Command) -> io::Result<()> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut completed(command), "memprof", &mut script);
        match io::stdout().write_all(&script) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written,
        }
    }
}

/// The command as shells see it: without what is hidden, and with each value's kind, which its name tells.
fn completed(command: &Command) -> Command {
    let shown = command.get_subcommands().filter(|subcommand| !subcommand.is_hide_set());
    Command::new("memprof")
        .version(env!("CARGO_PKG_VERSION"))
        .args(command.get_arguments().cloned().map(hinted))
        .subcommands(shown.map(|subcommand| subcommand.clone().mut_args(hinted)))
}

fn hinted(argument: Arg) -> Arg {
    if !argument.get_action().takes_values() || !argument.get_possible_values().is_empty() {
        return argument;
    }
    let names = argument.get_value_names().unwrap_or_default();
    let hint = match names.first().map(|name| name.as_str()) {
        Some("FILE") => ValueHint::FilePath,
        Some("DIR") => ValueHint::DirPath,
        Some("COMMAND") => ValueHint::CommandWithArguments,
        _ => ValueHint::Other,
    };
    argument.value_hint(hint)
}
