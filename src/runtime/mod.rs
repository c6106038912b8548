//! Floor 1: process plumbing that both programs need.

pub mod clock;
pub mod random;
