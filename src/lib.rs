//! Busybee: CI whose build machines exist only while there is work.
//!
//! Deeper is purer. `master` and `agent` are two towers over one cellar and never meet; see
//! ARCHITECTURE.md for the map.

#[cfg(feature = "agent")]
pub mod agent;
#[cfg(feature = "master")]
pub mod api;
#[cfg(feature = "master")]
pub mod client;
#[cfg(feature = "master")]
pub mod master;
pub mod model;
pub mod runtime;
pub mod wire;
