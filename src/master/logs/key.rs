//! Whose log it is, and where its file lies.

use std::fmt;
use std::path::Path;
use std::path::PathBuf;

use crate::model::attempt::LogOwner;
use crate::model::ids::AttemptId;
use crate::model::ids::WorkerName;

/// Attempts whose logs share a folder: with three steps each some 3,000 files, which every file
/// system still lists quickly.
const ATTEMPTS_PER_FOLDER: u64 = 1000;

/// Whose log it is. There is one log per key, and one file per log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogKey {
    /// A step of an attempt; step 0 is the checkout.
    Step {
        /// The attempt.
        attempt: AttemptId,
        /// Counted from 0.
        step: u32,
    },
    /// The bootstrap script of a worker.
    Boot(WorkerName),
}

impl LogKey {
    /// Whose log a chunk belongs to that came on `worker`'s connection.
    pub fn of(owner: LogOwner, worker: &WorkerName) -> LogKey {
        match owner {
            LogOwner::Step { attempt, step } => LogKey::Step { attempt: attempt.attempt, step },
            LogOwner::Boot => LogKey::Boot(worker.clone()),
        }
    }

    /// The log's file under `folder`, the one of all logs.
    pub(super) fn path(&self, folder: &Path) -> PathBuf {
        match self {
            LogKey::Step { attempt, step } => folder
                .join("steps")
                .join((attempt.0 / ATTEMPTS_PER_FOLDER).to_string())
                .join(format!("{attempt}-{step}.zst")),
            LogKey::Boot(worker) => {
                let digest = ring::digest::digest(&ring::digest::SHA256, worker.0.as_bytes());
                let shard = format!("{:02x}", digest.as_ref()[0]);
                folder.join("boot").join(shard).join(format!("{}.zst", file_name(&worker.0)))
            }
        }
    }
}

/// A worker's name as a file's: what is not a plain character becomes its hex bytes.
fn file_name(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    name.bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") })
        .collect()
}

impl fmt::Display for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogKey::Step { attempt, step } => write!(f, "log of step {step} of attempt {attempt}"),
            LogKey::Boot(worker) => write!(f, "boot log of worker {worker}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_worker_leads_out_of_the_folder_or_to_another_workers_log() {
        let path = |name: &str| LogKey::Boot(name.into()).path(Path::new("logs"));
        for name in ["../../etc/passwd", "a/b", "", ".", "w-1", "w%2d1", "W-1"] {
            let path = path(name);
            assert_eq!(path.components().count(), 4, "{}", path.display());
            assert!(path.starts_with("logs/boot"), "{}", path.display());
        }
        assert_ne!(path("a/b"), path("a%2fb"));
    }

    #[test]
    fn a_step_of_an_attempt_has_its_own_file_among_those_of_its_thousand() {
        let key = LogKey::Step { attempt: AttemptId(1234567), step: 3 };
        assert_eq!(key.path(Path::new("logs")), Path::new("logs/steps/1234/1234567-3.zst"));
    }
}
