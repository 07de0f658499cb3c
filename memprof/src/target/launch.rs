//! Which objects a command will map, before it is started: the probes must be in before its first allocation.

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    os::unix::{ffi::OsStrExt as _, fs::FileExt as _, fs::PermissionsExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use super::{LaunchError, ObjectTable};
use crate::{
    elf,
    model::ObjectId,
    regular_file::{descriptor_path, nothing, open_regular},
};

/// How many scripts may stand before the program, as in the kernel's `exec_binprm`.
const MOST_INTERPRETERS: usize = 4;

/// What `execvp(3)` gives a text file to that names no interpreter (POSIX requires it; env, nice and sudo do it).
const SHELL: &str = "/bin/sh";

/// How much of a script the kernel looks at (`BINPRM_BUF_SIZE`).
const SCRIPT_START_BYTES: usize = 256;

/// What the command will be given, as far as it decides what is mapped.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// All of its environment: `PATH`, `LD_PRELOAD` and `LD_LIBRARY_PATH` count.
    pub environment: Vec<(OsString, OsString)>,
    /// Its working directory.
    pub directory: PathBuf,
}

impl Surroundings {
    /// Those of this process, which a command that is started plainly inherits.
    ///
    /// # Errors
    /// Where the working directory is gone.
    pub fn own() -> io::Result<Self> {
        Ok(Self { environment: std::env::vars_os().collect(), directory: std::env::current_dir()? })
    }

    fn variable(&self, name: &str) -> Option<&OsStr> {
        self.environment.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_os_str())
    }
}

/// The objects that a command maps when it starts: the executable (of a script: its interpreter), its dynamic loader
/// and its libraries, entered in the table and open. Libraries that cannot be found are left to the loader to mourn.
///
/// # Errors
/// All of [`LaunchError`].
pub fn objects_of(
    program: &Path,
    surroundings: &Surroundings,
    objects: &mut ObjectTable,
) -> Result<Vec<ObjectId>, LaunchError> {
    let found = find_program(program, surroundings)?;
    let path = follow_interpreters(program, found, &surroundings.directory)?;
    let file = open_program(&path)?;
    let interpreter =
        elf::interpreter(&file).map_err(|source| LaunchError::NotAProgram { path: path.clone(), source })?;
    // Not by a symbolic link: `$ORIGIN` is the folder of what the kernel executes.
    let program = real_path(&file, &path);
    let libraries = match &interpreter {
        Some(loader) => list_libraries(loader, &program, surroundings),
        None => Vec::new(),
    };
    let mut ids = vec![objects.insert_opened(&program, file)];
    for path in interpreter.into_iter().chain(libraries) {
        let path = surroundings.directory.join(path);
        let Ok(file) = open_regular(&path) else { continue };
        let id = objects.insert_opened(&real_path(&file, &path), file);
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    Ok(ids)
}

/// The file that `execvp(3)` would take, its path absolute.
///
/// # Errors
/// [`LaunchError::NotFound`], [`LaunchError::NotExecutable`], [`LaunchError::IsDirectory`].
pub fn find_program(program: &Path, surroundings: &Surroundings) -> Result<PathBuf, LaunchError> {
    if program.as_os_str().as_bytes().contains(&b'/') {
        check_executable(program, &surroundings.directory)?;
        return Ok(surroundings.directory.join(program));
    }
    which::which_in(program, surroundings.variable("PATH"), &surroundings.directory)
        .map_err(|_| LaunchError::NotFound(program.into()))
}

fn check_executable(program: &Path, directory: &Path) -> Result<(), LaunchError> {
    let metadata = directory.join(program).metadata().map_err(|error| unreadable(program.into(), error))?;
    if metadata.is_dir() {
        Err(LaunchError::IsDirectory(program.into()))
    } else if metadata.permissions().mode() & 0o111 == 0 {
        Err(LaunchError::NotExecutable(program.into()))
    } else {
        Ok(())
    }
}

fn unreadable(path: PathBuf, source: io::Error) -> LaunchError {
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => LaunchError::NotFound(path),
        io::ErrorKind::PermissionDenied => LaunchError::NotExecutable(path),
        _ => LaunchError::Unreadable { path, source },
    }
}

fn open_program(path: &Path) -> Result<File, LaunchError> {
    open_regular(path).map_err(|error| unreadable(path.into(), error))
}

