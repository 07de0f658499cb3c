//! Paths in text formats, which are Unicode: what is not UTF-8 is replaced.

use std::path::{Path, PathBuf};

use serde::{Serialize as _, Serializer};

/// Serializes a path.
pub(super) fn path<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    path.to_string_lossy().serialize(serializer)
}

/// Serializes a path that may be missing.
pub(super) fn optional_path<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|path| path.to_string_lossy()).serialize(serializer)
}
