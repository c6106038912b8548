//! The master's tower: `domain` decides, the adapters around it talk to the world.

pub mod caller;
pub mod domain;
pub mod http;
pub mod inbox;
pub mod logs;
pub mod notices;
pub mod store;
