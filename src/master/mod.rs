//! The master's tower: `domain` decides, the adapters around it talk to the world.

pub mod commands;
pub mod domain;
pub mod inbox;
pub mod notices;
pub mod pipeline_file;
pub mod provisioner;
pub mod user_data;
