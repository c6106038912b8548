//! The laws of a log: nothing is lost, nothing comes twice, and nobody waits for a reader.

use std::path::Path;
use std::path::PathBuf;
use std::time::Duration;

use crate::master::logs::LOGS_OPEN_MAX;
use crate::master::logs::LogStore;
use crate::master::logs::error::LogError;
use crate::master::logs::frame::Unpacker;
use crate::master::logs::index::Index;
use crate::master::logs::key::LogKey;
use crate::master::logs::log::Appended;
use crate::master::logs::log::Log;
use crate::master::logs::read::READ_BYTES_MAX;
use crate::model::attempt::LOG_CHUNK_RAW_BYTES_MAX;
use crate::model::attempt::LogChunk;
use crate::model::attempt::LogOwner;
use crate::model::ids::AttemptId;
use crate::model::time::Timestamp;

fn key() -> LogKey {
    LogKey::Step { attempt: AttemptId(7), step: 1 }
}

fn chunk(offset: usize, raw: &[u8]) -> LogChunk {
    let offset = u64::try_from(offset).unwrap();
    LogChunk {
        owner: LogOwner::Boot,
        offset,
        raw_len: u32::try_from(raw.len()).unwrap(),
        first_at: Timestamp(1000 + offset),
        last_at: Timestamp(2000 + offset),
        frame: zstd::bulk::compress(raw, 1).unwrap(),
    }
}

/// A log's bytes that zstd cannot make much smaller: numbered lines of pseudo-random hex.
fn noise(lines: usize) -> Vec<u8> {
    let mut state: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut text = String::new();
    for line in 0..lines {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(line as u64 | 1);
        text.push_str(&format!("{line} {state:016x}{:016x}\n", state.rotate_left(23) ^ 0x55));
    }
    text.into_bytes()
}

/// Appends all of `raw` from `from` on in chunks of `size` bytes, without any thread.
fn fill(log: &Log, raw: &[u8], from: usize, size: usize) {
    let mut unpacker = Unpacker::new().unwrap();
    for (number, part) in raw[from..].chunks(size).enumerate() {
        let offset = from + number * size;
        let end = u64::try_from(offset + part.len()).unwrap();
        let (appended, _) = log.append(&chunk(offset, part), &mut unpacker).unwrap();
        assert_eq!(appended, Appended::Stored { end });
    }
    while log.flush() {}
}

fn whole(log: &Log) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let part = log.read_at(bytes.len() as u64, READ_BYTES_MAX).unwrap();
        if part.bytes.is_empty() {
            return bytes;
        }
        bytes.extend(part.bytes);
    }
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("steps/0/7-1.zst");
    (dir, path)
}

#[test]
fn a_log_cut_at_any_byte_of_its_last_chunk_goes_on_where_the_one_before_ended() {
    let (_dir, path) = folder();
    fill(&Log::at(path.clone()), b"first\nsecond\n", 0, 6);
    let two = std::fs::read(&path).unwrap();
    fill(&Log::at(path.clone()), b"first\nsecond\nthird\n", 13, 6);
    let three = std::fs::read(&path).unwrap();
    for len in two.len()..three.len() {
        std::fs::write(&path, &three[..len]).unwrap();
        let log = Log::at(path.clone());
        assert_eq!(whole(&log), b"first\nsecond\n", "cut at {len}");
        assert_eq!(std::fs::read(&path).unwrap(), two);
        fill(&log, b"first\nsecond\nthird\n", 13, 6);
        assert_eq!(std::fs::read(&path).unwrap(), three);
    }
    // Power was lost: the file's length is on disk, its last bytes are not.
    let mut holed = three.clone();
    holed[two.len() + 70..].fill(0);
    std::fs::write(&path, holed).unwrap();
    assert_eq!(whole(&Log::at(path)), b"first\nsecond\n");
}

#[test]
fn a_log_is_read_by_plain_zstd() {
    let (_dir, path) = folder();
    let raw = noise(3000);
    fill(&Log::at(path.clone()), &raw, 0, 5000);
    let plain = zstd::stream::decode_all(std::fs::File::open(path).unwrap()).unwrap();
    assert!(plain == raw);
}

#[test]
fn an_index_that_is_lost_or_wrong_is_made_again_as_it_was() {
    let (_dir, path) = folder();
    let raw = noise(20_000);
    fill(&Log::at(path.clone()), &raw, 0, 9_000);
    let index_path = Index::path_of(&path);
    let index = std::fs::read(&index_path).unwrap();
    assert!(index.len() >= 5 * 32, "several entries, or this shows nothing: {}", index.len());
    let check = |what: &str| {
        let log = Log::at(path.clone());
        assert!(whole(&log) == raw, "{what}");
        assert!(std::fs::read(&index_path).unwrap() == index, "{what}");
    };
    check("untouched");
    std::fs::remove_file(&index_path).unwrap();
    check("lost");
    std::fs::write(&index_path, &index[..33]).unwrap();
    check("torn");
    std::fs::write(&index_path, [&index[..], b"and more"].concat()).unwrap();
    check("too long");
    let (_other_dir, other) = folder();
    fill(&Log::at(other.clone()), &noise(20_000), 0, 7_000);
    std::fs::copy(Index::path_of(&other), &index_path).unwrap();
    check("another log's");
}

