//! One JSON object for each call. Fields are only ever added.

use std::io;

use serde::Serialize;

use crate::{
    model::{Deed, TraceEvent},
    render::{json::FrameView, json_line},
};

const SCHEMA: &str = "memprof.trace/1";

#[derive(Serialize)]
struct EventView<'a> {
    schema: &'static str,
    time: String,
    elapsed_seconds: f64,
    pid: u32,
    tid: u32,
    /// `alloc`, `free`, `realloc`, or `realloc_failed`, which leaves the block as it is.
    event: &'static str,
    /// The block that is there since; of `free` the one that is not, of `realloc_failed` the one that stays.
    address: String,
    /// Only of `realloc`: the block that is void.
    #[serde(skip_serializing_if = "Option::is_none")]
    old_address: Option<String>,
    /// Bytes requested; not of `free`.
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// What the return address lies in, innermost first: several where functions were inlined.
    caller: Vec<FrameView<'a>>,
    /// The whole stack, where that was asked for and is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    frames: Option<Vec<FrameView<'a>>>,
}

/// Writes one event.
pub(super) fn event(event: &TraceEvent, output: &mut dyn io::Write) -> io::Result<()> {
    let (name, address, old_address) = match event.deed {
        Deed::Allocated { address, .. } => ("alloc", address, None),
        Deed::Freed { address } => ("free", address, None),
        Deed::Resized { old, new, .. } => ("realloc", new, Some(old)),
        Deed::NotResized { address, .. } => ("realloc_failed", address, None),
    };
    let view = EventView {
        schema: SCHEMA,
        time: event.time.to_string(),
        elapsed_seconds: event.elapsed.as_secs_f64(),
        pid: event.thread.pid,
        tid: event.thread.tid,
        event: name,
        address: format!("{address:#x}"),
        old_address: old_address.map(|address| format!("{address:#x}")),
        size: event.deed.size(),
        caller: event.caller.frames.iter().map(Into::into).collect(),
        frames: event.stack.as_ref().map(|stack| stack.iter().map(Into::into).collect()),
    };
    json_line::write(&view, output)
}
