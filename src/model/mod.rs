//! Floor 0: the nouns that master and agent share. No I/O, no serde, no tokio, no clock.
//!
//! Statuses and words are those of the glossary in ARCHITECTURE.md; each room that puts them on
//! a wire, into SQL, JSON or HTML converts at its own border.

pub mod attempt;
pub mod backoff;
pub mod ids;
pub mod inputs;
pub mod labels;
pub mod money;
pub mod secret;
pub mod status;
pub mod step;
pub mod time;
