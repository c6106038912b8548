//! What an agent reports of its work, in order. A result waits until its log is here, so that who
//! sees a step ended can read all of it; what is reported after it waits behind it.

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::master::agents::Wiring;
use crate::master::agents::connection::Line;
use crate::master::agents::rules::report;
use crate::master::agents::rules::report::Awaited;
use crate::master::agents::rules::report::Report;
use crate::master::domain::event::Event;
use crate::master::inbox::Inbox;
use crate::master::logs::LogStore;
use crate::master::logs::key::LogKey;
use crate::model::attempt::AttemptRef;
use crate::wire::message::FromMaster;

/// Reports that wait, at most: after a reconnect an agent sends all results of its attempt again,
/// two messages for each of up to a thousand steps. Who sends more than that waits.
const REPORTS_MAX: usize = 2048;

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
        let attempt = report.attempt();
        if !self.counts(attempt) {
            return;
        }
        let is_here = match report.awaits() {
            Awaited::Nothing => true,
            Awaited::Log(owner, log_bytes) => {
                let key = LogKey::of(owner, &self.line.worker);
                self.logs.wait_until(&key, log_bytes, report::LOG_NO_PROGRESS).await
            }
            Awaited::Never => false,
        };
        // Asked again: while it waited, the attempt can have been given up.
        if self.counts(attempt) {
            let (worker, connection) = (self.line.worker.clone(), self.line.connection);
            let event = report.into_event(worker, connection, !is_here);
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
}
