//! The command line as people and scripts meet it: the real program against a master that says
//! what each test wants. What it prints, with which code it ends, and what it never does.

#![cfg(feature = "master")]

mod beginning;
mod builds;
mod doctor;
mod fake_master;
mod fleet;
mod help;
mod logs;
mod offline;
mod program;
mod reaching;
mod samples;
mod waiting;
