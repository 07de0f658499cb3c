//! The log that glibc's `mtrace(3)` writes (malloc/mtrace-impl.c there), for those who read it: glibc's own script `mtrace`, and
//! `memprof report`.
//!
//! Where a call comes from is `module:(symbol+offset)[address]`. What glibc has put in the brackets differs: the return address,
//! in older versions; then its distance from where the module is loaded. The script tries the number as it is, and with the place added to
//! which the loader maps the module just then. Here it is what `addr2line -e module` wants, whatever the module: the
//! address by the module's own count, of the last byte of the call. So the script finds the line of the call itself, and not
//! the next one.
//!
//! The script hands the module's path to a shell. A path is the target's to choose, and so all that a shell might take for
//! something else is written as `\ooo`, as the kernel does in `/proc/PID/maps`.

use std::{io, os::unix::ffi::OsStrExt as _, path::Path};

use crate::{
    model::{Caller, Deed, TraceEvent, address_for_lookup},
    render::escape::{is_unsafe, visible},
};

/// Writes what a log begins with.
pub(super) fn begin(output: &mut dyn io::Write) -> io::Result<()> {
    writeln!(output, "= Start")
}

/// Writes one event.
pub(super) fn event(event: &TraceEvent, output: &mut dyn io::Write) -> io::Result<()> {
    let caller = &event.caller;
    match event.deed {
        Deed::Allocated { address, size } => writeln!(from(caller, output)?, "+ {address:#x} {size:#x}"),
        Deed::Freed { address } => writeln!(from(caller, output)?, "- {address:#x}"),
        Deed::Resized { old, new, size } => {
            writeln!(from(caller, output)?, "< {old:#x}")?;
            writeln!(from(caller, output)?, "> {new:#x} {size:#x}")
        }
        Deed::NotResized { address, size } => writeln!(from(caller, output)?, "! {address:#x} {size:#x}"),
    }
}

/// Writes what a log ends with. What is no event is passed over by those who read it.
pub(super) fn end(remarks: &[String], output: &mut dyn io::Write) -> io::Result<()> {
    remarks.iter().try_for_each(|remark| writeln!(output, "# {}", visible(remark)))?;
    writeln!(output, "= End")
}

fn from<'a>(caller: &Caller, output: &'a mut dyn io::Write) -> io::Result<&'a mut dyn io::Write> {
    output.write_all(b"@ ")?;
    let address = match (&caller.module, caller.address_in_module) {
        (Some(module), Some(address)) => {
            path(module, output)?;
            output.write_all(b":")?;
            address
        }
        _ => caller.address,
    };
    if let Some((symbol, offset)) = caller.symbol.as_ref().filter(|(symbol, _)| is_word(symbol)) {
        write!(output, "({symbol}+{offset:#x})")?;
    }
    write!(output, "[{:#x}] ", address_for_lookup(address))?;
    Ok(output)
}

fn path(path: &Path, output: &mut dyn io::Write) -> io::Result<()> {
    for chunk in path.as_os_str().as_bytes().utf8_chunks() {
        for character in chunk.valid().chars() {
            let mut bytes = [0; 4];
            let bytes = character.encode_utf8(&mut bytes).as_bytes();
            if is_plain(character) { output.write_all(bytes)? } else { write_octal(bytes, output)? }
        }
        write_octal(chunk.invalid(), output)?;
    }
    Ok(())
}

fn is_plain(character: char) -> bool {
    let is_letter = !character.is_ascii() && !is_unsafe(character);
    character.is_ascii_alphanumeric() || "/._-+,=@%".contains(character) || is_letter
}

fn write_octal(bytes: &[u8], output: &mut dyn io::Write) -> io::Result<()> {
    bytes.iter().try_for_each(|byte| write!(output, "\\{byte:03o}"))
}

/// Whether a symbol can stand in a line that is read word by word.
fn is_word(symbol: &str) -> bool {
    symbol.bytes().all(|byte| byte.is_ascii_graphic() && !b":()[]".contains(&byte))
}
