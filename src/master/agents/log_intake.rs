//! Log chunks of one connection on their way to the log files, and what the agent is told of them.
//!
//! Only the exact next offset of a log is written. Anything else is answered with that offset and
//! the agent sends on from there.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::Semaphore;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::task::JoinSet;

use crate::master::agents::connection::Line;
use crate::master::agents::rules::intake;
use crate::master::agents::rules::intake::Verdict;
use crate::master::logs::LogStore;
use crate::master::logs::error::LogError;
use crate::master::logs::key::LogKey;
use crate::master::logs::log::Appended;
use crate::model::attempt::LogChunk;
use crate::model::attempt::LogOwner;
use crate::wire::log_window::Misplaced;
use crate::wire::message::FromMaster;

/// Chunks that wait to be written, in bytes at most: what an agent may have unacked per
/// connection. Beyond it the connection is not read, which slows the agent down.
const WAITING_BYTES_MAX: usize = 4 << 20;

/// What a waiting chunk takes beside its bytes.
const CHUNK_OVERHEAD_BYTES: usize = 256;

/// The way to a connection's log chunks.
#[derive(Debug)]
pub(crate) struct LogIntake {
    queue: mpsc::UnboundedSender<(LogChunk, OwnedSemaphorePermit)>,
    room: Arc<Semaphore>,
}

impl LogIntake {
    /// Begins to take chunks.
    pub(crate) fn start(line: &Line, logs: &LogStore, tasks: &mut JoinSet<()>) -> LogIntake {
        // Bounded by the room that each chunk takes with it.
        let (queue, mut waiting) = mpsc::unbounded_channel();
        let mut clerk = Clerk {
            line: line.clone(),
            logs: logs.clone(),
            open: HashMap::new(),
            stalled: HashMap::new(),
            acks: JoinSet::new(),
        };
        tasks.spawn(async move {
            loop {
                let is_stalled = !clerk.stalled.is_empty();
                tokio::select! {
                    taken = waiting.recv() => match taken {
                        Some((chunk, _room)) => clerk.handle(chunk).await,
                        None => return,
                    },
                    () = tokio::time::sleep(intake::DISK_PAUSE), if is_stalled => clerk.try_again().await,
                }
            }
        });
        LogIntake { queue, room: Arc::new(Semaphore::new(WAITING_BYTES_MAX)) }
    }

    /// Takes one more; waits while too many bytes do.
    pub(crate) async fn take(&self, chunk: LogChunk) {
        let bytes = u32::try_from(chunk.frame.len() + CHUNK_OVERHEAD_BYTES)
            .expect("a chunk is at most 64 KiB: checked when it was read");
        if let Ok(room) = self.room.clone().acquire_many_owned(bytes).await {
            let _connection_ends = self.queue.send((chunk, room));
        }
    }
}

struct Clerk {
    line: Line,
    logs: LogStore,
    open: HashMap<LogOwner, Open>,
    /// Logs of which the disk refused a chunk. More of them is thrown away: nothing of it is acked, so
    /// its agent keeps it, and sends no more than a window before it stops.
    stalled: HashMap<LogOwner, LogKey>,
    acks: JoinSet<()>,
}

/// A log that this connection writes to.
struct Open {
    misplaced: Misplaced,
    /// Tells the agent what is durable.
    acks: AbortHandle,
}

impl Clerk {
    async fn handle(&mut self, chunk: LogChunk) {
        let end = intake::end_of(&chunk);
        match self.line.attempts.judge(&chunk) {
            Verdict::Append => {}
            Verdict::Stale { tell } => {
                if let Some(attempt) = tell {
                    self.line.outgoing.say(FromMaster::Forget(attempt));
                }
                return;
            }
            Verdict::Full => return self.throw_away(chunk, end).await,
            Verdict::Cut => {
                return self.cut("a log of a step that its attempt does not have");
            }
        }
        let key = LogKey::of(chunk.owner, &self.line.worker);
        let owner = chunk.owner;
        if self.stalled.contains_key(&owner) {
            return;
        }
        match self.write(&key, chunk, end).await {
            Ok(()) => {}
            Err(LogError::Refused(sentence)) => self.cut(&sentence),
            Err(LogError::Disk(sentence)) => {
                tracing::error!("cannot keep the {key} for now: {sentence}");
                self.stalled.insert(owner, key);
            }
        }
    }

