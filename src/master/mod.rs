//! The master's tower: `domain` decides, the adapters around it talk to the world.

pub mod domain;
pub mod inbox;
pub mod logs;
pub mod notices;
pub mod provisioner;
pub mod store;
pub mod user_data;
