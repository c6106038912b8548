//! A log's file and its index after a crash: torn anywhere, with bytes behind them, stale or gone.
//!
//! After a torn tail the log is exactly the chunks that were whole; after any damage it is a
//! beginning of what was written, or reading says that the disk lost something: never other bytes.
//! It goes on from where it says it ends, and its index is the one that is made anew from the file
//! alone.

#![no_main]

use std::fs;
use std::path::Path;
use std::path::PathBuf;

use busybee::master::logs::LogStore;
use busybee::master::logs::error::LogError;
use busybee::master::logs::key::LogKey;
use busybee::master::logs::log::Appended;
use busybee::model::attempt::LogChunk;
use busybee::model::attempt::LogOwner;
use busybee::model::ids::AttemptId;
use busybee::model::time::Timestamp;
use busybee_fuzz::noise;
use busybee_fuzz::runtime;
use libfuzzer_sys::arbitrary;
use libfuzzer_sys::arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

const KEY: LogKey = LogKey::Step { attempt: AttemptId(1), step: 1 };
const CHUNKS_MAX: usize = 10;
/// Noise of this length still fits into a chunk when it is packed.
const CHUNK_BYTES_MAX: usize = 60_000;

#[derive(Arbitrary, Debug)]
struct Crash<'a> {
    /// The raw length of each chunk: enough for several index entries.
    chunks: Vec<u16>,
    log: Vec<Damage<'a>>,
    index: Vec<Damage<'a>>,
    /// Lines that are looked up.
    line: u16,
}

#[derive(Arbitrary, Debug)]
enum Damage<'a> {
    Cut(u32),
    Behind(&'a [u8]),
    Flip { at: u32, bits: u8 },
    Gone,
}

fuzz_target!(|crash: Crash<'_>| {
    let scratch = busybee_fuzz::scratch();
    runtime().block_on(survive(scratch.path(), &crash));
});

async fn survive(data_dir: &Path, crash: &Crash<'_>) {
    let lens: Vec<usize> = crash
        .chunks
        .iter()
        .take(CHUNKS_MAX)
        .map(|len| usize::from(*len) % CHUNK_BYTES_MAX + 1)
        .collect();
    let logs = LogStore::open(data_dir).expect("log threads");
    let (mut truth, mut ends) = (Vec::new(), Vec::new());
    for (number, len) in lens.iter().enumerate() {
        let raw = noise(number as u64, *len);
        append(&logs, truth.len() as u64, &raw).await;
        truth.extend(raw);
        let path = data_dir.join("logs/steps/0/1-1.zst");
        ends.push((fs::metadata(path).expect("a log").len(), truth.len()));
    }
    drop(logs); // Waits until all is durable.

    let [log, index] =
        ["zst", "idx"].map(|end| data_dir.join("logs/steps/0/1-1").with_extension(end));
    let torn_at = damage(&log, &crash.log);
    damage(&index, &crash.index);
    let (found, is_whole) = reopen(data_dir, &truth, crash.line.into()).await;
    if let Some(torn_at) = torn_at {
        // Nothing but its tail is wrong.
        let whole = ends.iter().take_while(|(file, _)| *file <= torn_at).last();
        assert!(is_whole);
        assert_eq!(found, whole.map_or(0, |(_, raw)| *raw));
    }
    let is_gone = crash.log.iter().any(|damage| matches!(damage, Damage::Gone));
    // The index of a log that is gone is forgotten with its first new entry.
    if is_whole && log.exists() && !is_gone {
        check_index(data_dir, &log, &index).await;
    }
}

async fn append(logs: &LogStore, offset: u64, raw: &[u8]) {
    let (owner, at) = (LogOwner::Boot, Timestamp(7));
    let frame = zstd::bulk::compress(raw, 1).expect("memory to pack it");
    let raw_len = raw.len() as u32;
    let chunk = LogChunk { owner, offset, raw_len, first_at: at, last_at: at, frame };
    let appended = logs.append(&KEY, chunk).await.expect("an honest chunk");
    assert_eq!(appended, Appended::Stored { end: offset + raw.len() as u64 });
}

