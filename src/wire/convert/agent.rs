//! What an agent says, between its two spellings.

use std::time::Duration;

use crate::model::time::Timestamp;
use crate::wire::convert::ProtocolError;
use crate::wire::convert::attempt;
use crate::wire::convert::cut;
use crate::wire::convert::log;
use crate::wire::convert::ms;
use crate::wire::convert::sentence;
use crate::wire::generated as proto;
use crate::wire::generated::from_agent::Message;
use crate::wire::message::FromAgent;
use crate::wire::message::Heartbeat;
use crate::wire::message::Hello;
use crate::wire::message::HelloProof;
use crate::wire::message::Inventory;
use crate::wire::message::InventoryItem;
use crate::wire::message::TAIL_BYTES_MAX;

/// Attempts in one Inventory, at most: a worker runs one at a time and forgets those that are done.
const INVENTORY_ITEMS_MAX: usize = 1000;

pub(crate) fn to_proto(message: FromAgent) -> Message {
    match message {
        FromAgent::Hello(hello) => Message::Hello(hello_to_proto(hello)),
        FromAgent::Inventory(inventory) => Message::Inventory(inventory_to_proto(&inventory)),
        FromAgent::Heartbeat(heartbeat) => Message::Heartbeat(heartbeat_to_proto(&heartbeat)),
        FromAgent::BootstrapResult { outcome, log_bytes, tail } => {
            Message::BootstrapResult(proto::BootstrapResult {
                outcome: Some(attempt::outcome_to_proto(outcome)),
                log_bytes,
                tail: cut(tail, TAIL_BYTES_MAX),
            })
        }
        FromAgent::AttemptAccepted(id) => Message::AttemptAccepted(attempt::id_to_proto(id)),
        FromAgent::AttemptRejected { attempt, sentence: text } => {
            Message::AttemptRejected(proto::AttemptRejected {
                attempt: Some(attempt::id_to_proto(attempt)),
                sentence: sentence(text),
            })
        }
        FromAgent::StepStarted { attempt, step, started_at } => {
            Message::StepStarted(proto::StepStarted {
                attempt: Some(attempt::id_to_proto(attempt)),
                step,
                started_at_ms: started_at.0,
            })
        }
        FromAgent::LogChunk(chunk) => Message::LogChunk(log::chunk_to_proto(chunk)),
        FromAgent::StepResult(result) => Message::StepResult(attempt::step_result_to_proto(result)),
        FromAgent::AttemptResult { attempt, outcome } => {
            Message::AttemptResult(attempt::result_to_proto(attempt, outcome))
        }
        FromAgent::Notice(text) => Message::Notice(sentence(text)),
        FromAgent::Interruption { ends_in, sentence: text } => {
            Message::Interruption(proto::Interruption {
                ends_in_ms: ms(ends_in),
                sentence: sentence(text),
            })
        }
        FromAgent::Goodbye { sentence: text } => Message::Goodbye(sentence(text)),
    }
}

pub(crate) fn from_proto(message: Message) -> Result<FromAgent, ProtocolError> {
    Ok(match message {
        Message::Hello(hello) => FromAgent::Hello(hello_from_proto(hello)?),
        Message::Inventory(inventory) => FromAgent::Inventory(inventory_from_proto(inventory)?),
        Message::Heartbeat(heartbeat) => FromAgent::Heartbeat(heartbeat_from_proto(&heartbeat)),
        Message::BootstrapResult(result) => FromAgent::BootstrapResult {
            outcome: attempt::outcome_from_proto(result.outcome),
            log_bytes: result.log_bytes,
            tail: cut(result.tail, TAIL_BYTES_MAX),
        },
        Message::AttemptAccepted(id) => {
            FromAgent::AttemptAccepted(attempt::id_from_proto(Some(id))?)
        }
        Message::AttemptRejected(rejected) => FromAgent::AttemptRejected {
            attempt: attempt::id_from_proto(rejected.attempt)?,
            sentence: sentence(rejected.sentence),
        },
        Message::StepStarted(started) => FromAgent::StepStarted {
            attempt: attempt::id_from_proto(started.attempt)?,
            step: started.step,
            started_at: Timestamp(started.started_at_ms),
        },
        Message::LogChunk(chunk) => FromAgent::LogChunk(log::chunk_from_proto(chunk)?),
        Message::StepResult(result) => {
            FromAgent::StepResult(attempt::step_result_from_proto(result)?)
        }
        Message::AttemptResult(result) => {
            let (attempt, outcome) = attempt::result_from_proto(result)?;
            FromAgent::AttemptResult { attempt, outcome }
        }
        Message::Notice(text) => FromAgent::Notice(sentence(text)),
        Message::Interruption(interruption) => FromAgent::Interruption {
            ends_in: Duration::from_millis(interruption.ends_in_ms),
            sentence: sentence(interruption.sentence),
        },
        Message::Goodbye(text) => FromAgent::Goodbye { sentence: sentence(text) },
    })
}

