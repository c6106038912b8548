//! The only source of randomness.

use ring::rand::SecureRandom;

/// Random bytes fit for keys.
///
/// # Panics
/// If the kernel has no randomness to give, in which case nothing here could be safe.
pub fn bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    ring::rand::SystemRandom::new().fill(&mut bytes).expect("the kernel gives random bytes");
    bytes
}

/// A random number: seeds, jitter.
pub fn number() -> u64 {
    u64::from_le_bytes(bytes())
}
