//! A few read-only connections, lent out one query at a time.
//!
//! Queries run on tokio's blocking threads (`spawn_blocking`) rather than in place: a page that
//! meets a cold disk must not hold one of the two or so threads that drive every connection, and
//! `block_in_place` would move all of that thread's other work each time. It costs some 10 µs.

use std::path::Path;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;

use anyhow::Context;
use rusqlite::Connection;
use rusqlite::OpenFlags;
use tokio::sync::Semaphore;

/// Queries that run at the same time, at most. The store is read from memory nearly always, so
/// more would only take the cores from each other; each connection caches up to 2 MB of pages.
const READERS: usize = 4;

/// Statements that a connection keeps prepared: more than there are in this folder.
pub(super) const STATEMENTS_KEPT: usize = 64;

/// How long a read waits for SQLite's own locks, which in WAL mode are held for moments only.
pub(super) const BUSY_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);

/// The connections.
#[derive(Debug)]
pub(super) struct Readers {
    idle: Mutex<Vec<Connection>>,
    turns: Arc<Semaphore>,
}

impl Readers {
    /// Opens them all.
    pub(super) fn open(path: &Path) -> anyhow::Result<Readers> {
        let idle = (0..READERS).map(|_| connect(path)).collect::<anyhow::Result<_>>()?;
        Ok(Readers { idle: Mutex::new(idle), turns: Arc::new(Semaphore::new(READERS)) })
    }

    /// Runs `query` once a connection is free.
    pub(super) async fn run<T, Q>(self: Arc<Readers>, query: Q) -> anyhow::Result<T>
    where
        T: Send + 'static,
        Q: FnOnce(&mut Connection) -> anyhow::Result<T> + Send + 'static,
    {
        let turn = Arc::clone(&self.turns).acquire_owned().await.context("the store is closed")?;
        let work = move || {
            let _turn = turn;
            let connection = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let mut connection = connection.context("a query went down with its connection")?;
            let answer = query(&mut connection);
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            answer
        };
        tokio::task::spawn_blocking(work).await.context("a query panicked")?
    }
}

/// A connection that cannot write.
pub(super) fn connect(path: &Path) -> anyhow::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS_KEPT);
        Ok(connection)
    };
    open().with_context(|| format!("open {} for reading", path.display()))
}
