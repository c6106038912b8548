//! Bodies of frames become messages, in both directions.
//!
//! What is read can be written, and reads back as the same message: `decode(encode(x)) == x`, and
//! written again it is the same bytes. What is promised of a read message holds: counts, lengths
//! and offsets are within their limits.

#![no_main]

use std::fmt::Debug;

use busybee::model::attempt::LOG_CHUNK_BYTES_MAX;
use busybee::model::attempt::LOG_CHUNK_RAW_BYTES_MAX;
use busybee::wire::convert;
use busybee::wire::convert::ProtocolError;
use busybee::wire::convert::SENTENCE_BYTES_MAX;
use busybee::wire::frame::FrameError;
use busybee::wire::message::FromAgent;
use busybee::wire::message::FromMaster;
use busybee::wire::message::TAIL_BYTES_MAX;
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

/// The length in front of each body.
const HEADER_BYTES: usize = 4;

fuzz_target!(|body: &[u8]| {
    round_trip(body, convert::read_from_agent, convert::append_from_agent);
    round_trip(body, convert::read_from_master, convert::append_from_master);
    match convert::read_from_agent(body) {
        Ok(message) => check_from_agent(&message),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(FromMaster::Welcome(welcome)) = convert::read_from_master(body) {
        assert!(!welcome.heartbeat_busy.is_zero() && !welcome.heartbeat_idle.is_zero());
    }
});

/// A load that is not a number equals nothing, so bytes and print are compared.
fn round_trip<M: Clone + Debug>(
    body: &[u8],
    read: fn(&[u8]) -> Result<M, ProtocolError>,
    append: fn(M, &mut BytesMut) -> Result<(), FrameError>,
) {
    let Ok(message) = read(body) else { return };
    let (mut first, mut second) = (BytesMut::new(), BytesMut::new());
    if let Err(error) = append(message.clone(), &mut first) {
        assert!(matches!(error, FrameError::TooLong { .. }) && first.is_empty());
        return;
    }
    let again = read(&first[HEADER_BYTES..]).expect("we understand ourselves");
    assert_eq!(format!("{message:?}"), format!("{again:?}"));
    append(again, &mut second).expect("it fitted before");
    assert_eq!(first, second);
}

fn check_from_agent(message: &FromAgent) {
    match message {
        FromAgent::LogChunk(chunk) => {
            assert!((1..=LOG_CHUNK_RAW_BYTES_MAX).contains(&(chunk.raw_len as usize)));
            assert!((1..=LOG_CHUNK_BYTES_MAX).contains(&chunk.frame.len()));
            assert!(chunk.offset.checked_add(u64::from(chunk.raw_len)).is_some());
        }
        FromAgent::BootstrapResult { tail, .. } => assert!(tail.len() <= TAIL_BYTES_MAX),
        FromAgent::AttemptRejected { sentence, .. }
        | FromAgent::Notice(sentence)
        | FromAgent::Interruption { sentence, .. }
        | FromAgent::Goodbye { sentence } => assert!(sentence.len() <= SENTENCE_BYTES_MAX),
        FromAgent::Inventory(inventory) => assert!(inventory.attempts.len() <= 1000),
        FromAgent::Hello(_)
        | FromAgent::Heartbeat(_)
        | FromAgent::AttemptAccepted(_)
        | FromAgent::StepStarted { .. }
        | FromAgent::StepResult(_)
        | FromAgent::AttemptResult { .. } => {}
    }
}
