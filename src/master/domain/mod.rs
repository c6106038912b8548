//! Floor 2: decides. Plain Rust without I/O, clock, randomness or `await`.
//!
//! `Coordinator::handle(now, event) -> Decision` and `next_timeout()` are its whole face; the
//! machines behind it own one noun each.

pub mod decision;
pub mod entities;
pub mod event;
pub mod pipeline;
pub mod settings;
pub mod snapshot;
