//! Store and logs, and how things get into them.

use std::sync::Arc;

use busybee::master::domain::decision::Record;
use busybee::master::logs::LogStore;
use busybee::master::logs::key::LogKey;
use busybee::master::store::Store;
use busybee::model::attempt::LogChunk;
use busybee::model::attempt::LogOwner;
use busybee::model::ids::AttemptId;
use busybee::model::ids::WorkerName;
use busybee::model::time::Timestamp;

/// Raw bytes of one chunk, as an agent would send them.
const CHUNK_BYTES: usize = 64 * 1024;

/// What pages and API read.
#[derive(Clone)]
pub struct Archive {
    pub store: Store,
    pub logs: LogStore,
    _data_dir: Arc<tempfile::TempDir>,
}

impl Archive {
    /// With nothing in it.
    pub async fn empty() -> Archive {
        let data_dir = tempfile::tempdir().expect("make a scratch directory");
        let store = Store::open(data_dir.path()).expect("open the store");
        let logs = LogStore::open(data_dir.path()).expect("open the logs");
        Archive { store, logs, _data_dir: Arc::new(data_dir) }
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

    async fn append(&self, key: LogKey, bytes: &[u8]) {
        for raw in bytes.chunks(CHUNK_BYTES) {
            let chunk = LogChunk {
                owner: LogOwner::Boot,
                offset: self.logs.size(&key).await.expect("look at a log").bytes,
                raw_len: u32::try_from(raw.len()).expect("chunks are small"),
                first_at: Timestamp(0),
                last_at: Timestamp(0),
                frame: zstd::bulk::compress(raw, 1).expect("compress"),
            };
            self.logs.append(&key, chunk).await.expect("append");
        }
    }
}
