//! Logs on their way: what steps print, the agents' real windows, and the master's log files, faked:
//! written at once, durable a little later, cut back to that by a crash.

use std::collections::BTreeMap;
use std::time::Duration;

use busybee::master::domain::event::AgentEvent;
use busybee::master::domain::event::Event;
use busybee::model::attempt::AttemptRef;
use busybee::model::ids::ConnectionId;
use busybee::model::ids::WorkerName;
use busybee::model::time::Timestamp;
use busybee::wire::log_window::LogWindow;
use busybee::wire::log_window::Misplaced;
use busybee::wire::log_window::WINDOW_BYTES_MAX;

use crate::agents::AgentStep;
use crate::disk::is_open;
use crate::world::Happening;
use crate::world::Planted;
use crate::world::World;

/// What each chunk takes of the window: four are under way at once.
const CHUNK_TAKES: usize = WINDOW_BYTES_MAX / 4;

/// How long the master waits for the rest of a log before it records a result without it.
const LOG_NO_PROGRESS: Duration = Duration::from_secs(30);

/// A log on its worker.
#[derive(Debug)]
pub(crate) struct Spool {
    bytes: Vec<u8>,
    window: LogWindow,
}

/// The master's logs.
#[derive(Debug, Default)]
pub(crate) struct Logs {
    files: BTreeMap<AttemptRef, LogFile>,
    /// By connection, of this process.
    misplaced: BTreeMap<(ConnectionId, AttemptRef), Misplaced>,
    /// Results that wait for their logs: since when nothing has come, and how much there was.
    waiting: BTreeMap<AttemptRef, (Timestamp, usize)>,
}

#[derive(Debug, Default)]
struct LogFile {
    bytes: Vec<u8>,
    durable: usize,
    /// The most that was ever acked.
    acked: usize,
    /// A result was recorded with the whole log.
    is_whole: bool,
}

/// A part of a log on a connection.
pub(crate) struct Chunk {
    life: u64,
    connection: ConnectionId,
    worker: WorkerName,
    attempt: AttemptRef,
    offset: u64,
    bytes: Vec<u8>,
}

impl World {
    /// A step prints something, and will again while it runs.
    pub(crate) fn prints(&mut self, name: &WorkerName, attempt: AttemptRef) {
        let length = 1 + self.random(400);
        let bytes: Vec<u8> = (0..length).map(|_| self.random(256) as u8).collect();
        let again = 1000 + self.random(20_000);
        let Some(agent) = self.agents.get_mut(name) else { return };
        if !agent.is_running(attempt) {
            return;
        }
        let fresh = || Spool { bytes: Vec::new(), window: LogWindow::new(0) };
        agent.spools.entry(attempt).or_insert_with(fresh).bytes.extend_from_slice(&bytes);
        self.laws.printed(attempt, &bytes);
        self.later(again, Happening::Agent(name.clone(), AgentStep::Prints(attempt)));
        self.ship(name);
    }

    /// A new session: everything above what is durable is sent again.
    pub(crate) fn ship_again(&mut self, name: &WorkerName) {
        if let Some(agent) = self.agents.get_mut(name) {
            agent.spools.values_mut().for_each(|spool| spool.window.restart());
        }
        self.ship(name);
    }

    /// Sends what the windows allow.
    fn ship(&mut self, name: &WorkerName) {
        while let Some(chunk) = self.next_chunk(name) {
            let delay = Duration::from_millis(10 + self.random(300));
            let now = self.now;
            let Some(agent) = self.agents.get_mut(name) else { return };
            agent.up_at = agent.up_at.max(now + delay);
            let at = agent.up_at;
            self.at(at, Happening::Chunk(chunk));
        }
    }

    fn next_chunk(&mut self, name: &WorkerName) -> Option<Chunk> {
        let length = 1 + self.random(150);
        let agent = self.agents.get_mut(name).filter(|agent| agent.is_welcome)?;
        let (life, connection) = agent.line?;
        agent.spools.iter_mut().find_map(|(attempt, spool)| {
            let offset = spool.window.next()?;
            let rest = spool.bytes.get(offset as usize..).filter(|rest| !rest.is_empty())?;
            let bytes = rest[..rest.len().min(length as usize)].to_vec();
            spool.window.sent(bytes.len() as u64, CHUNK_TAKES);
            let worker = name.clone();
            Some(Chunk { life, connection, worker, attempt: *attempt, offset, bytes })
        })
    }