#[test]
fn any_line_is_found_without_reading_what_lies_before_and_after() {
    let (_dir, path) = folder();
    let raw = noise(60_000);
    fill(&Log::at(path.clone()), &raw, 0, 9_000);
    let mut file = std::fs::read(&path).unwrap();
    let (len, spare) = (file.len(), 320 * 1024);
    assert!(len > 3 * spare, "{len}");
    // Whoever reads these parts meets no chunk there.
    file[1..len / 2 - spare / 2].fill(0);
    file[len / 2 + spare / 2..len - spare].fill(0);
    std::fs::write(&path, file).unwrap();
    let log = Log::at(path);
    assert_eq!(log.size().unwrap().lines, 60_000);
    for line in [30_000, 59_998] {
        let part = log.read_lines(line, 2, READ_BYTES_MAX).unwrap();
        let text = String::from_utf8(part.bytes).unwrap();
        let starts: Vec<&str> = text.lines().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(starts, [line.to_string(), (line + 1).to_string()]);
    }
    let damaged = log.read_lines(0, 1, 10).unwrap_err();
    assert!(matches!(damaged, LogError::Disk(why) if why.contains("damaged at byte 0")));
}

#[test]
fn lines_and_offsets_lead_to_the_same_bytes_however_the_log_was_cut() {
    let (_dir, path) = folder();
    let raw = b"one\n\ntwo is longer\nthree\nno line feed at the end";
    let lines: Vec<&[u8]> = raw.split_inclusive(|byte| *byte == b'\n').collect();
    for size in 1..raw.len() {
        let log = Log::at(path.with_file_name(format!("{size}.zst")));
        fill(&log, raw, 0, size);
        assert_eq!(log.size().unwrap().lines, 5);
        let mut offset = 0;
        for (number, line) in (0..).zip(&lines) {
            let part = log.read_lines(number, 1, READ_BYTES_MAX).unwrap();
            assert_eq!((part.offset, &part.bytes[..]), (offset, *line), "{size}: line {number}");
            // The time of its first byte is that of the chunk it came in.
            let first = part.times[0];
            assert!(first.offset <= offset && offset < first.offset + size as u64);
            assert_eq!(first.first_at, Timestamp(1000 + first.offset));
            offset += line.len() as u64;
        }
        let beyond = log.read_lines(5, 1, READ_BYTES_MAX).unwrap();
        assert_eq!((beyond.offset, beyond.bytes.len()), (offset, 0));
        for from in 0..=raw.len() {
            let part = log.read_at(from as u64, 7).unwrap();
            assert_eq!(part.bytes, raw[from..raw.len().min(from + 7)], "{size}: from {from}");
        }
        assert_eq!(log.read_at(u64::MAX, 7).unwrap().bytes, b"");
    }
}

#[test]
fn a_log_that_could_not_be_made_durable_falls_back_and_takes_the_rest_again() {
    let (_dir, path) = folder();
    let log = Log::at(path.clone());
    fill(&log, b"durable ", 0, 8);
    let file = std::fs::read(&path).unwrap();
    let mut unpacker = Unpacker::new().unwrap();
    let lost = chunk(8, b"lost");
    log.append(&lost, &mut unpacker).unwrap();
    assert_eq!(whole(&log), b"durable lost", "viewers see it at once");
    let falls = log.watch_falls();
    log.fall_back();
    assert!(falls.has_changed().unwrap(), "or nobody would ask for the rest again");
    assert_eq!(whole(&log), b"durable ");
    assert_eq!(std::fs::read(&path).unwrap(), file);
    let later = log.append(&chunk(12, b"later"), &mut unpacker).unwrap();
    assert_eq!(later.0, Appended::Rewind { to: 8 });
    let (again, to_flush) = log.append(&lost, &mut unpacker).unwrap();
    assert_eq!((again, to_flush), (Appended::Stored { end: 12 }, true));
}

fn store(dir: &Path) -> LogStore {
    LogStore::open(dir).unwrap()
}

