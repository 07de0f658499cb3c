//! How the values of options are read, and what is said of those that make no sense.

use std::time::Duration;

use bytesize::ByteSize;
use clap::builder::RangedI64ValueParser;

use crate::model::{OverheadLimit, Sampling};

pub(super) fn period(text: &str) -> Result<Duration, String> {
    let duration = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if duration.is_zero() { Err("it must be longer than nothing".into()) } else { Ok(duration) }
}

pub(super) fn table_size() -> RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=1 << 28)
}

pub(super) fn size(text: &str) -> Result<ByteSize, String> {
    text.parse().map_err(|_| "it must be a number and a unit, such as 512B, 4KiB or 1.5MiB".into())
}

pub(super) fn ring_size(text: &str) -> Result<ByteSize, String> {
    size_within(text, ByteSize::kib(4), ByteSize::gib(1))
}

pub(super) fn unwind_memory(text: &str) -> Result<ByteSize, String> {
    size_within(text, ByteSize::kib(4), ByteSize::gib(2))
}

pub(super) fn sample_rate(text: &str) -> Result<ByteSize, String> {
    size_within(text, ByteSize::b(1), ByteSize(Sampling::MAX_BYTES))
}

pub(super) fn overhead_limit(text: &str) -> Result<OverheadLimit, String> {
    let percent = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>().ok();
    let limit = percent.and_then(|percent| OverheadLimit::of_share(percent / 100.0));
    limit.ok_or_else(|| "it must be a percentage above 0 and up to 99, such as 5%".into())
}

fn size_within(text: &str, least: ByteSize, greatest: ByteSize) -> Result<ByteSize, String> {
    let size = size(text)?;
    if (least..=greatest).contains(&size) { Ok(size) } else { Err(format!("it must be from {least} to {greatest}")) }
}
