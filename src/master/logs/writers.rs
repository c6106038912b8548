//! The threads that write logs, and those that make them durable.
//!
//! A log always meets the same writer, so its chunks stay in order and nobody waits for a lock.
//! Writing and flushing are apart: while the disk takes its time over one flush, viewers go on
//! getting what comes, and the next flush covers all of it.

use std::hash::DefaultHasher;
use std::hash::Hash;
use std::hash::Hasher;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::master::logs::error::LogError;
use crate::master::logs::flush_queue::FlushQueue;
use crate::master::logs::frame::Unpacker;
use crate::master::logs::key::LogKey;
use crate::master::logs::log::Appended;
use crate::master::logs::log::Log;
use crate::model::attempt::LogChunk;

/// Writers, at most: each decompresses about 1 GB/s, far more than the network brings.
const WRITERS_MAX: usize = 4;

/// Flushes under way at the same time. They wait for the disk, which merges those it gets at once.
const FLUSHERS: usize = 4;

/// Chunks that wait for one writer, at most: 4 MiB. Whoever brings more waits.
const CHUNKS_WAITING_MAX: usize = 64;

/// A chunk on its way to a writer.
struct Delivery {
    log: Arc<Log>,
    chunk: LogChunk,
    reply: oneshot::Sender<Result<Appended, LogError>>,
}

/// All the threads.
#[derive(Debug)]
pub(super) struct Writers {
    deliveries: Vec<mpsc::Sender<Delivery>>,
    flushes: Arc<FlushQueue>,
    writing: Vec<JoinHandle<()>>,
    flushing: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Starts them.
    pub(super) fn start() -> std::io::Result<Writers> {
        let count = std::thread::available_parallelism().map_or(1, usize::from).min(WRITERS_MAX);
        let flushes = Arc::new(FlushQueue::default());
        let mut writers = Writers {
            deliveries: Vec::new(),
            flushes: Arc::clone(&flushes),
            writing: Vec::new(),
            flushing: Vec::new(),
        };
        for _ in 0..count {
            let (sender, receiver) = mpsc::channel(CHUNKS_WAITING_MAX);
            let (unpacker, flushes) = (Unpacker::new()?, Arc::clone(&flushes));
            let work = move || write(receiver, unpacker, &flushes);
            writers.writing.push(thread("log-writer").spawn(work)?);
            writers.deliveries.push(sender);
        }
        for _ in 0..FLUSHERS {
            let flushes = Arc::clone(&flushes);
            writers.flushing.push(thread("log-flusher").spawn(move || flushes.run())?);
        }
        Ok(writers)
    }

    /// Has a chunk written.
    pub(super) async fn append(
        &self,
        key: &LogKey,
        log: Arc<Log>,
        chunk: LogChunk,
    ) -> Result<Appended, LogError> {
        let mut hasher = DefaultHasher::new();
        key.hash(&mut hasher);
        let count = u64::try_from(self.deliveries.len()).unwrap_or(1).max(1);
        let writer = usize::try_from(hasher.finish() % count).unwrap_or(0);
        let ended = || LogError::Disk("the thread that writes logs has ended".into());
        let (reply, answer) = oneshot::channel();
        let writer = self.deliveries.get(writer).ok_or_else(ended)?;
        writer.send(Delivery { log, chunk, reply }).await.map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }
}

impl Drop for Writers {
    /// Waits until all is durable and every file is closed.
    fn drop(&mut self) {
        self.deliveries.clear();
        self.writing.drain(..).for_each(|thread| drop(thread.join()));
        self.flushes.close();
        self.flushing.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn thread(name: &str) -> std::thread::Builder {
    std::thread::Builder::new().name(name.into())
}

/// One writer's work.
fn write(mut deliveries: mpsc::Receiver<Delivery>, mut unpacker: Unpacker, flushes: &FlushQueue) {
    while let Some(Delivery { log, chunk, reply }) = deliveries.blocking_recv() {
        let result = log.append(&chunk, &mut unpacker).map(|(appended, to_flush)| {
            if to_flush {
                flushes.push(Arc::clone(&log));
            }
            appended
        });
        // Let go of before the answer, or whoever has it might still find the log in use.
        drop(log);
        let _nobody_waits = reply.send(result);
    }
}
