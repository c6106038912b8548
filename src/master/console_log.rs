//! The console of a machine whose agent never called, kept where its boot log would be.

use tracing::warn;

use crate::master::logs::LogStore;
use crate::master::logs::key::LogKey;
use crate::model::attempt::LOG_CHUNK_BYTES_MAX;
use crate::model::attempt::LogChunk;
use crate::model::attempt::LogOwner;
use crate::model::ids::WorkerName;
use crate::runtime::clock;

/// Bytes of one chunk: below what a frame may have, even where nothing can be compressed.
const CHUNK_BYTES: usize = LOG_CHUNK_BYTES_MAX / 2;

/// What stands above it, for whoever reads.
const HEADING: &str = "No agent called from this machine. This is what its console shows:\n\n";

/// zstd's usual level: a console has a few kilobytes.
const LEVEL: i32 = 3;

/// Writes a console into a worker's boot log, where that is empty.
pub(crate) async fn keep(logs: &LogStore, worker: &WorkerName, console: &str) {
    let key = LogKey::Boot(worker.clone());
    if console.trim().is_empty() || logs.size(&key).await.map_or(true, |size| size.bytes > 0) {
        return;
    }
    let text = format!("{HEADING}{console}");
    let mut offset = 0;
    for bytes in text.as_bytes().chunks(CHUNK_BYTES) {
        let Ok(frame) = zstd::bulk::compress(bytes, LEVEL) else { return };
        let now = clock::now();
        let chunk = LogChunk {
            owner: LogOwner::Boot,
            offset,
            raw_len: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
            first_at: now,
            last_at: now,
            frame,
        };
        if let Err(why) = logs.append(&key, chunk).await {
            return warn!("cannot keep the console of {worker}: {why}");
        }
        offset += bytes.len() as u64;
    }
    logs.finish(&key);
}