fn hello_to_proto(hello: Hello) -> proto::Hello {
    proto::Hello {
        proto_min: hello.proto_min,
        proto_max: hello.proto_max,
        worker: hello.worker,
        instance_claim: hello.instance_claim,
        boot_id: hello.boot_id,
        epoch: hello.epoch,
        public_key: hello.public_key,
        version: hello.version,
        proof: Some(match hello.proof {
            HelloProof::Bind(hmac) => proto::hello::Proof::Bind(hmac),
            HelloProof::Resume(signature) => proto::hello::Proof::Resume(signature),
        }),
    }
}

fn hello_from_proto(hello: proto::Hello) -> Result<Hello, ProtocolError> {
    Ok(Hello {
        proto_min: hello.proto_min,
        proto_max: hello.proto_max,
        worker: hello.worker,
        instance_claim: hello.instance_claim,
        boot_id: hello.boot_id,
        epoch: hello.epoch,
        public_key: hello.public_key,
        version: hello.version,
        proof: match hello.proof.ok_or(ProtocolError::Missing("a proof"))? {
            proto::hello::Proof::Bind(hmac) => HelloProof::Bind(hmac),
            proto::hello::Proof::Resume(signature) => HelloProof::Resume(signature),
        },
    })
}

fn inventory_to_proto(inventory: &Inventory) -> proto::Inventory {
    let item = |item: &InventoryItem| proto::InventoryItem {
        attempt: Some(attempt::id_to_proto(item.attempt)),
        finished: item.finished,
    };
    proto::Inventory {
        bootstrapped: inventory.bootstrapped,
        attempts: inventory.attempts.iter().map(item).collect(),
        up_ms: ms(inventory.up),
    }
}

fn inventory_from_proto(inventory: proto::Inventory) -> Result<Inventory, ProtocolError> {
    if inventory.attempts.len() > INVENTORY_ITEMS_MAX {
        return Err(ProtocolError::Impossible("number of attempts"));
    }
    let item = |item: proto::InventoryItem| {
        let attempt = attempt::id_from_proto(item.attempt)?;
        Ok(InventoryItem { attempt, finished: item.finished })
    };
    let attempts: Result<Vec<InventoryItem>, ProtocolError> =
        inventory.attempts.into_iter().map(item).collect();
    let up = Duration::from_millis(inventory.up_ms);
    Ok(Inventory { bootstrapped: inventory.bootstrapped, attempts: attempts?, up })
}

fn heartbeat_to_proto(heartbeat: &Heartbeat) -> proto::Heartbeat {
    proto::Heartbeat {
        number: heartbeat.number,
        load: heartbeat.load,
        memory_available_bytes: heartbeat.memory_available_bytes,
        disk_free_bytes: heartbeat.disk_free_bytes,
        spool_bytes: heartbeat.spool_bytes,
    }
}

fn heartbeat_from_proto(heartbeat: &proto::Heartbeat) -> Heartbeat {
    Heartbeat {
        number: heartbeat.number,
        load: heartbeat.load,
        memory_available_bytes: heartbeat.memory_available_bytes,
        disk_free_bytes: heartbeat.disk_free_bytes,
        spool_bytes: heartbeat.spool_bytes,
    }
}
