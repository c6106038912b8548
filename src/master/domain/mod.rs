//! Floor 2: decides. Plain Rust without I/O, clock, randomness or `await`.
//!
//! `Coordinator::handle(now, event) -> Decision` and `next_timeout()` are its whole face. The
//! coordinator owns the state; what happens to each noun stands in the file named after it.

mod absence;
mod agents;
mod attempt_spec;
mod attempts;
pub mod autoscaler;
pub mod billing;
pub mod budget;
mod builds;
pub mod candidates;
mod changes;
mod concurrency;
pub mod coordinator;
pub mod decision;
mod dice;
pub mod doing;
pub mod entities;
mod equipment;
pub mod event;
pub mod forecast;
mod greetings;
mod groups;
mod homes;
mod idle;
mod instance_runs;
mod instances;
mod jobs;
mod launches;
mod learning;
mod look_ahead;
pub mod mail;
mod notices;
mod orphans;
pub mod pauses;
#[cfg(test)]
mod peers;
pub mod pipeline;
mod pool;
mod reconcile;
mod refusals;
mod requests;
#[cfg(test)]
mod rig;
mod scheduler;
pub mod settings;
pub mod snapshot;
mod spending;
mod spot;
mod steps;
pub mod steps_of_clock;
mod stopping;
mod timers;
pub mod wait_reason;
mod why_waiting;
mod workers;