    /// A chunk reaches the master.
    pub(crate) fn chunk_comes(&mut self, chunk: Chunk) {
        let Chunk { life, connection, worker, attempt, offset, bytes } = chunk;
        let given = self.disk.attempts.get(&attempt.attempt);
        let is_owner =
            given.is_some_and(|it| it.id == attempt && it.worker == worker && is_open(it));
        if life != self.life || !self.open.contains(&connection) || !is_owner {
            return;
        }
        let key = (connection, attempt);
        if self.fault("log disk full", 20) {
            // Nothing is acked; a second later the agent is asked to send on.
            let retry = Happening::LogRetried(life, connection, worker, attempt);
            return self.later(1000, retry);
        }
        // The frame is lost, as after a bug of a proxy; what follows is misplaced.
        if self.fault("chunk lost", 10) {
            return;
        }
        let file = self.logs.files.entry(attempt).or_default();
        let misplaced = self.logs.misplaced.entry(key).or_default();
        if offset == file.bytes.len() as u64 {
            misplaced.forget();
            file.bytes.extend_from_slice(&bytes);
            self.laws.log_is_true(attempt, &file.bytes);
            if self.planted == Planted::AckBeforeDurable {
                let length = file.bytes.len();
                self.ack(&worker, connection, attempt, length, None);
            }
            let takes = 20 + self.random(500);
            self.later(takes, Happening::LogSynced(life, connection, worker, attempt));
        } else if misplaced.note(offset, offset + bytes.len() as u64) {
            let (durable, to) = (file.durable, file.bytes.len());
            self.ack(&worker, connection, attempt, durable, Some(to));
        }
    }

    /// What was written before is durable now.
    pub(crate) fn log_synced(
        &mut self,
        life: u64,
        connection: ConnectionId,
        worker: &WorkerName,
        attempt: AttemptRef,
    ) {
        let Some(file) = self.logs.files.get_mut(&attempt).filter(|_| life == self.life) else {
            return;
        };
        file.durable = file.bytes.len();
        let durable = file.durable;
        self.ack(worker, connection, attempt, durable, None);
    }

    /// After the disk refused a chunk.
    pub(crate) fn log_retried(
        &mut self,
        life: u64,
        connection: ConnectionId,
        worker: &WorkerName,
        attempt: AttemptRef,
    ) {
        if life != self.life || !self.open.contains(&connection) {
            return;
        }
        self.logs.misplaced.entry((connection, attempt)).or_default().forget();
        let file = self.logs.files.entry(attempt).or_default();
        let (durable, to) = (file.durable, file.bytes.len());
        self.ack(worker, connection, attempt, durable, Some(to));
    }

    fn ack(
        &mut self,
        worker: &WorkerName,
        connection: ConnectionId,
        attempt: AttemptRef,
        durable: usize,
        rewind_to: Option<usize>,
    ) {
        if let Some(file) = self.logs.files.get_mut(&attempt) {
            file.acked = file.acked.max(durable);
        }
        if self.open.contains(&connection) {
            let step = |line| AgentStep::LogAcked(line, attempt, durable, rewind_to);
            self.send_down(worker, step, connection);
        }
    }

    /// An ack reaches the agent.
    pub(crate) fn log_acked(
        &mut self,
        name: &WorkerName,
        attempt: AttemptRef,
        durable: usize,
        rewind_to: Option<usize>,
    ) {
        let agent = self.agents.get_mut(name);
        let Some(spool) = agent.and_then(|agent| agent.spools.get_mut(&attempt)) else { return };
        let written = spool.bytes.len() as u64;
        spool.window.acked(durable as u64, rewind_to.map(|to| to as u64), written);
        self.ship(name);
    }

    /// The master's process ends: what is not durable may be gone, or a part of it.
    pub(crate) fn logs_crash(&mut self) {
        self.logs.misplaced.clear();
        self.logs.waiting.clear();
        let mut files = std::mem::take(&mut self.logs.files);
        for (attempt, file) in &mut files {
            let unsafe_bytes = file.bytes.len() - file.durable;
            let kept = self.random(unsafe_bytes as u64 + 1) as usize;
            file.bytes.truncate(file.durable + kept);
            // What is found at the start is made durable before anything is said of it.
            file.durable = file.bytes.len();
            assert!(
                file.acked <= file.durable,
                "{attempt:?}: {} bytes were acked, {file:?}",
                file.acked
            );
        }
        self.logs.files = files;
    }

    /// Whether a result must wait for its log: until it is whole, or nothing more comes.
    pub(crate) fn waits_for_log(&mut self, event: &Event) -> bool {
        let (Event::Agent(AgentEvent::AttemptFinished { attempt, worker, .. })
        | Event::Agent(AgentEvent::StepFinished { attempt, worker, .. })) = event
        else {
            return false;
        };
        let given = self.disk.attempts.get(&attempt.attempt);
        let is_owner = given.is_some_and(|it| it.id == *attempt && it.worker == *worker);
        let printed = self.laws.length_printed(*attempt);
        let file = self.logs.files.entry(*attempt).or_default();
        if !is_owner || file.durable == printed {
            file.is_whole |= is_owner;
            return false;
        }
        let has = file.bytes.len();
        let waiting = self.logs.waiting.entry(*attempt).or_insert((self.now, has));
        if waiting.1 != has {
            *waiting = (self.now, has);
        }
        if self.now >= waiting.0 + LOG_NO_PROGRESS {
            *self.counts.entry("log incomplete").or_default() += 1;
            return false;
        }
        true
    }

    /// Each log whose attempt has a result is what its step printed, unless that was said.
    pub(crate) fn laws_of_logs(&self) {
        for (attempt, file) in &self.logs.files {
            self.laws.log_is_true(*attempt, &file.bytes);
            let printed = self.laws.length_printed(*attempt);
            assert!(
                !file.is_whole || file.bytes.len() == printed,
                "{attempt:?} was whole: {file:?}"
            );
        }
    }
}
