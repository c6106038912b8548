//! What an agent reports of its work, and what it waits for before it counts.

use std::time::Duration;

use crate::master::agents::rules::intake;
use crate::master::domain::event;
use crate::master::domain::event::AgentEvent;
use crate::model::attempt::AttemptOutcome;
use crate::model::attempt::AttemptRef;
use crate::model::attempt::LogOwner;
use crate::model::ids::ConnectionId;
use crate::model::ids::WorkerName;
use crate::model::step::StepOutcome;
use crate::model::time::Timestamp;
use crate::wire::message::StepResult;

/// How long a result waits for a log that does not grow. Then it counts, with *log incomplete*.
pub const LOG_NO_PROGRESS: Duration = Duration::from_secs(30);

/// Something an agent reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// The bootstrap script ended.
    Bootstrap {
        /// How.
        outcome: StepOutcome,
        /// How many bytes its log holds.
        log_bytes: u64,
        /// The last lines it printed.
        tail: String,
    },
    /// The attempt is in its hands.
    Accepted(AttemptRef),
    /// It will not take the attempt.
    Rejected {
        /// Which.
        attempt: AttemptRef,
        /// Why.
        sentence: String,
    },
    /// A step started.
    StepStarted {
        /// Of which attempt.
        attempt: AttemptRef,
        /// Which.
        step: u32,
        /// When, by the worker's clock.
        started_at: Timestamp,
    },
    /// A step ended.
    Step(StepResult),
    /// An attempt ended.
    Attempt {
        /// Which.
        attempt: AttemptRef,
        /// How.
        outcome: AttemptOutcome,
    },
}

/// Whether a log can still become what its report says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// Nothing is to be waited for.
    Nothing,
    /// This log, until it is durable here up to there, or grows no more.
    Log(LogOwner, u64),
    /// Its end was not taken, and will never be here.
    Never,
}

impl Report {
    /// The attempt it is about. Counts only if that is present on its connection.
    pub fn attempt(&self) -> Option<AttemptRef> {
        match self {
            Report::Bootstrap { .. } => None,
            Report::Accepted(attempt)
            | Report::Rejected { attempt, .. }
            | Report::StepStarted { attempt, .. }
            | Report::Attempt { attempt, .. } => Some(*attempt),
            Report::Step(result) => Some(result.attempt),
        }
    }

    /// What must be here first, so that who sees an end can read all that led to it.
    pub fn awaits(&self) -> Awaited {
        let (owner, bytes) = match self {
            Report::Bootstrap { log_bytes, .. } => (LogOwner::Boot, *log_bytes),
            Report::Step(result) => {
                let owner = LogOwner::Step { attempt: result.attempt, step: result.step };
                (owner, result.log_bytes)
            }
            Report::Accepted(_)
            | Report::Rejected { .. }
            | Report::StepStarted { .. }
            | Report::Attempt { .. } => return Awaited::Nothing,
        };
        match bytes {
            0 => Awaited::Nothing,
            bytes if bytes > intake::bytes_max(owner) => Awaited::Never,
            bytes => Awaited::Log(owner, bytes),
        }
    }

    /// What the domain hears of it.
    pub fn into_event(
        self,
        worker: WorkerName,
        connection: ConnectionId,
        log_incomplete: bool,
    ) -> AgentEvent {
        match self {
            Report::Bootstrap { outcome, log_bytes: _, tail } => {
                AgentEvent::BootstrapFinished { worker, connection, outcome, tail }
            }
            Report::Accepted(attempt) => AgentEvent::AttemptAccepted(worker, attempt),
            Report::Rejected { attempt, sentence } => {
                AgentEvent::AttemptRejected { worker, attempt, sentence }
            }
            Report::StepStarted { attempt, step, started_at } => {
                AgentEvent::StepStarted { worker, attempt, step, started_at }
            }
            Report::Step(result) => AgentEvent::StepFinished {
                worker,
                attempt: result.attempt,
                result: event::StepResult {
                    step: result.step,
                    outcome: result.outcome,
                    started_at: result.started_at,
                    duration_ms: result.duration_ms,
                    log_bytes: result.log_bytes,
                    log_incomplete,
                },
            },
            Report::Attempt { attempt, outcome } => {
                AgentEvent::AttemptFinished { worker, attempt, outcome }
            }
        }
    }
}
