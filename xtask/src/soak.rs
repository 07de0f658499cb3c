//! The soak: the gate's random traffic (`memprof/tests/live_soak.rs`), for as long as one likes.

use std::hash::{BuildHasher as _, RandomState};

use anyhow::{Result, ensure};

use crate::test;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How long it takes; in the gate it takes 3, from the same seed each time
    #[arg(long, value_name = "MINUTES", default_value_t = 30.0)]
    minutes: f64,
    /// The seed of the first round, which a failure tells; each other round's is the next number [default: a random number]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
}

/// Runs the test with the time and the seed that are asked for.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    ensure!(arguments.minutes.is_finite() && arguments.minutes > 0.0, "--minutes must be more than 0");
    let seconds = arguments.minutes * 60.0;
    let seed = arguments.seed.unwrap_or_else(|| RandomState::new().hash_one(0) >> 32);
    let variables = [("MEMPROF_SOAK_SECONDS", seconds.to_string()), ("MEMPROF_SOAK_SEED", seed.to_string())];
    test::run_with(&["--test", "live_soak", "--", "--nocapture"], &variables)
}