/// Damages a file. Where it is torn; nothing: what is in front of that may be wrong as well.
fn damage(path: &PathBuf, all: &[Damage<'_>]) -> Option<u64> {
    let Ok(mut bytes) = fs::read(path) else { return Some(0) };
    let mut torn_at = Some(bytes.len() as u64);
    for damage in all {
        match damage {
            Damage::Cut(at) => bytes.truncate(*at as usize % (bytes.len() + 1)),
            Damage::Behind(more) => bytes.extend(*more),
            Damage::Flip { at, bits } => {
                let len = bytes.len().max(1);
                if let Some(byte) = bytes.get_mut(*at as usize % len) {
                    *byte ^= bits;
                    torn_at = torn_at.filter(|_| *bits == 0);
                }
            }
            Damage::Gone => {
                fs::remove_file(path).expect("it was there");
                return Some(0);
            }
        }
        torn_at = torn_at.map(|at| at.min(bytes.len() as u64));
    }
    fs::write(path, bytes).expect("room for a file");
    torn_at
}

/// How much is there of what was written, and whether all of that can be read.
async fn reopen(data_dir: &Path, truth: &[u8], line: u64) -> (usize, bool) {
    let logs = LogStore::open(data_dir).expect("log threads");
    let size = logs.size(&KEY).await.expect("any file can be taken up");
    let found = usize::try_from(size.bytes).expect("it is small");
    assert!(found <= truth.len());
    let mut is_whole = true;
    let mut at = 0;
    while at < found {
        match logs.read_at(&KEY, at as u64, usize::MAX).await {
            Ok(part) => {
                assert!(!part.bytes.is_empty() && truth[at..found].starts_with(&part.bytes));
                at += part.bytes.len();
            }
            Err(LogError::Disk(_)) => {
                is_whole = false;
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    if is_whole {
        check_lines(&logs, &truth[..found], size.lines, line).await;
        append(&logs, found as u64, b"and on it goes\n").await;
        let part = logs.read_at(&KEY, found as u64, 100).await.expect("what was just written");
        assert_eq!(part.bytes, b"and on it goes\n");
    }
    (found, is_whole)
}

async fn check_lines(logs: &LogStore, truth: &[u8], lines: u64, line: u64) {
    let feeds: Vec<usize> =
        truth.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(at, _)| at).collect();
    let open_line = truth.last().is_some_and(|last| *last != b'\n');
    assert_eq!(lines, feeds.len() as u64 + u64::from(open_line));
    let line = line % (lines + 2);
    let start = match line.checked_sub(1) {
        None => 0,
        Some(before) => feeds.get(before as usize).map_or(truth.len(), |at| at + 1),
    };
    let part = logs.read_lines(&KEY, line, 1, usize::MAX).await.expect("a line");
    assert_eq!(part.offset, start as u64);
    let end = truth[start..].iter().position(|byte| *byte == b'\n').map(|at| start + at + 1);
    assert_eq!(part.bytes, truth[start..end.unwrap_or(truth.len())]);
}

/// Whether the index is the one that the log alone makes.
async fn check_index(data_dir: &Path, log: &Path, index: &Path) {
    let kept = fs::read(index).unwrap_or_default();
    let anew = data_dir.join("anew");
    let place = anew.join("logs/steps/0");
    fs::create_dir_all(&place).expect("a folder");
    fs::copy(log, place.join("1-1.zst")).expect("room for a copy");
    let logs = LogStore::open(&anew).expect("log threads");
    logs.size(&KEY).await.expect("any file can be taken up");
    drop(logs);
    assert_eq!(kept, fs::read(place.join("1-1.idx")).unwrap_or_default());
}
