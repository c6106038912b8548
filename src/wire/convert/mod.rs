//! Messages to protobuf and back: the only code that sees both spellings.
//!
//! What comes in is checked here, once: counts, lengths, missing parts. A message without an arm
//! or without a part it needs is a protocol error; an unknown value of an enum is its safe state.

mod agent;
mod attempt;
#[cfg(test)]
mod golden;
mod log;
mod master;
#[cfg(test)]
mod samples;

use std::time::Duration;

use bytes::BytesMut;
use prost::Message;

use crate::wire::frame;
use crate::wire::frame::FrameError;
use crate::wire::generated as proto;
use crate::wire::message::FromAgent;
use crate::wire::message::FromMaster;

/// A sentence or an error text from the other end, in bytes at most; longer ones are cut.
pub const SENTENCE_BYTES_MAX: usize = 4096;

/// What is wrong with a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// The bytes are no message.
    #[error("bytes that are no message")]
    Undecodable,
    /// A part is missing that must be there.
    #[error("a message without {0}")]
    Missing(&'static str),
    /// A value is out of its range.
    #[error("a message with an impossible {0}")]
    Impossible(&'static str),
}

/// Appends an agent's message as a frame.
///
/// # Errors
/// When it is longer than a frame may be.
pub fn append_from_agent(message: FromAgent, out: &mut BytesMut) -> Result<(), FrameError> {
    append(&proto::FromAgent { message: Some(agent::to_proto(message)) }, out)
}

/// Appends a master's message as a frame.
///
/// # Errors
/// When it is longer than a frame may be.
pub fn append_from_master(message: FromMaster, out: &mut BytesMut) -> Result<(), FrameError> {
    append(&proto::FromMaster { message: Some(master::to_proto(message)) }, out)
}

/// Reads the body of an agent's frame.
///
/// # Errors
/// When the agent broke a rule: close the connection.
pub fn read_from_agent(body: &[u8]) -> Result<FromAgent, ProtocolError> {
    let message = proto::FromAgent::decode(body).map_err(|_| ProtocolError::Undecodable)?;
    agent::from_proto(message.message.ok_or(ProtocolError::Missing("an arm"))?)
}

/// Reads the body of a master's frame.
///
/// # Errors
/// When the master broke a rule: close the connection.
pub fn read_from_master(body: &[u8]) -> Result<FromMaster, ProtocolError> {
    let message = proto::FromMaster::decode(body).map_err(|_| ProtocolError::Undecodable)?;
    master::from_proto(message.message.ok_or(ProtocolError::Missing("an arm"))?)
}

fn append(message: &impl Message, out: &mut BytesMut) -> Result<(), FrameError> {
    frame::append(out, message.encoded_len(), |out| {
        message.encode(out).expect("a growing buffer has room");
    })
}

fn variables_to_proto(variables: Vec<(String, String)>) -> Vec<proto::Variable> {
    variables.into_iter().map(|(name, value)| proto::Variable { name, value }).collect()
}

fn variables_from_proto(variables: Vec<proto::Variable>) -> Vec<(String, String)> {
    variables.into_iter().map(|variable| (variable.name, variable.value)).collect()
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn short_ms(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// The text, cut between characters to at most `bytes_max` bytes.
fn cut(mut text: String, bytes_max: usize) -> String {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

/// A sentence from the other end.
fn sentence(text: String) -> String {
    cut(text, SENTENCE_BYTES_MAX)
}
