//! Where changes come from: git repositories, asked from time to time or poked.

pub mod remote;
pub mod source;
