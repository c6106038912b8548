//! The master's commands that need no running master: one file per command. Each answers with
//! what to print, or with a sentence on why it cannot.

pub mod demo;
pub mod init;
mod sample;
pub mod serve;
