//! The master's tower: `domain` decides, the adapters around it talk to the world.

pub mod change_source;
pub mod config;
pub mod domain;
pub mod inbox;
pub mod notices;
pub mod pipeline_file;
