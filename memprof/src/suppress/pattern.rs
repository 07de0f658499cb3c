//! What a pattern of a suppression matches: as LeakSanitizer has it.

/// Whether a text has the pattern in it. `*` stands for anything; the pattern must be at the text's beginning if it begins with `^`, and at
/// its end if there is a `$`, which ends the pattern. An empty text has nothing in it.
///
/// Each part between two `*` is looked for where it is found first, and nowhere else: `b$` does not match `bb`.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    if text.is_empty() {
        return false;
    }
    let (is_anchored, pattern) = pattern.strip_prefix('^').map_or((false, pattern), |rest| (true, rest));
    let (body, is_to_end) = pattern.split_once('$').map_or((pattern, false), |(body, _)| (body, true));
    let mut rest = text;
    for (place, part) in body.split('*').enumerate() {
        match rest.find(part) {
            Some(found) if found == 0 || place > 0 || !is_anchored => rest = &rest[found + part.len()..],
            _ => return false,
        }
    }
    !is_to_end || rest.is_empty() || body.ends_with('*')
}
