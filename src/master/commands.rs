//! The master's commands that need no running master: one file per command.
//!
//! Each answers with what to print, or with a sentence on why it cannot.

pub mod findings;
pub mod init;
pub mod pipeline;
