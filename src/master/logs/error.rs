//! What can go wrong with a log, by who has to act on it.

use std::path::Path;

/// Why a log was not written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The agent sent what it must not: close its connection.
    #[error("{0}")]
    Refused(String),
    /// Our disk is full, broken or has lost something: do not acknowledge, and tell a person.
    #[error("{0}")]
    Disk(String),
}

impl LogError {
    /// The error of an operation on a file.
    pub(super) fn disk(verb: &str, path: &Path, error: &std::io::Error) -> LogError {
        LogError::Disk(format!("cannot {verb} {}: {error}", path.display()))
    }
}
