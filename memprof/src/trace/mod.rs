//! Traced calls in an order in which they can have happened, each of them once. Pure.

mod order;
#[cfg(test)]
mod tests;

pub use order::Order;
