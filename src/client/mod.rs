//! The command line's other half: what people type, and what they see.
//!
//! It speaks the REST API only, and knows the master from outside. `arguments` says what can be
//! typed (the master's own commands too, so that there is one page of help); each noun's file
//! carries its commands out; `exit` says with which code it ends.

pub mod arguments;
pub mod build_name;
pub mod exit;
pub mod moment;
pub mod screen;
pub mod table;
pub mod target;