/// From script to interpreter, until there is a program.
fn follow_interpreters(program: &Path, found: PathBuf, directory: &Path) -> Result<PathBuf, LaunchError> {
    let (mut script, mut path) = (program.to_owned(), found);
    for _ in 0..=MOST_INTERPRETERS {
        let Some(interpreter) = script_interpreter(&path)? else { return Ok(path) };
        check_executable(&interpreter, directory)
            .map_err(|source| LaunchError::Interpreter { script, source: Box::new(source) })?;
        path = directory.join(&interpreter);
        script = interpreter;
    }
    Err(LaunchError::TooManyInterpreters(program.into()))
}

fn script_interpreter(path: &Path) -> Result<Option<PathBuf>, LaunchError> {
    let mut start = [0; SCRIPT_START_BYTES];
    let length = open_program(path)?
        .read_at(&mut start, 0)
        .map_err(|source| LaunchError::Unreadable { path: path.into(), source })?;
    let start = &start[..length];
    Ok(parse_script_line(start).or_else(|| is_text(start).then(|| SHELL.into())))
}

/// Whether a file that the kernel does not execute is for the shell: text has no null byte in its first line.
fn is_text(start: &[u8]) -> bool {
    let first_line = start.split(|byte| *byte == b'\n').next().unwrap_or_default();
    !start.starts_with(b"\x7fELF") && !first_line.contains(&0)
}

/// The interpreter in a script's first line, as `load_script` in the kernel's `fs/binfmt_script.c` finds it.
pub fn parse_script_line(start: &[u8]) -> Option<PathBuf> {
    let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
    let interpreter = line.trim_ascii_start().split(|byte| matches!(byte, b' ' | b'\t' | 0)).next()?;
    (!interpreter.is_empty()).then(|| OsStr::from_bytes(interpreter).into())
}

/// Asks the command's own dynamic loader, as `ldd` does: nobody else knows its search rules. It runs no code of the
/// program or its libraries.
fn list_libraries(loader: &Path, program: &Path, surroundings: &Surroundings) -> Vec<PathBuf> {
    let (Ok(input), Ok(errors)) = (nothing(), nothing()) else { return Vec::new() };
    let listing = Command::new(loader)
        .arg("--list")
        .arg(program)
        .env_clear()
        .envs(surroundings.environment.iter().map(|(name, value)| (name, value)))
        .current_dir(&surroundings.directory)
        .stdin(input)
        .stderr(errors)
        .output();
    listing.map(|output| parse_listing(&output.stdout)).unwrap_or_default()
}

/// The paths in a loader's list: those with a directory, behind `=>` or alone. The vdso, `not found` and
/// `statically linked` are none.
pub fn parse_listing(listing: &[u8]) -> Vec<PathBuf> {
    listing.split(|byte| *byte == b'\n').filter_map(parse_listed).collect()
}

fn parse_listed(line: &[u8]) -> Option<PathBuf> {
    let place = match line.windows(4).position(|window| window == b" => ") {
        Some(arrow) => &line[arrow + 4..],
        None => line,
    };
    let load_address = place.windows(4).rposition(|window| window == b" (0x").unwrap_or(place.len());
    let path = place[..load_address].trim_ascii();
    (path.contains(&b'/') && !path.ends_with(b":")).then(|| OsStr::from_bytes(path).into())
}

