//! What becomes of a log chunk before anybody looks at the log: whose it is, and whether it may still
//! grow.

use std::time::Duration;

use crate::master::agents::rules::rights::Right;
use crate::master::agents::rules::rights::Rights;
use crate::model::attempt::AttemptRef;
use crate::model::attempt::LogChunk;
use crate::model::attempt::LogOwner;

/// A boot log, in raw bytes at most. A bootstrap script that prints more is stuck in a loop; its
/// beginning says more than its end.
pub const BOOT_LOG_BYTES_MAX: u64 = 64 << 20;

/// A step's log, in raw bytes at most: what the agent's spool holds (1 GiB, a marker and a tail),
/// and then some. It only ever stops an agent that is not ours.
pub const STEP_LOG_BYTES_MAX: u64 = (1 << 30) + (16 << 20);

/// How often it is looked whether a disk that would not take a log has room again: a full disk is
/// not emptied sooner, and each try costs the agent a window of chunks.
pub const DISK_PAUSE: Duration = Duration::from_secs(1);

/// What to do with a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Append it, if the log ends where it begins.
    Append,
    /// Drop it; it is of an attempt that is not this worker's.
    Stale {
        /// The attempt to forget, unless the agent was just told.
        tell: Option<AttemptRef>,
    },
    /// Throw it away, as if it were kept: its log is as long as it may be.
    Full,
    /// Cut the agent off: no agent of ours does that.
    Cut,
}

/// How long the log of this owner may become.
pub fn bytes_max(owner: LogOwner) -> u64 {
    match owner {
        LogOwner::Step { .. } => STEP_LOG_BYTES_MAX,
        LogOwner::Boot => BOOT_LOG_BYTES_MAX,
    }
}

/// Where a chunk ends in its log.
pub fn end_of(chunk: &LogChunk) -> u64 {
    chunk.offset + u64::from(chunk.raw_len)
}

/// Judges a chunk that came on a connection with these rights.
pub fn judge(rights: &mut Rights, chunk: &LogChunk) -> Verdict {
    if let LogOwner::Step { attempt, step } = chunk.owner {
        match rights.right(attempt, step) {
            Right::Write => {}
            Right::Refused { tell } => return Verdict::Stale { tell: tell.then_some(attempt) },
            Right::NoSuchStep => return Verdict::Cut,
        }
    }
    match end_of(chunk) > bytes_max(chunk.owner) {
        true => Verdict::Full,
        false => Verdict::Append,
    }
}
