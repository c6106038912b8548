//! A connection after its welcome: listens, and sends each message where it belongs.
//!
//! Heartbeats are answered here and at once. Log chunks and reports of work each have a queue and
//! a task of their own, so that neither a slow disk nor a result that waits for its log keeps a
//! heartbeat waiting.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::task::JoinSet;

use crate::master::agents::House;
use crate::master::agents::attempts::Attempts;
use crate::master::agents::log_intake::LogIntake;
use crate::master::agents::outgoing::Outgoing;
use crate::master::agents::reports::Reports;
use crate::master::agents::rules;
use crate::master::agents::rules::Belongs;
use crate::master::agents::rules::report::Report;
use crate::master::domain::event::AgentEvent;
use crate::master::domain::event::Event;
use crate::model::attempt::AttemptRef;
use crate::model::ids::ConnectionId;
use crate::model::ids::WorkerName;
use crate::runtime::clock;
use crate::wire::master_end::Heard;
use crate::wire::master_end::MasterEnd;
use crate::wire::message::FromAgent;

/// An accepted connection: whose it is, and what belongs to it.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) worker: WorkerName,
    pub(crate) connection: ConnectionId,
    pub(crate) outgoing: Outgoing,
    pub(crate) attempts: Arc<Attempts>,
}

/// Listens until the connection ends; the answer is why.
pub(crate) async fn listen<R>(
    house: &Arc<House>,
    line: &Line,
    reader: R,
    end: MasterEnd,
) -> anyhow::Error
where
    R: AsyncRead + Unpin,
{
    // Its tasks end with it: what they had not finished is sent again on the next connection.
    let mut tasks = JoinSet::new();
    let mut listener = Listener { house, line, reports: None, logs: None };
    match listener.run(reader, end, &mut tasks).await {
        Ok(ended) => match ended {},
        Err(error) => {
            tasks.shutdown().await;
            error
        }
    }
}

struct Listener<'a> {
    house: &'a Arc<House>,
    line: &'a Line,
    /// Begun with the first that comes: most connections of a large fleet are idle.
    reports: Option<Reports>,
    logs: Option<LogIntake>,
}

/// What never happens: a connection only ends with a reason.
enum Never {}

impl Listener<'_> {
    async fn run<R: AsyncRead + Unpin>(
        &mut self,
        mut reader: R,
        mut end: MasterEnd,
        tasks: &mut JoinSet<()>,
    ) -> anyhow::Result<Never> {
        let mut busy = self.line.attempts.busy();
        loop {
            end.set_busy(clock::monotonic(), *busy.borrow_and_update());
            while let Some(heard) = end.next(clock::monotonic())? {
                if let Heard::Message(message) = heard {
                    self.hear(message, tasks).await?;
                }
            }
            let (deadline, too_late) = end.deadline().context("it was not welcomed")?;
            let left = deadline.saturating_sub(clock::monotonic());
            tokio::select! {
                read = reader.read_buf(end.room()) => {
                    // An agent that is killed ends its TLS no more politely than its connection.
                    let hung_up = |error: &io::Error| error.kind() == io::ErrorKind::UnexpectedEof;
                    let bytes = match read {
                        Err(error) if hung_up(&error) => 0,
                        read => read.context("read from it")?,
                    };
                    anyhow::ensure!(bytes > 0, "it hung up");
                }
                changed = busy.changed() => changed.context("know whether it is busy")?,
                () = wait(left) => anyhow::bail!("{too_late}"),
            }
        }
    }

    async fn hear(&mut self, message: FromAgent, tasks: &mut JoinSet<()>) -> anyhow::Result<()> {
        let (worker, connection) = (&self.line.worker, self.line.connection);
        match rules::sort(worker, connection, message).context("it greeted twice")? {
            Belongs::Domain(event) => self.tell_domain(event).await,
            Belongs::Heartbeat(event, ack) => {
                self.line.outgoing.say(ack);
                self.tell_domain(event).await;
            }
            Belongs::Log(chunk) => {
                let logs = self.logs.get_or_insert_with(|| {
                    LogIntake::start(self.line, &self.house.wiring.logs, tasks)
                });
                logs.take(chunk).await;
            }
            Belongs::Report(report) => self.report(report, tasks).await,
            Belongs::Notice(event, text) => {
                tracing::warn!(worker.id = %worker, "worker {worker} says: {text:?}");
                self.tell_domain(event).await;
            }
            Belongs::Farewell(event) => {
                self.tell_domain(event).await;
                anyhow::bail!("it said goodbye");
            }
        }
        Ok(())
    }

    async fn report(&mut self, report: Report, tasks: &mut JoinSet<()>) {
        let reports = self
            .reports
            .get_or_insert_with(|| Reports::start(self.line, &self.house.wiring, tasks));
        reports.take(report).await;
    }

    async fn tell_domain(&self, event: AgentEvent) {
        self.house.wiring.inbox.send(Event::Agent(event)).await;
    }
}

/// A deadline.
async fn wait(left: Duration) {
    let _always_elapses = tokio::time::timeout(left, std::future::pending::<()>()).await;
}

/// What happens with an attempt that is too long for the wire: as if the agent had said no.
pub(crate) fn reject_unsendable(
    house: &Arc<House>,
    line: &Line,
) -> impl FnMut(AttemptRef, String) + use<> {
    let (inbox, worker) = (house.wiring.inbox.clone(), line.worker.clone());
    move |attempt, sentence| {
        let rejected = AgentEvent::AttemptRejected { worker: worker.clone(), attempt, sentence };
        let inbox = inbox.clone();
        tokio::spawn(async move { inbox.send(Event::Agent(rejected)).await });
    }
}
