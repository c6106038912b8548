//! What several targets need: a runtime, a scratch directory, and bytes that do not compress.

use std::sync::OnceLock;

use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A runtime of this thread alone, for targets that drive asynchronous code.
pub fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
    })
}

/// A scratch directory. `fuzz/run` sees to it that it lies in memory, as the targets flush after each
/// few bytes, and that nothing is left of those which live as long as the process.
pub fn scratch() -> TempDir {
    TempDir::new().expect("a scratch directory")
}

/// Bytes that no compressor makes smaller, with a line feed now and then.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 24) as u8
    };
    (0..len).map(|_| next()).collect()
}
