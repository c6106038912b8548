//! What an agent reports of its work, in order. A result waits until its log is here, so that who
//! sees a step ended can read all of it; what is reported after it waits behind it.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::master::agents::Wiring;
use crate::master::agents::connection::Line;
use crate::master::agents::log_intake;
use crate::master::domain::event;
use crate::master::domain::event::AgentEvent;
use crate::master::domain::event::Event;
use crate::master::inbox::Inbox;
use crate::master::logs::LogStore;
use crate::master::logs::key::LogKey;
use crate::model::attempt::AttemptOutcome;
use crate::model::attempt::AttemptRef;
use crate::model::attempt::LogOwner;
use crate::model::step::StepOutcome;
use crate::model::time::Timestamp;
use crate::wire::message::FromMaster;
use crate::wire::message::StepResult;

/// How long a result waits for a log that does not grow. Then it counts, with *log incomplete*.
const LOG_NO_PROGRESS: Duration = Duration::from_secs(30);

/// Reports that wait, at most: after a reconnect an agent sends all results of its attempt again,
/// two messages for each of up to a thousand steps. Who sends more than that waits.
const REPORTS_MAX: usize = 2048;

/// Something an agent reports.
#[derive(Debug)]
pub(crate) enum Report {
    /// The bootstrap script ended.
    Bootstrap { outcome: StepOutcome, log_bytes: u64, tail: String },
    /// The attempt is in its hands.
    Accepted(AttemptRef),
    /// It will not take the attempt.
    Rejected { attempt: AttemptRef, sentence: String },
    /// A step started.
    StepStarted { attempt: AttemptRef, step: u32, started_at: Timestamp },
    /// A step ended.
    Step(StepResult),
    /// An attempt ended.
    Attempt { attempt: AttemptRef, outcome: AttemptOutcome },
}

/// The way to a connection's reports.
#[derive(Debug)]
pub(crate) struct Reports {
    queue: mpsc::Sender<Report>,
}

impl Reports {
    /// Begins to take reports.
    pub(crate) fn start(line: &Line, wiring: &Wiring, tasks: &mut JoinSet<()>) -> Reports {
        let (queue, mut waiting) = mpsc::channel(REPORTS_MAX);
        let desk =
            Desk { line: line.clone(), inbox: wiring.inbox.clone(), logs: wiring.logs.clone() };
        tasks.spawn(async move {
            while let Some(report) = waiting.recv().await {
                desk.handle(report).await;
            }
        });
        Reports { queue }
    }

    /// Takes one more; waits while there are too many.
    pub(crate) async fn take(&self, report: Report) {
        let _connection_ends = self.queue.send(report).await;
    }
}

struct Desk {
    line: Line,
    inbox: Inbox,
    logs: LogStore,
}

impl Desk {
    async fn handle(&self, report: Report) {
        let worker = self.line.worker.clone();
        let attempt = match &report {
            Report::Bootstrap { .. } => None,
            Report::Accepted(attempt)
            | Report::Rejected { attempt, .. }
            | Report::StepStarted { attempt, .. }
            | Report::Attempt { attempt, .. } => Some(*attempt),
            Report::Step(result) => Some(result.attempt),
        };
        if !self.counts(attempt) {
            return;
        }
        let event = match report {
            Report::Bootstrap { outcome, log_bytes, tail } => {
                self.log_is_here(LogOwner::Boot, log_bytes).await;
                let connection = self.line.connection;
                AgentEvent::BootstrapFinished { worker, connection, outcome, tail }
            }
            Report::Accepted(attempt) => AgentEvent::AttemptAccepted(worker, attempt),
            Report::Rejected { attempt, sentence } => {
                AgentEvent::AttemptRejected { worker, attempt, sentence }
            }
            Report::StepStarted { attempt, step, started_at } => {
                AgentEvent::StepStarted { worker, attempt, step, started_at }
            }
            Report::Step(result) => {
                let owner = LogOwner::Step { attempt: result.attempt, step: result.step };
                let log_incomplete = !self.log_is_here(owner, result.log_bytes).await;
                AgentEvent::StepFinished {
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
                }
            }
            Report::Attempt { attempt, outcome } => {
                AgentEvent::AttemptFinished { worker, attempt, outcome }
            }
        };
        // Asked again: while it waited, the attempt can have been given up.
        if self.counts(attempt) {
            self.inbox.send(Event::Agent(event)).await;
        }
    }

    /// Whether the worker may report of this attempt. If not, it is told to forget it.
    fn counts(&self, attempt: Option<AttemptRef>) -> bool {
        match attempt {
            Some(attempt) if !self.line.attempts.is_present(attempt) => {
                self.line.outgoing.say(FromMaster::Forget(attempt));
                false
            }
            Some(_) | None => true,
        }
    }

    /// Waits until a log is durable here up to its end; says whether it is.
    async fn log_is_here(&self, owner: LogOwner, log_bytes: u64) -> bool {
        if log_bytes == 0 {
            return true;
        }
        if log_bytes > log_intake::bytes_max(owner) {
            return false; // The end of it was not taken, and will never be here.
        }
        let key = LogKey::of(owner, &self.line.worker);
        self.logs.wait_until(&key, log_bytes, LOG_NO_PROGRESS).await
    }
}
