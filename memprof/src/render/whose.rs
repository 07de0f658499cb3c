//! Whose a process is, for people. What comes from the process's surroundings is made visible ([`crate::wording::escape`]).

use super::escape::visible;
use crate::model::Identity;

/// Digits of a container's id that people use.
const SHOWN_DIGITS: usize = 12;

/// What follows a pid in parentheses: `, redis, container 0123456789ab, redis.service`.
pub(super) fn whose(identity: &Identity) -> String {
    let container = container(identity).map(|id| format!("container {id}"));
    let known = [user(identity), container, unit(identity)].into_iter().flatten();
    known.map(|text| format!(", {text}")).collect()
}

/// The user's name.
pub(super) fn user(identity: &Identity) -> Option<String> {
    identity.user.as_deref().map(|user| visible(user).into_owned())
}

/// The container's id in short, or its name.
pub(super) fn container(identity: &Identity) -> Option<String> {
    let id = identity.container.as_deref()?;
    let is_long = id.len() > SHOWN_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some(visible(if is_long { &id[..SHOWN_DIGITS] } else { id }).into_owned())
}

/// The unit, if it is not just the container's.
pub(super) fn unit(identity: &Identity) -> Option<String> {
    let is_containers = |unit: &&str| identity.container.as_deref().is_some_and(|id| unit.contains(id));
    identity.unit.as_deref().filter(|unit| !is_containers(unit)).map(|unit| visible(unit).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    fn said(user: Option<&str>, container: Option<&str>, unit: Option<&str>) -> String {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        whose(&Identity { user: owned(user), container: owned(container), unit: owned(unit) })
    }

    #[test]
    fn what_is_known_is_said() {
        assert_eq!(said(None, None, None), "");
        assert_eq!(said(Some("redis"), None, Some("redis.service")), ", redis, redis.service");
        assert_eq!(said(Some("0"), Some(ID), Some("nginx.service")), ", 0, container 0123456789ab, nginx.service");
        assert_eq!(said(Some("root"), Some("web-server-17"), None), ", root, container web-server-17");
    }

    #[test]
    fn a_unit_that_only_repeats_the_container_is_not_said() {
        assert_eq!(said(None, Some(ID), Some(&format!("docker-{ID}.scope"))), ", container 0123456789ab");
    }

    #[test]
    fn a_name_gives_the_terminal_no_orders() {
        let hostile = "\u{1b}]0;owned\u{7}";
        assert!(!said(Some(hostile), Some(hostile), Some(hostile)).chars().any(char::is_control));
    }
}
