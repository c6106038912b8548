//! The master's own commands: one file per command.
//!
//! Each answers with what to print, or with a sentence on why it cannot.

pub mod check;
pub mod demo;
pub mod doctor;
pub mod findings;
pub mod init;
pub mod pipeline;
pub mod reap;
mod sample;
pub mod serve;
mod throwaway;
pub mod trial;
pub mod user_data;
