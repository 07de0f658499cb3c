//! What a sweep has seen from outside, as a part of the JSON object ([`super::json`]).

use serde::Serialize;

use super::growth_json::GrowthView;
use crate::model::{Ranking, Watched};

#[derive(Serialize)]
pub(super) struct RankingView<'a> {
    seconds: f64,
    processes: usize,
    growing: usize,
    suspects: Vec<WatchedView<'a>>,
    others: Vec<WatchedView<'a>>,
    /// Of the suspects, as `memprof growth` has it.
    growth: Option<GrowthView<'a>>,
}

#[derive(Serialize)]
struct WatchedView<'a> {
    pid: u32,
    command: &'a str,
    user: Option<&'a str>,
    container: Option<&'a str>,
    unit: Option<&'a str>,
    /// In RAM and swapped out.
    anonymous_bytes: u64,
    swapped_bytes: u64,
    file_bytes: u64,
    shared_bytes: u64,
    /// These are of the anonymous memory.
    course: &'static str,
    growth_bytes_per_second: f64,
    change_bytes: i64,
    lowest_bytes: u64,
    highest_bytes: u64,
    seconds: f64,
    points: usize,
}

impl<'a> From<&'a Ranking> for RankingView<'a> {
    fn from(ranking: &'a Ranking) -> Self {
        Self {
            seconds: ranking.elapsed.as_secs_f64(),
            processes: ranking.processes,
            growing: ranking.growing,
            suspects: ranking.suspects.iter().map(Into::into).collect(),
            others: ranking.others.iter().map(Into::into).collect(),
            growth: ranking.growth.as_ref().map(Into::into),
        }
    }
}

impl<'a> From<&'a Watched> for WatchedView<'a> {
    fn from(watched: &'a Watched) -> Self {
        let Watched { pid, command, identity, memory, trend } = watched;
        Self {
            pid: *pid,
            command,
            user: identity.user.as_deref(),
            container: identity.container.as_deref(),
            unit: identity.unit.as_deref(),
            anonymous_bytes: memory.all_anonymous(),
            swapped_bytes: memory.swapped,
            file_bytes: memory.file,
            shared_bytes: memory.shared,
            course: trend.course.name(),
            growth_bytes_per_second: trend.bytes_per_second,
            change_bytes: trend.change_bytes,
            lowest_bytes: trend.lowest,
            highest_bytes: trend.highest,
            seconds: trend.span.as_secs_f64(),
            points: trend.points,
        }
    }
}
