//! The small process that owns one running attempt, and outlives the agent.
//!
//! The agent starts its own program again as `busybee-agent step-supervisor DIR`. It has no network
//! and no async runtime: it waits in poll(2) for output, children, and the agent's wake FIFO, writes
//! spool and results, and ends everything that a step leaves behind.

mod checkout;
mod command;
mod descendants;
mod run;
mod spool;
mod stage;
mod sweep;
mod waiting;

pub use crate::agent::supervisor::run::StepsRunAs;
pub use crate::agent::supervisor::run::run;
