//! One try of a job: what the master hands to an agent, and what comes back.

use std::time::Duration;

use crate::model::ids::AttemptId;
use crate::model::ids::Commit;
use crate::model::ids::Fence;
use crate::model::ids::JobName;
use crate::model::ids::ProjectName;
use crate::model::ids::RefName;
use crate::model::secret::Secret;
use crate::model::step::StepSpec;
use crate::model::time::Timestamp;

/// Which try of a job a message is about. Both must match for a write to count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttemptRef {
    /// The attempt.
    pub attempt: AttemptId,
    /// The fence it was given out with.
    pub fence: Fence,
}

/// Everything an agent needs to carry out one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptSpec {
    /// Which attempt this is.
    pub id: AttemptRef,
    /// The project; workspaces are kept apart by it.
    pub project: ProjectName,
    /// The job's name.
    pub job: JobName,
    /// Variables for every step: `BUSYBEE_…`, the pool's, the pipeline's and the job's, later ones win.
    pub env: Vec<(String, String)>,
    /// The secrets that the job lists: variables of every step, hidden in what they print.
    pub secrets: Vec<SecretVariable>,
    /// What to check out first; nothing with `checkout: false`.
    pub checkout: Option<CheckoutSpec>,
    /// Whether a warm workspace is kept as it is instead of cleaned.
    pub keep_workspace: bool,
    /// The steps, in order. Step 0 of the log and of the results is the checkout, the first of these is 1.
    pub steps: Vec<StepSpec>,
    /// How long all of it may take, the checkout included.
    pub timeout: Duration,
    /// How long it may go on without word from the master.
    pub lease: Duration,
}

/// A secret, as a variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretVariable {
    /// The variable's name.
    pub name: String,
    /// Its value, or why there is none: then the attempt cannot be carried out.
    pub value: Result<Secret<String>, String>,
}

/// Which commit to fetch, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckoutSpec {
    /// The repository's URL or path, as configured.
    pub repo: String,
    /// What to check out.
    pub commit: Commit,
    /// The ref it was seen on: fetched whole where the server cannot serve the commit by itself.
    pub ref_name: RefName,
    /// For private repositories: used for one fetch, never in a file of the checkout.
    pub credential: GitCredential,
}

/// How git proves who it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GitCredential {
    /// A public repository.
    #[default]
    None,
    /// An HTTPS token (sent as a password).
    Token(Secret<String>),
    /// An OpenSSH private key and the `known_hosts` lines to trust.
    SshKey {
        /// The private key, as in its file.
        key: Secret<String>,
        /// The lines of the `known_hosts` file; empty: the machine's own.
        known_hosts: String,
    },
}

/// Whose bytes a log chunk holds. There is one log per owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LogOwner {
    /// A step of an attempt; step 0 is the checkout.
    Step {
        /// The attempt. Its fence is checked where the chunk arrives.
        attempt: AttemptRef,
        /// Counted from 0.
        step: u32,
    },
    /// The worker's bootstrap script. Whose it is says the connection.
    Boot,
}

/// A part of a log: one zstd frame of raw bytes, cut anywhere.
#[derive(Clone, PartialEq, Eq)]
pub struct LogChunk {
    /// Whose bytes these are.
    pub owner: LogOwner,
    /// Where in the raw log the first of them stands.
    pub offset: u64,
    /// How many raw bytes the frame holds; at most [`LOG_CHUNK_RAW_BYTES_MAX`].
    pub raw_len: u32,
    /// When the first of them was read, by the worker's clock.
    pub first_at: Timestamp,
    /// When the last of them was read, by the worker's clock.
    pub last_at: Timestamp,
    /// The bytes, as one zstd frame; at most [`LOG_CHUNK_BYTES_MAX`].
    pub frame: Vec<u8>,
}

impl std::fmt::Debug for LogChunk {
    /// Leaves the bytes out: they are a build's output, and long.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LogChunk({:?} at {} + {})", self.owner, self.offset, self.raw_len)
    }
}

/// A chunk's compressed size, at most: a Cancel never waits for more than one of these.
pub const LOG_CHUNK_BYTES_MAX: usize = 64 * 1024;

/// A chunk's size when decompressed, at most: the master's buffer for one.
pub const LOG_CHUNK_RAW_BYTES_MAX: usize = 1024 * 1024;

/// How an attempt ended, as its agent tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// Every step that had to pass did.
    Passed,
    /// A step failed or ran out of time.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// It could not be carried out; the sentence says why.
    Infra(String),
}
