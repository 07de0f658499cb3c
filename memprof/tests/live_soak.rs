//! A soak: random traffic that knows what it does, in rounds, each with another way to observe it. At random moments, a report must say what
//! the traffic did: to the unit, or within what is counted as lost; and memprof does not grow.
//!
//! It takes three minutes, or as many seconds as `MEMPROF_SOAK_SECONDS` says. A round is decided by its seed, as far as threads allow: the
//! first one's is `MEMPROF_SOAK_SEED`, or the same each time, and each other one's is the next number. `cargo xtask soak` sets both.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed step is a failed test")]

mod soak;
mod support;

use std::{
    str::FromStr,
    time::{Duration, Instant},
};

use soak::{MODES, Round, compile};

const USUAL_SECONDS: f64 = 180.0;

const USUAL_SEED: u64 = 1;

/// The seconds that a round takes at most.
const LONGEST_ROUND: f64 = 600.0;

#[test]
fn what_random_traffic_does_is_reported_or_counted_as_lost() {
    let seconds: f64 = variable("MEMPROF_SOAK_SECONDS").unwrap_or(USUAL_SECONDS);
    let first: u64 = variable("MEMPROF_SOAK_SEED").unwrap_or(USUAL_SEED);
    let traffic = compile();
    let rounds = (seconds / LONGEST_ROUND).ceil().max(MODES.len() as f64) as u32;
    let start = Instant::now();
    for index in 0..rounds {
        let round = Round::of(first + u64::from(index));
        let minutes = seconds / 60.0;
        // Told before it begins: a failure is repeated by it.
        eprintln!("{round}\n  again: cargo xtask soak --minutes {minutes} --seed {}", round.seed);
        let deadline = start + Duration::from_secs_f64(seconds * f64::from(index + 1) / f64::from(rounds));
        eprintln!("  {}", round.run(&traffic, deadline));
    }
}

/// What a variable of the environment says.
fn variable<T: FromStr>(name: &str) -> Option<T> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}