/// The path without symbolic links, as the process's mappings will have it.
fn real_path(file: &File, path: &Path) -> PathBuf {
    std::fs::read_link(descriptor_path(file)).unwrap_or_else(|_| path.into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use std::fs;

    use super::*;

    fn paths(listing: &str) -> Vec<String> {
        parse_listing(listing.as_bytes()).iter().map(|path| path.to_str().unwrap().into()).collect()
    }

    #[test]
    fn glibcs_list_gives_the_libraries_and_the_loader() {
        let listing = "\tlinux-vdso.so.1 (0x00007f2453f40000)\n\
            \tlibselinux.so.1 => /lib/x86_64-linux-gnu/libselinux.so.1 (0x00007f2453edb000)\n\
            \t/opt/with space/preloaded.so (0x00007f2453e00000)\n\
            \tlibgone.so.3 => not found\n\
            \t/lib64/ld-linux-x86-64.so.2 (0x00007f2453f42000)\n";
        let expected =
            ["/lib/x86_64-linux-gnu/libselinux.so.1", "/opt/with space/preloaded.so", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(paths(listing), expected);
    }

    #[test]
    fn musls_list_gives_the_libc_that_is_the_loader() {
        let listing = "\t/lib/ld-musl-x86_64.so.1 (0x7f0000000000)\n\
            \tlibc.musl-x86_64.so.1 => /lib/ld-musl-x86_64.so.1 (0x7f0000000000)\n";
        assert_eq!(paths(listing), ["/lib/ld-musl-x86_64.so.1"; 2]);
    }

    #[test]
    fn what_lists_nothing_gives_nothing() {
        assert!(paths("\tstatically linked\n").is_empty());
        assert!(paths("/bin/program: error while loading:\n").is_empty());
        assert!(paths("").is_empty());
        assert!(paths(" => \n =>\n(0x\n").is_empty());
    }

    #[test]
    fn the_first_line_of_a_script_names_its_interpreter() {
        let interpreter = |line: &str| parse_script_line(line.as_bytes()).map(|path| path.to_str().unwrap().to_owned());
        assert_eq!(interpreter("#!/bin/sh\necho"), Some("/bin/sh".into()));
        assert_eq!(interpreter("#! \t/usr/bin/env python3\n"), Some("/usr/bin/env".into()));
        assert_eq!(interpreter("#!/bin/sh"), Some("/bin/sh".into()));
        assert_eq!(interpreter("#!\n/bin/sh"), None);
        assert_eq!(interpreter("\x7fELF"), None);
    }

    fn script(directory: &Path, name: &str, content: &str) -> PathBuf {
        let path = directory.join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn scripts_are_followed_as_far_as_the_kernel_does() {
        let directory = tempfile::tempdir().unwrap();
        let mut path = PathBuf::from("/bin/true");
        for level in 0..=MOST_INTERPRETERS {
            let found = follow_interpreters(&path, path.clone(), directory.path());
            assert_eq!(found.unwrap(), Path::new("/bin/true"), "through {level} scripts");
            path = script(directory.path(), &format!("level{level}"), &format!("#!{}\n", path.display()));
        }
        let error = follow_interpreters(&path, path.clone(), directory.path()).unwrap_err();
        assert!(matches!(error, LaunchError::TooManyInterpreters(_)));
    }

    #[test]
    fn what_cannot_be_launched_is_refused_with_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let plain = directory.path().join("plain");
        fs::write(&plain, "text").unwrap();
        let binary = script(directory.path(), "binary", "no\0program\n");
        let orphan = script(directory.path(), "orphan", "#!/no/such/shell -e\n");
        let launch = |program: &Path| {
            let error = objects_of(program, &Surroundings::own().unwrap(), &mut ObjectTable::new()).unwrap_err();
            format!("{:#}", anyhow::Error::new(error)).replace(directory.path().to_str().unwrap(), "DIR")
        };
        assert_eq!(launch(Path::new("no-such-command")), "no-such-command: command not found");
        assert_eq!(launch(&directory.path().join("gone")), "DIR/gone: command not found");
        assert_eq!(launch(directory.path()), "DIR: is a directory");
        assert_eq!(launch(&plain), "DIR/plain: not executable (permission denied)");
        assert_eq!(launch(&binary), "DIR/binary: not a program: not an ELF file");
        assert_eq!(launch(&orphan), "DIR/orphan: bad interpreter: /no/such/shell: command not found");
    }

    #[test]
    fn text_without_an_interpreter_is_the_shells() {
        let directory = tempfile::tempdir().unwrap();
        for content in ["echo\n", "# no program\n\0\n", "", "#!\n"] {
            let path = script(directory.path(), "text", content);
            assert_eq!(
                follow_interpreters(&path, path.clone(), directory.path()).unwrap(),
                Path::new(SHELL),
                "{content:?}"
            );
        }
    }

    #[test]
    fn path_and_directory_are_the_commands_own() {
        let directory = tempfile::tempdir().unwrap();
        script(directory.path(), "tool", "#!/bin/true\n");
        let path = directory.path().as_os_str().to_owned();
        let surroundings =
            Surroundings { environment: vec![("PATH".into(), path)], directory: directory.path().into() };
        let expected = directory.path().join("tool");
        assert_eq!(find_program(Path::new("tool"), &surroundings).unwrap(), expected);
        assert_eq!(find_program(Path::new("./tool"), &surroundings).unwrap(), directory.path().join("./tool"));
        assert!(find_program(Path::new("true"), &surroundings).is_err());
    }
}
