//! What crossed the wire once is understood for ever: the bytes of each message of each version.
//!
//! A line of `tests/fixtures/wire/v1.txt` is never changed once it was released; new kinds of
//! message get new lines.

use std::collections::BTreeMap;

use bytes::BytesMut;

use crate::wire::convert::ProtocolError;
use crate::wire::convert::append_from_agent;
use crate::wire::convert::append_from_master;
use crate::wire::convert::read_from_agent;
use crate::wire::convert::read_from_master;
use crate::wire::convert::samples;
use crate::wire::frame::Frames;
use crate::wire::message::FromAgent;
use crate::wire::message::FromMaster;
use crate::wire::message::GoodbyeCode;

const V1: &str = include_str!("../../../tests/fixtures/wire/v1.txt");

fn golden() -> BTreeMap<&'static str, Vec<u8>> {
    let bytes = |hex: &str| -> Vec<u8> {
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap();
        (0..hex.len()).step_by(2).map(byte).collect()
    };
    let lines = V1.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_once(' ').unwrap()).map(|(name, hex)| (name, bytes(hex))).collect()
}

/// The line that is missing or was changed, if one is.
fn differing(golden: &mut BTreeMap<&str, Vec<u8>>, name: &str, frame: &[u8]) -> Option<String> {
    if golden.remove(name).as_deref() == Some(frame) {
        return None;
    }
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    Some(format!("{name} {hex}"))
}

#[test]
fn every_message_of_version_1_is_spelled_and_read_as_ever() {
    let mut golden = golden();
    let mut differ = Vec::new();
    for (name, message) in samples::of_agent() {
        let mut frame = BytesMut::new();
        append_from_agent(message.clone(), &mut frame).unwrap();
        assert_eq!(read_from_agent(&frame[4..]), Ok(message), "{name}");
        differ.extend(differing(&mut golden, name, &frame));
    }
    for (name, message) in samples::of_master() {
        let mut frame = BytesMut::new();
        append_from_master(message.clone(), &mut frame).unwrap();
        assert_eq!(read_from_master(&frame[4..]), Ok(message), "{name}");
        differ.extend(differing(&mut golden, name, &frame));
    }
    assert!(differ.is_empty(), "v1.txt misses, or has otherwise:\n{}", differ.join("\n"));
    assert!(golden.is_empty(), "messages without a sample: {:?}", golden.keys());
}

#[test]
fn secrets_of_a_job_are_not_printed_with_its_messages() {
    for (name, message) in samples::of_master() {
        let printed = format!("{message:?}");
        for secret in ["t0ken", "KEY", "hunter2"] {
            assert!(!printed.contains(secret), "{name}: {printed}");
        }
    }
}

#[test]
fn what_we_do_not_know_means_the_safe_state() {
    // Goodbye { code: 77 }: call again. StepResult with outcome kind 77: nobody's fault.
    let goodbye = read_from_master(&[0x52, 0x02, 0x08, 77]).unwrap();
    assert!(matches!(goodbye, FromMaster::Goodbye { code: GoodbyeCode::Retry, .. }));
    let result = read_from_agent(&[0x4a, 0x08, 0x0a, 0x02, 0x08, 1, 0x1a, 0x02, 0x08, 77]).unwrap();
    let FromAgent::StepResult(result) = result else { panic!("{result:?}") };
    assert!(!result.outcome.passed());
    let ended = read_from_agent(&[0x52, 0x06, 0x0a, 0x02, 0x08, 1, 0x10, 77]).unwrap();
    assert!(format!("{ended:?}").contains("Infra"), "{ended:?}");
}

#[test]
fn a_message_without_what_it_needs_is_an_error() {
    assert_eq!(read_from_agent(&[]), Err(ProtocolError::Missing("an arm")));
    assert_eq!(read_from_master(&[]), Err(ProtocolError::Missing("an arm")));
    // An arm of a future version is no arm.
    assert_eq!(read_from_agent(&[0xf2, 0x7f, 0x00]), Err(ProtocolError::Missing("an arm")));
    assert_eq!(read_from_agent(&[0x0a, 0x00]), Err(ProtocolError::Missing("a proof")));
    assert_eq!(read_from_agent(&[0x4a, 0x00]), Err(ProtocolError::Missing("an attempt")));
    assert_eq!(read_from_master(&[0x32, 0x00]), Err(ProtocolError::Missing("a log's owner")));
    assert_eq!(read_from_agent(&[0xff; 9]), Err(ProtocolError::Undecodable));
}

/// Bytes and mutations from one seed; a failing case is found again by its number.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % below as u64).unwrap()
    }
}

#[test]
fn no_bytes_from_the_network_make_us_panic() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let originals: Vec<Vec<u8>> = golden().into_values().collect();
    for _ in 0..20_000 {
        let mut bytes = originals[dice.roll(originals.len())].clone();
        for _ in 0..=dice.roll(4) {
            let at = dice.roll(bytes.len());
            match dice.roll(4) {
                0 => bytes[at] = u8::try_from(dice.roll(256)).unwrap(),
                1 => bytes.truncate(at.max(1)),
                2 => bytes.insert(at, 0xff),
                _ => drop(bytes.remove(at.min(bytes.len() - 1))),
            }
            if bytes.is_empty() {
                bytes.push(0);
            }
        }
        let body = &bytes[4.min(bytes.len())..];
        let _any = (read_from_agent(body), read_from_master(body));
        let mut frames = Frames::before_welcome();
        frames.room().extend_from_slice(&bytes);
        while let Ok(Some(body)) = frames.take() {
            let _any = (read_from_agent(&body), read_from_master(&body));
        }
    }
}
