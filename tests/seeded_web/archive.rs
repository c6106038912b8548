//! Store and logs, and how things get into them.

use busybee::master::domain::decision::Record;
use busybee::master::logs::LogName;
use busybee::master::logs::Logs;
use busybee::master::store::Store;
use busybee::model::ids::AttemptId;
use busybee::model::ids::WorkerName;

/// What pages and API read.
#[derive(Clone)]
pub struct Archive {
    pub store: Store,
    pub logs: Logs,
}

impl Archive {
    /// With nothing in it.
    pub async fn empty() -> Archive {
        Archive { store: Store::default(), logs: Logs::default() }
    }

    /// Remembers rows, as the event loop does.
    pub async fn remember(&self, records: Vec<Record>) {
        self.store.commit(records).await.expect("commit");
    }

    /// Appends to a step's log.
    pub async fn step_log(&self, attempt: u64, step: u32, bytes: &[u8]) {
        self.append(LogName::Step { attempt: AttemptId(attempt), step }, bytes).await;
    }

    /// Appends to a worker's boot log.
    pub async fn boot_log(&self, worker: &str, bytes: &[u8]) {
        self.append(LogName::Boot(WorkerName::from(worker)), bytes).await;
    }

    async fn append(&self, name: LogName, bytes: &[u8]) {
        self.logs.append(&name, bytes);
    }
}
