//! The master's memory: an embedded SQLite database of everything but logs.
//!
//! One thread writes (`writer.rs`), a few connections read (`readers.rs`); one file per table
//! holds its queries, as methods of [`Store`]. SQL stands in this folder only.

mod attempts;
mod ballast;
pub mod builds;
mod changes;
mod columns;
mod concurrency;
mod counters;
pub mod counts;
mod data_dir_lock;
mod forecasts;
mod instance_runs;
mod instances;
mod job_spec;
mod jobs;
mod meta;
mod migrate;
mod pools;
mod readers;
mod refs;
#[cfg(test)]
mod sample;
mod snapshot;
pub mod spending;
mod steps;
#[cfg(test)]
mod tests;
pub mod work;
mod workers;
mod writer;

use std::os::unix::fs::DirBuilderExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use rusqlite::Connection;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

use crate::master::domain::decision::Record;
use crate::master::domain::event::LoadedBuild;
use crate::master::domain::snapshot::Snapshot;
use crate::master::store::ballast::Ballast;
use crate::master::store::data_dir_lock::DataDirLock;
use crate::master::store::readers::Readers;
use crate::master::store::writer::Order;
use crate::master::store::writer::Ordered;
use crate::master::store::writer::Writer;
use crate::model::ids::BuildNumber;
use crate::model::ids::ProjectName;

/// The database's file, in data_dir.
const DATABASE_FILE: &str = "busybee.sqlite3";

/// Orders that wait for the writer, at most. The event loop awaits each, so there are few.
const ORDERS_MAX: usize = 16;

/// Rows that one list returns, at most: a wrong number must not read the whole table.
const ROWS_MAX: u32 = 1000;

/// The store. Cheap to clone; the last one to go closes the database and gives data_dir free.
#[derive(Clone, Debug)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    ballast: Ballast,
    readers: Arc<Readers>,
    orders: Option<mpsc::Sender<Ordered>>,
    writer: Option<std::thread::JoinHandle<()>>,
    /// Held for as long as this lives, and given back after all else is closed.
    _lock: DataDirLock,
}

impl Store {
    /// Opens the database in `data_dir`, and makes both where need be. Blocks; for the start.
    ///
    /// # Errors
    /// Each is a sentence for the one who starts the master: another one runs there, the file is
    /// from a newer version, the disk does not let us.
    pub fn open(data_dir: &Path) -> anyhow::Result<Store> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(data_dir)
            .with_context(|| format!("make data_dir {}", data_dir.display()))?;
        let lock = DataDirLock::take(data_dir)?;
        let path = data_dir.join(DATABASE_FILE);
        // SQLite gives its own files beside it the same mode.
        std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        let writer = Writer::open(&path, migrate::MIGRATIONS)?;
        let readers = Arc::new(Readers::open(&path)?);
        let ballast = Ballast::of(data_dir);
        if let Err(error) = ballast.load() {
            let dir = data_dir.display();
            tracing::warn!("no room for the ballast in {dir} ({error}); free some disk space");
        }
        let (orders, receiver) = mpsc::channel(ORDERS_MAX);
        let writer = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(receiver))
            .context("start the thread that writes to the store")?;
        let (orders, writer) = (Some(orders), Some(writer));
        Ok(Store { inner: Arc::new(Inner { path, ballast, readers, orders, writer, _lock: lock }) })
    }

    /// Writes records, each over the one of the same identity, all in one transaction. When this
    /// returns they survive a loss of power.
    ///
    /// # Errors
    /// Nothing was written; the disk is full or broken.
    pub async fn commit(&self, records: Vec<Record>) -> anyhow::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        self.order(Order::Records(records)).await
    }

    /// Keeps `value` under `key`, over the one before.
    pub async fn set_meta(&self, key: &'static str, value: String) -> anyhow::Result<()> {
        self.order(Order::Meta(key, value)).await
    }

    /// Everything that is not over. Blocks, for about as long as there is active work to read.
    pub fn load(&self) -> anyhow::Result<Snapshot> {
        let path = &self.inner.path;
        let mut connection = readers::connect(path)?;
        snapshot::load(&mut connection).with_context(|| format!("read {}", path.display()))
    }

    /// A build with its jobs, whether or not it is over.
    pub async fn load_build(
        &self,
        project: ProjectName,
        number: BuildNumber,
    ) -> anyhow::Result<Option<LoadedBuild>> {
        self.read(move |connection| Ok(snapshot::load_build(connection, &project, number)?)).await
    }

    /// Throws off the file that keeps room for when the disk is full. Whether it was there; it is
    /// taken aboard again by [`Store::restore_ballast`] or at the next start.
    pub fn release_ballast(&self) -> std::io::Result<bool> {
        self.inner.ballast.release()
    }

    /// Takes the ballast aboard again, once the disk has room.
    pub fn restore_ballast(&self) -> std::io::Result<()> {
        self.inner.ballast.load()
    }

    async fn order(&self, order: Order) -> anyhow::Result<()> {
        let (reply, answer) = oneshot::channel();
        let orders = self.inner.orders.as_ref().expect("there until the last Store is dropped");
        // Both fail only where the thread has panicked.
        orders.send((order, reply)).await.ok().context("the store's writer has ended")?;
        answer.await.context("the store's writer has ended")?
    }

    async fn read<T, Q>(&self, query: Q) -> anyhow::Result<T>
    where
        T: Send + 'static,
        Q: FnOnce(&mut Connection) -> anyhow::Result<T> + Send + 'static,
    {
        let answer = Arc::clone(&self.inner.readers).run(query).await;
        answer.with_context(|| format!("read {}", self.inner.path.display()))
    }
}

impl Drop for Inner {
    /// Waits for the writer, so that the lock is given back only after the file is closed.
    fn drop(&mut self) {
        self.orders = None;
        if let Some(writer) = self.writer.take() {
            let _panicked_already = writer.join();
        }
    }
}

/// A list's length, held to [`ROWS_MAX`].
fn rows_max(asked: u32) -> u32 {
    asked.min(ROWS_MAX)
}
