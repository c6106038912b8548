//! What the master's end of the channel decides by itself: who may come in, what of an agent's words
//! goes where, which logs may be written. Pure; the adapters around it act, and the simulation drives
//! the same code.

pub mod greeting;
pub mod intake;
pub mod report;
pub mod rights;

use crate::master::agents::rules::report::Report;
use crate::master::domain::event::AgentEvent;
use crate::master::domain::event::InventoryItem;
use crate::model::attempt::LogChunk;
use crate::model::ids::ConnectionId;
use crate::model::ids::WorkerName;
use crate::wire::message;
use crate::wire::message::FromAgent;
use crate::wire::message::FromMaster;

/// Where a message of an agent belongs.
#[derive(Debug)]
pub enum Belongs {
    /// To the domain, at once.
    Domain(AgentEvent),
    /// To the domain as well, and it is answered at once.
    Heartbeat(AgentEvent, FromMaster),
    /// To the log files.
    Log(LogChunk),
    /// To the reports, which wait for their logs and for each other.
    Report(Report),
    /// To the domain, and to the master's own log.
    Notice(AgentEvent, String),
    /// To the domain; and it was its last word.
    Farewell(AgentEvent),
}

/// Sorts what an agent said after its welcome. Nothing: it may not say that.
pub fn sort(worker: &WorkerName, connection: ConnectionId, message: FromAgent) -> Option<Belongs> {
    let worker = worker.clone();
    Some(match message {
        FromAgent::Hello(_) => return None,
        FromAgent::Inventory(inventory) => {
            let item = |item: message::InventoryItem| InventoryItem {
                attempt: item.attempt,
                finished: item.finished,
            };
            Belongs::Domain(AgentEvent::Inventory {
                worker,
                connection,
                bootstrapped: inventory.bootstrapped,
                attempts: inventory.attempts.into_iter().map(item).collect(),
                up: inventory.up,
            })
        }
        FromAgent::Heartbeat(heartbeat) => {
            let ack = FromMaster::HeartbeatAck { heartbeat: heartbeat.number };
            Belongs::Heartbeat(AgentEvent::Heartbeat { worker, connection }, ack)
        }
        FromAgent::LogChunk(chunk) => Belongs::Log(chunk),
        FromAgent::BootstrapResult { outcome, log_bytes, tail } => {
            Belongs::Report(Report::Bootstrap { outcome, log_bytes, tail })
        }
        FromAgent::AttemptAccepted(attempt) => Belongs::Report(Report::Accepted(attempt)),
        FromAgent::AttemptRejected { attempt, sentence } => {
            Belongs::Report(Report::Rejected { attempt, sentence })
        }
        FromAgent::StepStarted { attempt, step, started_at } => {
            Belongs::Report(Report::StepStarted { attempt, step, started_at })
        }
        FromAgent::StepResult(result) => Belongs::Report(Report::Step(result)),
        FromAgent::AttemptResult { attempt, outcome } => {
            Belongs::Report(Report::Attempt { attempt, outcome })
        }
        FromAgent::Notice(text) => {
            let sentence = text.clone();
            Belongs::Notice(AgentEvent::Noticed { worker, connection, sentence }, text)
        }
        FromAgent::Interruption { ends_in, sentence } => {
            let text = sentence.clone();
            let event = AgentEvent::Interrupted { worker, connection, ends_in, sentence };
            Belongs::Notice(event, text)
        }
        FromAgent::Goodbye { sentence } => {
            Belongs::Farewell(AgentEvent::Leaving { worker, sentence })
        }
    })
}
