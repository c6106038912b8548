//! Log chunks and their acks, between their two spellings.

use crate::model::attempt::LOG_CHUNK_BYTES_MAX;
use crate::model::attempt::LOG_CHUNK_RAW_BYTES_MAX;
use crate::model::attempt::LogChunk;
use crate::model::attempt::LogOwner;
use crate::model::time::Timestamp;
use crate::wire::convert::ProtocolError;
use crate::wire::convert::attempt;
use crate::wire::generated as proto;

pub(crate) fn owner_to_proto(owner: LogOwner) -> proto::LogOwner {
    let owner = match owner {
        LogOwner::Step { attempt, step } => proto::log_owner::Owner::Step(proto::StepOwner {
            attempt: Some(attempt::id_to_proto(attempt)),
            step,
        }),
        LogOwner::Boot => proto::log_owner::Owner::Boot(proto::BootOwner {}),
    };
    proto::LogOwner { owner: Some(owner) }
}

pub(crate) fn owner_from_proto(owner: Option<proto::LogOwner>) -> Result<LogOwner, ProtocolError> {
    match owner.and_then(|owner| owner.owner).ok_or(ProtocolError::Missing("a log's owner"))? {
        proto::log_owner::Owner::Step(owner) => {
            Ok(LogOwner::Step { attempt: attempt::id_from_proto(owner.attempt)?, step: owner.step })
        }
        proto::log_owner::Owner::Boot(proto::BootOwner {}) => Ok(LogOwner::Boot),
    }
}

pub(crate) fn chunk_to_proto(chunk: LogChunk) -> proto::LogChunk {
    proto::LogChunk {
        owner: Some(owner_to_proto(chunk.owner)),
        offset: chunk.offset,
        raw_len: chunk.raw_len,
        first_at_ms: chunk.first_at.0,
        last_at_ms: chunk.last_at.0,
        frame: chunk.frame,
    }
}

pub(crate) fn chunk_from_proto(chunk: proto::LogChunk) -> Result<LogChunk, ProtocolError> {
    if chunk.raw_len == 0 || chunk.raw_len as usize > LOG_CHUNK_RAW_BYTES_MAX {
        return Err(ProtocolError::Impossible("raw length of a log chunk"));
    }
    if chunk.frame.is_empty() || chunk.frame.len() > LOG_CHUNK_BYTES_MAX {
        return Err(ProtocolError::Impossible("length of a log chunk"));
    }
    if chunk.offset.checked_add(u64::from(chunk.raw_len)).is_none() {
        return Err(ProtocolError::Impossible("offset of a log chunk"));
    }
    Ok(LogChunk {
        owner: owner_from_proto(chunk.owner)?,
        offset: chunk.offset,
        raw_len: chunk.raw_len,
        first_at: Timestamp(chunk.first_at_ms),
        last_at: Timestamp(chunk.last_at_ms),
        frame: chunk.frame,
    })
}
