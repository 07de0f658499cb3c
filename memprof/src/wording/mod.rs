//! How names, figures and verdicts are put for people, the same in each place where they read them. A leaf: any stage may use it.

pub(crate) mod escape;
pub(crate) mod figures;
pub(crate) mod frames;
pub(crate) mod losses;
pub(crate) mod verdict;

/// Whether a terminal may be given colours: not if `NO_COLOR` says otherwise (<https://no-color.org>: empty, it says nothing), nor
/// if it knows none.
pub(crate) fn allows_colours() -> bool {
    let is =
        |name, forbids: fn(&str) -> bool| std::env::var_os(name).is_some_and(|value| forbids(&value.to_string_lossy()));
    !is("NO_COLOR", |value| !value.is_empty()) && !is("TERM", |kind| kind == "dumb")
}
