//! The master's tower: `domain` decides, the adapters around it talk to the world.

pub mod agents;
pub mod caller;
pub mod certificates;
pub mod change_source;
pub mod commands;
pub mod config;
pub mod domain;
pub mod http;
pub mod inbox;
pub mod keys;
pub mod listener;
pub mod logs;
pub mod notices;
pub mod pipeline_file;
pub mod provisioner;
pub mod store;
pub mod user_data;
