//! What memprof costs its targets, and how that is kept below a limit. Pure: readings come in with their time.
//!
//! [`Prices`] makes processor time of counts of calls. A [`Governor`] decides when allocations of one process are observed:
//! within randomly placed windows, as long as the budget says. [`Scale`] makes estimates for the whole time of what was
//! observed in the windows.

mod governor;
mod prices;
mod scale;
#[cfg(test)]
mod tests;

pub use governor::{Governor, Probes, Wanted};
pub use prices::{Cost, Prices};
pub use scale::{Scale, Scaled};
