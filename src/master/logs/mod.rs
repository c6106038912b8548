//! The logs of steps and bootstrap scripts: files of zstd frames, apart from the store.
//!
//! Log bytes never pass through the domain nor SQLite. The agent channel appends; pages and the
//! API read from any offset or line, and follow. Nobody who reads slows who writes: a viewer is
//! told how far the log goes and reads the file at its own pace, so it loses nothing either.
//!
//! Reading order: `chunk_header.rs` (the file), `log.rs` (one log), `recover.rs`, `read.rs`,
//! `writers.rs` (the threads).

mod chunk_header;
pub mod error;
mod flush_queue;
mod frame;
mod index;
pub mod key;
pub mod log;
pub mod read;
mod recover;
#[cfg(test)]
mod tests;
mod walk;
pub mod watch;
mod writers;

use std::collections::HashMap;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::Semaphore;

use crate::master::disk_room::DiskRoom;
use crate::master::logs::error::LogError;
use crate::master::logs::index::Index;
use crate::master::logs::key::LogKey;
use crate::master::logs::log::Appended;
use crate::master::logs::log::Log;
use crate::master::logs::read::LogPart;
use crate::master::logs::read::LogSize;
use crate::master::logs::watch::LogWatch;
use crate::master::logs::writers::Writers;
use crate::model::attempt::LogChunk;

/// Logs kept open, at most, beyond those in use at the moment: a quarter of the 1,024 file
/// descriptors that a process commonly may have.
const LOGS_OPEN_MAX: usize = 256;

/// All logs. Cheap to clone; the last one to go waits until what was written is durable.
///
/// There must be one per data_dir: the store's lock sees to that.
#[derive(Clone, Debug)]
pub struct LogStore {
    inner: Arc<Inner>,
}

/// Reads at one time: each unpacks a chunk of up to a mebibyte, and viewers may be many.
const READS_MAX: usize = 4;

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    /// The one [`Log`] of each file that is in use, and of some that were.
    open: Mutex<HashMap<LogKey, Arc<Log>>>,
    writers: Writers,
    reads: Semaphore,
    room: DiskRoom,
}

impl LogStore {
    /// The logs under `data_dir`, which exists. No log is looked at before it is asked for.
    pub fn open(data_dir: &Path) -> anyhow::Result<LogStore> {
        let writers = Writers::start().context("start the threads that write logs")?;
        let folder = data_dir.join("logs");
        Ok(LogStore {
            inner: Arc::new(Inner {
                folder,
                open: Mutex::new(HashMap::new()),
                writers,
                reads: Semaphore::new(READS_MAX),
                room: DiskRoom::of(data_dir),
            }),
        })
    }

    /// Whether the disk under the logs has room.
    pub fn disk_room(&self) -> &DiskRoom {
        &self.inner.room
    }

    /// Adds a chunk to a log if it starts where the log ends. When this returns, viewers see it;
    /// that it is durable is told by [`LogStore::watch_durable`]. A full disk takes none: what room is
    /// left is the store's.
    pub async fn append(&self, key: &LogKey, chunk: LogChunk) -> Result<Appended, LogError> {
        if let Some(trouble) = self.inner.room.trouble() {
            return Err(LogError::Disk(trouble));
        }
        let appended = self.inner.writers.append(key, self.log(key), chunk).await;
        if let Err(LogError::Disk(why)) = &appended {
            self.inner.room.refused(why);
        }
        appended
    }

    /// The durable end of a log, and each change of it: what to acknowledge. Its first value is
    /// also where the agent goes on after a restart, as nothing else has survived.
    pub async fn watch_durable(&self, key: &LogKey) -> Result<LogWatch, LogError> {
        self.watch(key, |log| log.open().map(|()| log.watch_durable())).await
    }

    /// The end of what viewers may read, and each change of it.
    pub async fn follow(&self, key: &LogKey) -> Result<LogWatch, LogError> {
        self.watch(key, |log| log.open().map(|()| log.watch_visible())).await
    }

