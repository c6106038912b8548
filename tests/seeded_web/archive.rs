//! Store and logs, and how things get into them.

use std::sync::Arc;

use busybee::master::domain::decision::Record;
use busybee::master::logs::LogKey;
use busybee::master::logs::Logs;
use busybee::master::store::Store;
use busybee::model::ids::AttemptId;
use busybee::model::ids::WorkerName;

/// What pages and API read.
#[derive(Clone)]
pub struct Archive {
    pub store: Store,
    pub logs: Logs,
    _data_dir: Arc<tempfile::TempDir>,
}

impl Archive {
    /// With nothing in it.
    pub async fn empty() -> Archive {
        let data_dir = tempfile::tempdir().expect("make a scratch directory");
        let store = Store::open(data_dir.path()).expect("open the store");
        Archive { store, logs: Logs::default(), _data_dir: Arc::new(data_dir) }
    }

    /// Remembers rows, as the event loop does.
    pub async fn remember(&self, records: Vec<Record>) {
        self.store.commit(records).await.expect("commit");
    }

    /// Appends to a step's log.
    pub async fn step_log(&self, attempt: u64, step: u32, bytes: &[u8]) {
        self.append(LogKey::Step { attempt: AttemptId(attempt), step }, bytes).await;
    }

    /// Appends to a worker's boot log.
    pub async fn boot_log(&self, worker: &str, bytes: &[u8]) {
        self.append(LogKey::Boot(WorkerName::from(worker)), bytes).await;
    }

    async fn append(&self, name: LogKey, bytes: &[u8]) {
        self.logs.append(&name, bytes);
    }
}