    /// What is too much is taken and not kept; whoever reads the log is told where it was cut.
    async fn throw_away(&mut self, chunk: LogChunk, end: u64) {
        let key = LogKey::of(chunk.owner, &self.line.worker);
        let limit = intake::bytes_max(chunk.owner) >> 20;
        let text = format!(
            "\nbusybee: the log ends here: the master keeps no more than {limit} MiB of it\n"
        );
        let frame = zstd::bulk::compress(text.as_bytes(), 1);
        if let (Ok(frame), Ok(raw_len)) = (frame, u32::try_from(text.len())) {
            // Only the first that is too much stands where the log ends: all later ones are misplaced.
            let marker = LogChunk { raw_len, frame, ..chunk };
            let _misplaced = self.logs.append(&key, marker).await;
        }
        self.line.outgoing.ack(chunk.owner, end);
    }

    /// Once the disk takes something again, agents send on from what is durable.
    async fn try_again(&mut self) {
        if self.logs.disk_room().is_full() {
            return;
        }
        for (owner, key) in std::mem::take(&mut self.stalled) {
            let Ok(durable) = self.logs.watch_durable(&key).await else {
                self.stalled.insert(owner, key);
                continue;
            };
            if let Some(open) = self.open.get_mut(&owner) {
                open.misplaced.forget();
            }
            self.line.outgoing.rewind(owner, durable.current());
        }
    }

    async fn write(&mut self, key: &LogKey, chunk: LogChunk, end: u64) -> Result<(), LogError> {
        let (owner, offset) = (chunk.owner, chunk.offset);
        self.open(owner, key).await?;
        let appended = self.logs.append(key, chunk).await?;
        let Some(open) = self.open.get_mut(&owner) else { return Ok(()) };
        match appended {
            Appended::Stored { .. } => open.misplaced.forget(),
            Appended::Rewind { to } => {
                if open.misplaced.note(offset, end) {
                    self.line.outgoing.rewind(owner, to);
                }
            }
        }
        Ok(())
    }

    /// Begins to tell the agent what is durable of a log, with the first chunk that comes for it.
    async fn open(&mut self, owner: LogOwner, key: &LogKey) -> Result<(), LogError> {
        if self.open.contains_key(&owner) {
            return Ok(());
        }
        self.close_finished();
        let outgoing = self.line.outgoing.clone();
        let mut durable = self.logs.watch_durable(key).await?;
        let mut falls = self.logs.watch_durable(key).await?;
        let room = self.logs.disk_room().clone();
        let acks = self.acks.spawn(async move {
            let mut offset = durable.current();
            loop {
                if offset > 0 {
                    outgoing.ack(owner, offset);
                }
                tokio::select! {
                    end = durable.changed() => offset = end,
                    () = falls.fell_back() => {
                        room.refused("a log could not be made durable");
                        outgoing.rewind(owner, falls.current());
                    }
                }
            }
        });
        self.open.insert(owner, Open { misplaced: Misplaced::default(), acks });
        Ok(())
    }

    /// Lets go of the logs of attempts that are over, so that a worker of many jobs piles up none.
    fn close_finished(&mut self) {
        let attempts = self.line.attempts.clone();
        self.open.retain(|owner, open| {
            let keep = match owner {
                LogOwner::Step { attempt, .. } => attempts.is_present(*attempt),
                LogOwner::Boot => true,
            };
            if !keep {
                open.acks.abort();
            }
            keep
        });
        while self.acks.try_join_next().is_some() {}
    }

    fn cut(&self, sentence: &str) {
        let worker = &self.line.worker;
        tracing::warn!(worker.id = %worker, "cut worker {worker} off: it sent {sentence}");
        self.line.outgoing.cut();
    }
}
