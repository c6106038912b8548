//! The messages of the agent channel, in the model's words. `convert.rs` turns them into protobuf.
//!
//! Worker identity comes from the connection alone, never from a field of a message.

use std::time::Duration;

use crate::model::attempt::AttemptOutcome;
use crate::model::attempt::AttemptRef;
use crate::model::attempt::AttemptSpec;
use crate::model::attempt::LogChunk;
use crate::model::attempt::LogOwner;
use crate::model::step::StepOutcome;
use crate::model::time::Timestamp;

/// What an agent says.
#[derive(Clone, Debug, PartialEq)]
pub enum FromAgent {
    /// The first message of a connection, and the only one before Welcome.
    Hello(Hello),
    /// What it has; the first message after Welcome.
    Inventory(Inventory),
    /// Its regular word.
    Heartbeat(Heartbeat),
    /// The bootstrap script ended.
    BootstrapResult {
        /// How; a pass makes the worker ready.
        outcome: StepOutcome,
        /// How many bytes its log holds.
        log_bytes: u64,
        /// The last lines it printed, at most [`TAIL_BYTES_MAX`] bytes.
        tail: String,
    },
    /// The attempt is in its hands, durably.
    AttemptAccepted(AttemptRef),
    /// It will not take the attempt.
    AttemptRejected {
        /// Which.
        attempt: AttemptRef,
        /// Why; for people.
        sentence: String,
    },
    /// A step started.
    StepStarted {
        /// Of which attempt.
        attempt: AttemptRef,
        /// Which; 0 is the checkout.
        step: u32,
        /// When, by the worker's clock.
        started_at: Timestamp,
    },
    /// A part of a log.
    LogChunk(LogChunk),
    /// A step ended. Sent again after every reconnect until its attempt is forgotten.
    StepResult(StepResult),
    /// An attempt ended. Sent again after every reconnect until it is forgotten.
    AttemptResult {
        /// Which.
        attempt: AttemptRef,
        /// How.
        outcome: AttemptOutcome,
    },
    /// Something the master should know (memory, disk, spot); for people.
    Notice(String),
    /// The cloud takes its machine away soon. Sent again after every reconnect.
    Interruption {
        /// How long the machine is there at least.
        ends_in: Duration,
        /// What the cloud says; for people.
        sentence: String,
    },
    /// It ends for good.
    Goodbye {
        /// Why; for people.
        sentence: String,
    },
}

/// What the master says.
#[derive(Clone, Debug, PartialEq)]
pub enum FromMaster {
    /// The greeting was accepted.
    Welcome(Welcome),
    /// Run this bootstrap script, then send `BootstrapResult`. Idempotent.
    Bootstrap(Bootstrap),
    /// Carry out this attempt; idempotent: the same again is answered Accepted again and runs once.
    RunAttempt(Box<AttemptSpec>),
    /// End an attempt. May come before RunAttempt.
    Cancel(AttemptRef),
    /// Forget an attempt and its files: its result is here, or it is stale.
    Forget(AttemptRef),
    /// This much of a log is durable here.
    LogAck {
        /// Whose log.
        owner: LogOwner,
        /// Bytes below this offset may be deleted by the agent.
        durable_offset: u64,
        /// Set when a chunk did not start at the expected offset: send on from here.
        rewind_to: Option<u64>,
    },
    /// A heartbeat arrived. The lease of a running attempt counts anew from the sending of that heartbeat.
    HeartbeatAck {
        /// The number of the heartbeat this answers.
        heartbeat: u64,
    },
    /// Take no further attempt.
    Drain,
    /// End for good.
    Shutdown {
        /// Why; for the agent's log.
        sentence: String,
    },
    /// The connection ends now.
    Goodbye {
        /// What the agent should do.
        code: GoodbyeCode,
        /// Why; for the agent's log.
        sentence: String,
    },
}

/// What a farewell asks of the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GoodbyeCode {
    /// Call again soon.
    Retry,
    /// Never call again: end for good.
    Refused,
}

/// A greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The oldest protocol version it speaks.
    pub proto_min: u32,
    /// The newest protocol version it speaks.
    pub proto_max: u32,
    /// `BB_NAME`.
    pub worker: String,
    /// What it says its instance is; empty for local and own machines.
    pub instance_claim: String,
    /// The kernel's boot id.
    pub boot_id: String,
    /// Grows with each start of its process.
    pub epoch: u64,
    /// Its Ed25519 public key, 32 bytes.
    pub public_key: Vec<u8>,
    /// What it proves itself with.
    pub proof: HelloProof,
    /// Its version, for people.
    pub version: String,
}

/// What a greeting proves itself with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HelloProof {
    /// HMAC-SHA256(BB_PASSWORD, "bind" ‖ transcript), 32 bytes.
    Bind(Vec<u8>),
    /// An Ed25519 signature of "resume" ‖ transcript, 64 bytes.
    Resume(Vec<u8>),
}

/// An accepted greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// The protocol version in force.
    pub proto: u32,
    /// The master's Ed25519 public key, to be pinned at the first contact.
    pub master_key: Vec<u8>,
    /// After Bind: HMAC(BB_PASSWORD, "master" ‖ transcript); after Resume: the master key's signature of it.
    pub proof: Vec<u8>,
    /// How often to send a heartbeat while an attempt runs.
    pub heartbeat_busy: Duration,
    /// How often to send a heartbeat otherwise.
    pub heartbeat_idle: Duration,
    /// How long a running attempt outlives silence.
    pub lease: Duration,
    /// The master's clock.
    pub server_time: Timestamp,
}

/// What an agent has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    /// Whether its bootstrap script has passed already.
    pub bootstrapped: bool,
    /// The attempts whose files it holds.
    pub attempts: Vec<InventoryItem>,
    /// For how long its machine has been up; zero: it does not say.
    pub up: Duration,
}

/// An attempt whose files an agent holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InventoryItem {
    /// Which.
    pub attempt: AttemptRef,
    /// Whether it has ended (its result follows) or still runs.
    pub finished: bool,
}

/// An agent's regular word, with the load of its machine.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heartbeat {
    /// Counted from 1 within the connection.
    pub number: u64,
    /// The one-minute load average.
    pub load: f64,
    /// Memory that programs could still get, in bytes.
    pub memory_available_bytes: u64,
    /// Free space where workspaces lie, in bytes.
    pub disk_free_bytes: u64,
    /// Log bytes not yet acked, in bytes.
    pub spool_bytes: u64,
}

/// A bootstrap script to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bootstrap {
    /// Where to fetch it.
    pub url: String,
    /// Its SHA-256, lower-case hex.
    pub sha256: String,
    /// Its arguments.
    pub args: Vec<String>,
    /// The pool's variables.
    pub env: Vec<(String, String)>,
    /// How long it may take.
    pub timeout: Duration,
}

/// How a step ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepResult {
    /// Of which attempt.
    pub attempt: AttemptRef,
    /// Which; 0 is the checkout.
    pub step: u32,
    /// How it ended.
    pub outcome: StepOutcome,
    /// When it started, by the worker's clock.
    pub started_at: Timestamp,
    /// How long it took, by the worker's monotonic clock.
    pub duration_ms: u64,
    /// How many bytes its log holds.
    pub log_bytes: u64,
    /// SHA-256 of those bytes, 32 bytes.
    pub log_sha256: Vec<u8>,
}

/// The end of a boot log that goes into the reason of a waiting job, at most.
pub const TAIL_BYTES_MAX: usize = 2048;
