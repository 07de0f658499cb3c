//! Whose a process is.

use std::{
    collections::BTreeMap,
    fs, io,
    sync::{Mutex, PoisonError},
};

use nix::unistd::{Uid, User};

use super::{cgroup::container_and_unit, status::Status};
use crate::model::Identity;

/// Looks up whose a process is. User names are those of this machine, whatever a container calls its users.
///
/// # Errors
/// Those of reading `/proc/PID/status`: the process is gone, most likely.
pub fn identity(pid: u32) -> io::Result<Identity> {
    let user = Status::read(pid)?.user().map(user_name);
    let cgroup = fs::read(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let (container, unit) = container_and_unit(&String::from_utf8_lossy(&cgroup));
    Ok(Identity { user, container, unit })
}

/// How many names are remembered.
const MOST_NAMES: usize = 256;

/// Names that were looked up, which may take a directory service its time.
static NAMES: Mutex<BTreeMap<u32, String>> = Mutex::new(BTreeMap::new());

/// The name, or the number where there is none.
fn user_name(user: u32) -> String {
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if names.len() == MOST_NAMES && !names.contains_key(&user) {
        names.clear();
    }
    names.entry(user).or_insert_with(|| look_up(user)).clone()
}

fn look_up(user: u32) -> String {
    let passwd = fs::read("/etc/passwd").unwrap_or_default();
    let name = name_in(&String::from_utf8_lossy(&passwd), user).or_else(|| name_by_service(user));
    name.unwrap_or_else(|| user.to_string())
}

/// As passwd(5) has it: `name:password:number:…`.
fn name_in(passwd: &str, user: u32) -> Option<String> {
    let mut entries = passwd.lines().map(|line| line.split(':'));
    entries.find_map(|mut entry| {
        let name = entry.next().filter(|name| !name.is_empty())?;
        (entry.nth(1)?.parse() == Ok(user)).then(|| name.to_owned())
    })
}

/// What directory services know. A static executable asks none: glibc would load the machine's libraries into it, which fit
/// no other glibc than their own.
fn name_by_service(user: u32) -> Option<String> {
    if cfg!(target_feature = "crt-static") {
        return None;
    }
    User::from_uid(Uid::from_raw(user)).ok().flatten().map(|known| known.name)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed step is a failed test")]

    use super::*;

    #[test]
    fn users_have_names_or_numbers() {
        assert_eq!(user_name(0), "root");
        for _ in 0..2 {
            assert_eq!(user_name(4_000_000_123), "4000000123");
        }
        (4_000_000_000..4_000_001_000).for_each(|user| assert_eq!(user_name(user), user.to_string()));
        assert!(NAMES.lock().unwrap().len() <= MOST_NAMES);
    }

    #[test]
    fn names_are_read_from_passwd() {
        let passwd = "# a comment\n\nroot:x:0:0:root:/root:/bin/sh\n:x:7:7::/:\nbroken:x\nalice:x:1000:100:A, B:/home/alice:\n\
                      also-alice:x:1000:100:::\n+::::::\n";
        let name = |user| name_in(passwd, user);
        assert_eq!(name(0).as_deref(), Some("root"));
        assert_eq!(name(1000).as_deref(), Some("alice"));
        assert_eq!(name(7), None);
        assert_eq!(name(100), None);
        assert_eq!(name_in("", 0), None);
    }

    #[test]
    fn this_process_is_its_users() {
        let user = user_name(rustix::process::geteuid().as_raw());
        assert_eq!(identity(std::process::id()).unwrap().user, Some(user));
        assert!(identity(u32::MAX).is_err());
    }
}
