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
pub mod event;
mod greetings;
mod instance_runs;
mod instances;
mod jobs;
mod launches;
mod notices;
pub mod pipeline;
mod pool;
mod reconcile;
mod requests;
#[cfg(test)]
mod rig;
mod scheduler;
pub mod settings;
pub mod snapshot;
mod spot;
mod steps;
pub mod steps_of_clock;
mod stopping;
mod timers;
mod workers;
