//! A master that lives for one command: its directory, how it is watched, and how all that it started ends.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use tokio::sync::broadcast::error::RecvError;

use crate::master::app::Running;
use crate::master::domain::event::Request;
use crate::master::notices::Notice;
use crate::model::ids::PoolName;
use crate::runtime::private_file;
use crate::runtime::random;

/// Should a notice get lost, things are looked at this often anyway.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The master's directory.
pub(super) struct Scratch {
    /// Where it is.
    pub dir: PathBuf,
    goes_away: bool,
}

impl Scratch {
    /// The directory that is wished, which stays; or one of its own for this `purpose`, which does not.
    pub(super) fn create(purpose: &str, wanted: Option<&Path>) -> anyhow::Result<Scratch> {
        let dir = match wanted {
            Some(dir) => dir.to_owned(),
            None => {
                std::env::temp_dir().join(format!("busybee-{purpose}-{:016x}", random::number()))
            }
        };
        private_file::create_folder(&dir)?;
        let dir = dir.canonicalize().context("find its own directory")?;
        Ok(Scratch { dir, goes_away: wanted.is_none() })
    }

    /// Removes what is not to stay.
    pub(super) fn remove(&self) -> anyhow::Result<()> {
        if !self.goes_away {
            return Ok(());
        }
        std::fs::remove_dir_all(&self.dir)
            .with_context(|| format!("remove its directory {}", self.dir.display()))
    }
}

/// Wakes when something has changed, or after a while.
pub(super) struct Looks {
    notices: tokio::sync::broadcast::Receiver<Notice>,
}

impl Looks {
    pub(super) fn new(running: &Running) -> Looks {
        Looks { notices: running.notices.watch() }
    }

    pub(super) async fn next(&mut self) {
        let news = tokio::time::timeout(LOOK_EVERY, self.notices.recv()).await;
        if matches!(news, Ok(Err(RecvError::Closed))) {
            // Only a master that ends closes it; the next look sees the last state.
            tokio::task::yield_now().await;
        }
    }
}

/// Ends what this master started in its only pool, and waits until it is gone: a master that serves leaves its workers
/// running, a throw-away one does not.
///
/// # Errors
/// When something is still there after `timeout`.
pub(super) async fn end_workers(
    running: &Running,
    pool: &PoolName,
    timeout: Duration,
) -> anyhow::Result<()> {
    running.inbox.ask(Request::PausePool(pool.clone())).await;
    for worker in running.store.workers().await? {
        running.inbox.ask(Request::StopWorker(worker.name)).await;
    }
    let gone = async {
        let mut looks = Looks::new(running);
        while !running.store.active_instances().await?.is_empty() {
            looks.next().await;
        }
        Ok::<(), anyhow::Error>(())
    };
    tokio::time::timeout(timeout, gone).await.context("end its workers in time")?
}
