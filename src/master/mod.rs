//! The master's tower.

pub mod user_data;
