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
use crate::master::agents::reports::Report;
use crate::master::agents::reports::Reports;
use crate::master::domain::event::AgentEvent;
use crate::master::domain::event::Event;
use crate::master::domain::event::InventoryItem;
use crate::model::attempt::AttemptRef;
use crate::model::ids::ConnectionId;
use crate::model::ids::WorkerName;
use crate::runtime::clock;
use crate::wire::convert;
use crate::wire::frame::Frames;
use crate::wire::message::FromAgent;
use crate::wire::message::FromMaster;
use crate::wire::session::Watch;

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
    frames: Frames,
) -> anyhow::Error
where
    R: AsyncRead + Unpin,
{
    // Its tasks end with it: what they had not finished is sent again on the next connection.
    let mut tasks = JoinSet::new();
    let mut listener = Listener { house, line, reports: None, logs: None, inventory: false };
    match listener.run(reader, frames, &mut tasks).await {
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
    /// Whether it has come: nothing may come before.
    inventory: bool,
}

/// What never happens: a connection only ends with a reason.
enum Never {}

impl Listener<'_> {
    async fn run<R: AsyncRead + Unpin>(
        &mut self,
        mut reader: R,
        mut frames: Frames,
        tasks: &mut JoinSet<()>,
    ) -> anyhow::Result<Never> {
        let mut busy = self.line.attempts.busy();
        let now_busy = *busy.borrow_and_update();
        let mut watch = Watch::new(clock::monotonic(), now_busy);
        loop {
            let (deadline, too_late) = watch.deadline();
            let left = deadline.saturating_sub(clock::monotonic());
            tokio::select! {
                read = reader.read_buf(frames.room()) => {
                    // An agent that is killed ends its TLS no more politely than its connection.
                    let hung_up = |error: &io::Error| error.kind() == io::ErrorKind::UnexpectedEof;
                    let bytes = if read.as_ref().is_err_and(hung_up) { 0 } else { read.context("read from it")? };
                    anyhow::ensure!(bytes > 0, "it hung up");
                }
                changed = busy.changed() => {
                    changed.context("know whether it is busy")?;
                    watch.set_busy(clock::monotonic(), *busy.borrow_and_update());
                    continue;
                }
                () = wait(left) => anyhow::bail!("{too_late}"),
            }
            let mut whole = false;
            while let Some(body) = frames.take()? {
                whole = true;
                self.hear(convert::read_from_agent(&body)?, tasks).await?;
            }
            watch.heard(clock::monotonic(), whole, frames.in_the_middle());
        }
    }

    async fn hear(&mut self, message: FromAgent, tasks: &mut JoinSet<()>) -> anyhow::Result<()> {
        let is_inventory = matches!(message, FromAgent::Inventory(_));
        anyhow::ensure!(self.inventory || is_inventory, "it did not begin with its inventory");
        let (worker, connection) = (self.line.worker.clone(), self.line.connection);
        match message {
            FromAgent::Hello(_) => anyhow::bail!("it greeted twice"),
            FromAgent::Inventory(inventory) => {
                self.inventory = true;
                let item = |item: &crate::wire::message::InventoryItem| InventoryItem {
                    attempt: item.attempt,
                    finished: item.finished,
                };
                self.tell_domain(AgentEvent::Inventory {
                    worker,
                    connection,
                    bootstrapped: inventory.bootstrapped,
                    attempts: inventory.attempts.iter().map(item).collect(),
                })
                .await;
            }
            FromAgent::Heartbeat(heartbeat) => {
                let ack = FromMaster::HeartbeatAck { heartbeat: heartbeat.number };
                self.line.outgoing.say(ack);
                self.tell_domain(AgentEvent::Heartbeat { worker, connection }).await;
            }
            FromAgent::LogChunk(chunk) => {
                let logs = self.logs.get_or_insert_with(|| {
                    LogIntake::start(self.line, &self.house.wiring.logs, tasks)
                });
                logs.take(chunk).await;
            }
            FromAgent::BootstrapResult { outcome, log_bytes, tail } => {
                self.report(Report::Bootstrap { outcome, log_bytes, tail }, tasks).await;
            }
            FromAgent::AttemptAccepted(attempt) => {
                self.report(Report::Accepted(attempt), tasks).await;
            }
            FromAgent::AttemptRejected { attempt, sentence } => {
                self.report(Report::Rejected { attempt, sentence }, tasks).await;
            }
            FromAgent::StepStarted { attempt, step, started_at } => {
                self.report(Report::StepStarted { attempt, step, started_at }, tasks).await;
            }
            FromAgent::StepResult(result) => self.report(Report::Step(result), tasks).await,
            FromAgent::AttemptResult { attempt, outcome } => {
                self.report(Report::Attempt { attempt, outcome }, tasks).await;
            }
            FromAgent::Notice(text) => {
                tracing::warn!(worker.id = %worker, "worker {worker} says: {text:?}");
            }
            FromAgent::Goodbye { sentence } => {
                self.tell_domain(AgentEvent::Leaving { worker, sentence }).await;
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