#[tokio::test]
async fn only_the_exact_next_offset_is_taken_also_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let logs = store(dir.path());
    let append = async |logs: &LogStore, offset, raw: &[u8]| {
        logs.append(&key(), chunk(offset, raw)).await.unwrap()
    };
    assert_eq!(append(&logs, 1, b"early").await, Appended::Rewind { to: 0 });
    assert!(!dir.path().join("logs").exists(), "a refused chunk makes no file");
    assert_eq!(append(&logs, 0, b"hello ").await, Appended::Stored { end: 6 });
    for wrong in [0, 5, 7, 1 << 40] {
        assert_eq!(append(&logs, wrong, b"again").await, Appended::Rewind { to: 6 });
    }
    drop(logs);
    let logs = store(dir.path());
    assert_eq!(logs.watch_durable(&key()).await.unwrap().current(), 6);
    assert_eq!(append(&logs, 0, b"hello ").await, Appended::Rewind { to: 6 });
    assert_eq!(append(&logs, 6, b"world").await, Appended::Stored { end: 11 });
    assert!(logs.wait_until(&key(), 11, Duration::from_secs(20)).await);
    logs.finish(&key());
    assert_eq!(logs.read_at(&key(), 0, 99).await.unwrap().bytes, b"hello world");
}

#[tokio::test]
async fn what_an_agent_must_not_send_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let logs = store(dir.path());
    let mut bomb = chunk(0, &vec![b'x'; LOG_CHUNK_RAW_BYTES_MAX]);
    bomb.raw_len = 5;
    let mut empty = chunk(0, b"x");
    empty.raw_len = 0;
    for wrong in [bomb, empty] {
        let error = logs.append(&key(), wrong).await.unwrap_err();
        assert!(matches!(error, LogError::Refused(_)), "{error}");
    }
    assert_eq!(logs.size(&key()).await.unwrap().bytes, 0);
    let largest = chunk(0, &vec![b'x'; LOG_CHUNK_RAW_BYTES_MAX]);
    logs.append(&key(), largest).await.unwrap();
}

#[tokio::test]
async fn a_disk_that_does_not_let_us_write_is_not_the_agents_fault() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("logs"), "a file where the folder should be").unwrap();
    let error = store(dir.path()).append(&key(), chunk(0, b"x")).await.unwrap_err();
    assert!(matches!(&error, LogError::Disk(why) if why.contains("steps/0/7-1.zst")), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everyone_who_follows_sees_every_byte_once_whenever_they_came() {
    let dir = tempfile::tempdir().unwrap();
    let logs = store(dir.path());
    let raw = noise(4000);
    let follower = |logs: LogStore, start: u64, expected: Vec<u8>| async move {
        let mut end = logs.follow(&key()).await.unwrap();
        while end.current() < start {
            end.changed().await;
        }
        let mut seen = Vec::new();
        while seen.len() < expected.len() {
            let part = logs.read_at(&key(), seen.len() as u64, 3000).await.unwrap();
            match part.bytes.is_empty() {
                // A change between the read and here is told at once.
                true => drop(end.changed().await),
                false => seen.extend(part.bytes),
            }
        }
        assert!(seen == expected);
    };
    let followers: Vec<_> = [0, 1, 60_000]
        .map(|start| tokio::spawn(follower(logs.clone(), start, raw.clone())))
        .into_iter()
        .collect();
    for (number, part) in raw.chunks(700).enumerate() {
        logs.append(&key(), chunk(number * 700, part)).await.unwrap();
    }
    for follower in followers {
        tokio::time::timeout(Duration::from_secs(20), follower).await.unwrap().unwrap();
    }
    assert!(logs.wait_until(&key(), raw.len() as u64, Duration::from_secs(20)).await);
}

#[tokio::test]
async fn waiting_for_a_log_ends_when_it_makes_no_progress() {
    let dir = tempfile::tempdir().unwrap();
    let logs = store(dir.path());
    logs.append(&key(), chunk(0, b"half")).await.unwrap();
    assert!(logs.wait_until(&key(), 4, Duration::from_secs(20)).await);
    assert!(!logs.wait_until(&key(), 8, Duration::from_millis(5)).await);
    assert!(logs.wait_until(&LogKey::Boot("w".into()), 0, Duration::from_millis(5)).await);
}

#[tokio::test]
async fn many_logs_need_few_files_and_a_removed_one_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let logs = store(dir.path());
    let boot = |number: usize| LogKey::Boot(format!("w-{number}").as_str().into());
    let many = 3 * LOGS_OPEN_MAX;
    for number in 0..many {
        let text = format!("boot {number}");
        logs.append(&boot(number), chunk(0, text.as_bytes())).await.unwrap();
        assert!(logs.wait_until(&boot(number), 1, Duration::from_secs(20)).await);
    }
    assert!(logs.inner.open.lock().unwrap().len() <= LOGS_OPEN_MAX + 8);
    assert_eq!(logs.read_at(&boot(0), 0, 99).await.unwrap().bytes, b"boot 0");
    logs.remove(&boot(0)).await.unwrap();
    assert_eq!(logs.size(&boot(0)).await.unwrap().bytes, 0);
    assert_eq!(logs.read_at(&boot(many - 1), 0, 4).await.unwrap().bytes, b"boot");
}
