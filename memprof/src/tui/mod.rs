//! Reports on a terminal, live. The only user of ratatui.
//!
//! [`State`] is a pure function of the reports that came and the keys that were pressed, and what is drawn is one of the state; only
//! [`Screen`] touches the terminal.

mod cells;
mod courses;
mod draw;
mod filter;
mod frames;
mod header;
mod help;
mod keys;
mod layout;
mod listing;
mod mark;
mod overlay;
mod paint;
mod processes;
mod prompt;
mod sparkline;
mod stacks;
mod state;
mod table;
mod terminal;
#[cfg(test)]
mod tests;
mod wrap;

pub use self::{
    keys::Key,
    state::{Looks, State, Wish},
    terminal::{Refusal, Screen, require},
};