    /// Waits until a log is durable up to `offset`; false once that has made no progress for
    /// `patience`, or the log cannot be opened: it stays incomplete. A full disk is waited for: who has
    /// the log still has it.
    pub async fn wait_until(&self, key: &LogKey, offset: u64, patience: Duration) -> bool {
        let Ok(mut durable) = self.watch_durable(key).await else { return false };
        while durable.current() < offset {
            let was_full = self.inner.room.is_full();
            if tokio::time::timeout(patience, durable.changed()).await.is_err()
                && !was_full
                && !self.inner.room.is_full()
            {
                return durable.current() >= offset;
            }
        }
        true
    }

    /// How long a log is; nothing of it yet is zero.
    pub async fn size(&self, key: &LogKey) -> Result<LogSize, LogError> {
        self.blocking(key, |log| log.size()).await
    }

    /// Up to `bytes_max` (at most [`read::READ_BYTES_MAX`]) raw bytes from `offset` on; none at
    /// the end.
    pub async fn read_at(
        &self,
        key: &LogKey,
        offset: u64,
        bytes_max: usize,
    ) -> Result<LogPart, LogError> {
        self.blocking(key, move |log| log.read_at(offset, bytes_max)).await
    }

    /// Up to `lines_max` lines from line `first` on (counted from 0), each with its line feed,
    /// and no more than `bytes_max` raw bytes of them (at most [`read::READ_BYTES_MAX`]): a long
    /// line may be cut. None where the log has not so many lines.
    pub async fn read_lines(
        &self,
        key: &LogKey,
        first: u64,
        lines_max: u64,
        bytes_max: usize,
    ) -> Result<LogPart, LogError> {
        self.blocking(key, move |log| log.read_lines(first, lines_max, bytes_max)).await
    }

    /// Closes a log's file: nothing more will come. (One that is not closed so goes when many
    /// are open, and one that is can be opened again: this only saves file descriptors.)
    pub fn finish(&self, key: &LogKey) {
        let mut open = self.inner.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.get(key).is_some_and(|log| Arc::strong_count(log) == 1) {
            open.remove(key);
        }
    }

    /// Removes a log for good. Whoever reads it right now may finish.
    pub async fn remove(&self, key: &LogKey) -> Result<(), LogError> {
        let log = self.log(key);
        self.inner.open.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        let remove = move || {
            for path in [log.path().to_owned(), Index::path_of(log.path())] {
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(LogError::disk("remove", &path, &error));
                    }
                    _ => {}
                }
            }
            Ok(())
        };
        tokio::task::spawn_blocking(remove).await.map_err(panicked)?
    }

    /// The one [`Log`] of a key.
    fn log(&self, key: &LogKey) -> Arc<Log> {
        let mut open = self.inner.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(log) = open.get(key) {
            return Arc::clone(log);
        }
        if open.len() >= LOGS_OPEN_MAX {
            // Nobody holds these and nothing of them waits to be flushed; who wants one again
            // opens it again.
            open.retain(|_, log| Arc::strong_count(log) > 1);
        }
        let log = Arc::new(Log::at(key.path(&self.inner.folder)));
        open.insert(key.clone(), Arc::clone(&log));
        log
    }

    async fn watch(
        &self,
        key: &LogKey,
        receiver: fn(&Log) -> Result<tokio::sync::watch::Receiver<u64>, LogError>,
    ) -> Result<LogWatch, LogError> {
        let log = self.log(key);
        let opened = Arc::clone(&log);
        let work = move || receiver(&opened);
        let receiver = tokio::task::spawn_blocking(work).await.map_err(panicked)??;
        Ok(LogWatch::new(log, receiver))
    }

    async fn blocking<T: Send + 'static>(
        &self,
        key: &LogKey,
        work: impl FnOnce(&Log) -> Result<T, LogError> + Send + 'static,
    ) -> Result<T, LogError> {
        let log = self.log(key);
        let _place = self.inner.reads.acquire().await.expect("it is never closed");
        tokio::task::spawn_blocking(move || work(&log)).await.map_err(panicked)?
    }
}

fn panicked(error: tokio::task::JoinError) -> LogError {
    LogError::Disk(format!("reading a log went wrong: {error}"))
}
