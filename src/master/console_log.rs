//! The console of a machine whose agent did not call, kept where its boot log would be; of one that was started
//! again: below what its first boot has left there.

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

/// The same below what its first boot has left.
const HEADING_AGAIN: &str = "\n\nIt was started again, and no agent called from it. This is what its console \
                             shows:\n\n";

/// zstd's usual level: a console has a few kilobytes.
const LEVEL: i32 = 3;

/// Writes a console at the end of a worker's boot log.
pub(crate) async fn keep(logs: &LogStore, worker: &WorkerName, console: &str) {
    if console.trim().is_empty() {
        return;
    }
    let key = LogKey::Boot(worker.clone());
    let mut offset = match logs.size(&key).await {
        Ok(size) => size.bytes,
        Err(why) => return warn!("cannot keep the console of {worker}: {why}"),
    };
    let heading = if offset == 0 { HEADING } else { HEADING_AGAIN };
    let text = format!("{heading}{console}");
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_console_of_a_start_stands_below_what_the_first_boot_has_left() {
        let folder = tempfile::tempdir().expect("a folder");
        let logs = LogStore::open(folder.path()).expect("a store");
        let worker = WorkerName::from("linux-1");
        keep(&logs, &worker, "  \n").await;
        keep(&logs, &worker, "first").await;
        keep(&logs, &worker, "second").await;
        let key = LogKey::Boot(worker);
        let part = logs.read_at(&key, 0, 10_000).await.expect("it can be read");
        let text = String::from_utf8(part.bytes.to_vec()).expect("it is text");
        assert_eq!(text, format!("{HEADING}first{HEADING_AGAIN}second"));
    }
}
