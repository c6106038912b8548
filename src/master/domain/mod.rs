//! Floor 2: decides. Plain Rust without I/O, clock, randomness or `await`.
//!
//! `Coordinator::handle(now, event) -> Decision` and `next_timeout()` are its whole face. The
//! coordinator owns the state; what happens to each noun stands in the file named after it.

mod absence;
mod agents;
mod attempt_spec;
mod attempts;
pub mod autoscaler;
mod builds;
mod changes;
pub mod coordinator;
pub mod decision;
mod dice;
pub mod entities;
mod equipment;
pub mod event;
mod greetings;
mod instances;
mod jobs;
mod launches;
pub mod mail;
pub mod pipeline;
mod pool;
mod reconcile;
mod requests;
#[cfg(test)]
mod rig;
mod scheduler;
pub mod settings;
pub mod snapshot;
mod steps;
pub mod steps_of_clock;
mod timers;
mod workers;
