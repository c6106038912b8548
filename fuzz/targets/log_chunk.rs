//! A log chunk that an agent sends: honest, torn, lying about its length, or a bomb.
//!
//! What is stored is what was claimed, to the byte, and never more than a chunk may hold; a plain
//! reader of zstd sees the same bytes in the frame; an honest chunk is never refused; and what was
//! refused leaves the log as it was. Memory stays bounded (`-rss_limit_mb`).

#![no_main]

use std::io::Read;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use busybee::master::logs::LogStore;
use busybee::master::logs::error::LogError;
use busybee::master::logs::key::LogKey;
use busybee::master::logs::log::Appended;
use busybee::model::attempt::LOG_CHUNK_BYTES_MAX;
use busybee::model::attempt::LOG_CHUNK_RAW_BYTES_MAX;
use busybee::model::attempt::LogChunk;
use busybee::model::attempt::LogOwner;
use busybee::model::ids::AttemptId;
use busybee::model::time::Timestamp;
use busybee_fuzz::runtime;
use libfuzzer_sys::arbitrary;
use libfuzzer_sys::arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
struct Sent<'a> {
    /// What it says it holds; nothing: what it does hold.
    claims: Option<u32>,
    frame: Frame,
    bytes: &'a [u8],
}

#[derive(Arbitrary, Debug)]
enum Frame {
    /// The bytes are the frame.
    AsItIs,
    /// They are packed.
    Packed,
    /// They are packed again and again: up to 16 million times what was sent.
    Bomb(u8),
    /// A second frame stands behind the first.
    Two,
    /// One that readers skip stands before it, as the log's own headers do.
    Skippable,
    /// A byte of the packed frame is another.
    Flipped { at: u16, bits: u8 },
}

fuzz_target!(|sent: Sent<'_>| {
    let (frame, raw) = made(&sent.frame, sent.bytes);
    let is_honest = matches!(sent.frame, Frame::Packed) && !raw.is_empty();
    let claims = sent.claims.unwrap_or(raw.len() as u32);
    let fits = frame.len() <= LOG_CHUNK_BYTES_MAX && raw.len() <= LOG_CHUNK_RAW_BYTES_MAX;
    let must_be_taken = is_honest && fits && claims as usize == raw.len();
    let stored = runtime().block_on(store(claims, frame.clone()));
    match stored {
        Some(bytes) => {
            assert!((1..=LOG_CHUNK_RAW_BYTES_MAX).contains(&bytes.len()));
            assert_eq!(bytes.len(), claims as usize);
            assert_eq!(bytes, plain_reading(&frame), "another reader sees something else");
        }
        None => assert!(!must_be_taken, "an honest chunk was refused"),
    }
});

/// The frame, and what an honest agent would have packed in it.
fn made(kind: &Frame, bytes: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let packed = |raw: &[u8]| zstd::bulk::compress(raw, 1).expect("memory to pack it");
    let frame = match kind {
        Frame::AsItIs => bytes.to_vec(),
        Frame::Packed => packed(bytes),
        Frame::Bomb(doublings) => {
            let times = 1 << (doublings % 25);
            let raw = bytes.repeat((times).min((32 << 20) / bytes.len().max(1)));
            return (packed(&raw), raw);
        }
        Frame::Two => [packed(bytes), packed(b"more")].concat(),
        Frame::Skippable => {
            let header = [&0x184D_2A5B_u32.to_le_bytes()[..], &4_u32.to_le_bytes(), b"skip"];
            [header.concat(), packed(bytes)].concat()
        }
        Frame::Flipped { at, bits } => {
            let mut frame = packed(bytes);
            let len = frame.len();
            frame[usize::from(*at) % len] ^= bits;
            frame
        }
    };
    (frame, bytes.to_vec())
}

/// What the log holds after a chunk was taken; nothing: it was refused.
async fn store(raw_len: u32, frame: Vec<u8>) -> Option<Vec<u8>> {
    static LOGS: OnceLock<LogStore> = OnceLock::new();
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let logs = LOGS.get_or_init(|| {
        let scratch = Box::leak(Box::new(busybee_fuzz::scratch()));
        LogStore::open(scratch.path()).expect("log threads")
    });
    let attempt = AttemptId(NUMBER.fetch_add(1, Ordering::Relaxed));
    let key = LogKey::Step { attempt, step: 1 };
    let (owner, at) = (LogOwner::Boot, Timestamp(0));
    let chunk = LogChunk { owner, offset: 0, raw_len, first_at: at, last_at: at, frame };
    let appended = logs.append(&key, chunk).await;
    let size = logs.size(&key).await.expect("the log can be looked at").bytes;
    let stored = match appended {
        Ok(Appended::Stored { end }) => {
            assert_eq!(end, size);
            let part = logs.read_at(&key, 0, usize::MAX).await.expect("it can be read back");
            Some(part.bytes)
        }
        Ok(Appended::Rewind { to }) => panic!("an empty log wants to go on from {to}"),
        Err(LogError::Refused(_)) => {
            assert_eq!(size, 0);
            None
        }
        Err(LogError::Disk(why)) => panic!("{why}"),
    };
    logs.remove(&key).await.expect("it can be removed");
    stored
}

/// What `zstd -dc` would print, and a little more than is allowed at most.
fn plain_reading(frame: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let decoder = zstd::stream::read::Decoder::new(frame).expect("a decoder");
    let most = LOG_CHUNK_RAW_BYTES_MAX as u64 + 1;
    decoder.take(most).read_to_end(&mut bytes).expect("a frame that was taken is whole");
    bytes
}
