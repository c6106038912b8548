//! Floor 1: process plumbing that both programs need.

pub mod clock;
#[cfg(feature = "master")]
pub mod config_file;
pub mod random;
