//! A frame in words. All names are made visible ([`super::escape`]).

use std::borrow::Cow;

use super::escape::{visible, visible_path};
use crate::model::{Frame, Source};

/// The function's name, and whether it was inlined.
pub(crate) fn function(frame: &Frame) -> Cow<'_, str> {
    let name = frame.function.as_deref().map_or(Cow::Borrowed("[unknown]"), visible);
    if frame.inlined { Cow::Owned(format!("{name} (inlined)")) } else { name }
}

/// The most that is known of where a frame is: source, or else object and offset, or else its address.
pub(crate) fn location(frame: &Frame) -> String {
    match (&frame.source, &frame.module, frame.offset_in_file) {
        (Some(source), _, _) => source_location(source),
        (None, Some(module), Some(offset)) => format!("{}+{offset:#x}", visible_path(module)),
        (None, Some(module), None) => format!("{} {:#x}", visible_path(module), frame.address),
        (None, None, _) => format!("{:#x}", frame.address),
    }
}

/// `file:line`
pub(crate) fn source_location(source: &Source) -> String {
    let file = visible_path(&source.file);
    source.line.map_or_else(|| file.clone(), |line| format!("{file}:{line}"))
}
