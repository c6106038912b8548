//! Floor 1: process plumbing that both programs need.

pub mod clock;
#[cfg(feature = "master")]
pub mod config_file;
#[cfg(feature = "master")]
pub mod digest;
pub mod private_file;
pub mod random;
pub mod signals;
pub mod tcp;
pub mod tls;
#[cfg(feature = "master")]
pub mod together;
