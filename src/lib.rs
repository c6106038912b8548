//! Busybee: a CI system whose build machines exist only while there is work.

#[cfg(feature = "master")]
pub mod master;
pub mod model;
