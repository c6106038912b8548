//! The agent's tower: the small program on a build machine.
//!
//! `app` wires; `event_loop` listens to the master (`channel`), to the supervisors' files
//! (`attempts`, `attempt_dir`) and to the time; `log_shipper` sends what steps print; `supervisor` is
//! a process of its own that owns a running attempt.

pub mod app;
pub mod attempt_dir;
mod attempts;
mod bootstrap;
pub mod channel;
pub mod config;
mod dead_man;
pub mod domain;
pub mod event_loop;
mod files;
pub mod identity;
mod instance_id;
mod interruptions;
mod life;
mod log_shipper;
mod machine;
mod metadata;
mod metadata_guard;
mod orphans;
mod privileges;
pub mod supervisor;
