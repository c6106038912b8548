//! What the master says, between its two spellings.

use std::time::Duration;

use crate::model::time::Timestamp;
use crate::wire::convert::ProtocolError;
use crate::wire::convert::attempt;
use crate::wire::convert::log;
use crate::wire::convert::ms;
use crate::wire::convert::sentence;
use crate::wire::convert::short_ms;
use crate::wire::convert::variables_from_proto;
use crate::wire::convert::variables_to_proto;
use crate::wire::generated as proto;
use crate::wire::generated::from_master::Message;
use crate::wire::generated::goodbye::Code;
use crate::wire::message::Bootstrap;
use crate::wire::message::FromMaster;
use crate::wire::message::GoodbyeCode;
use crate::wire::message::Welcome;

pub(crate) fn to_proto(message: FromMaster) -> Message {
    match message {
        FromMaster::Welcome(welcome) => Message::Welcome(welcome_to_proto(welcome)),
        FromMaster::Bootstrap(bootstrap) => Message::Bootstrap(proto::Bootstrap {
            url: bootstrap.url,
            sha256: bootstrap.sha256,
            args: bootstrap.args,
            env: variables_to_proto(bootstrap.env),
            timeout_ms: ms(bootstrap.timeout),
        }),
        FromMaster::RunAttempt(spec) => Message::RunAttempt(attempt::spec_to_proto(*spec)),
        FromMaster::Cancel(id) => Message::Cancel(attempt::id_to_proto(id)),
        FromMaster::Forget(id) => Message::Forget(attempt::id_to_proto(id)),
        FromMaster::LogAck { owner, durable_offset, rewind_to } => {
            let owner = Some(log::owner_to_proto(owner));
            Message::LogAck(proto::LogAck { owner, durable_offset, rewind_to })
        }
        FromMaster::HeartbeatAck { heartbeat } => {
            Message::HeartbeatAck(proto::HeartbeatAck { heartbeat })
        }
        FromMaster::Drain => Message::Drain(proto::Drain {}),
        FromMaster::Shutdown { sentence: text } => Message::Shutdown(sentence(text)),
        FromMaster::Goodbye { code, sentence: text } => {
            let code = match code {
                GoodbyeCode::Retry => Code::Retry,
                GoodbyeCode::Refused => Code::Refused,
            };
            Message::Goodbye(proto::Goodbye { code: code.into(), sentence: sentence(text) })
        }
    }
}

pub(crate) fn from_proto(message: Message) -> Result<FromMaster, ProtocolError> {
    Ok(match message {
        Message::Welcome(welcome) => FromMaster::Welcome(welcome_from_proto(welcome)?),
        Message::Bootstrap(bootstrap) => FromMaster::Bootstrap(Bootstrap {
            url: bootstrap.url,
            sha256: bootstrap.sha256,
            args: bootstrap.args,
            env: variables_from_proto(bootstrap.env),
            timeout: Duration::from_millis(bootstrap.timeout_ms),
        }),
        Message::RunAttempt(spec) => {
            FromMaster::RunAttempt(Box::new(attempt::spec_from_proto(spec)?))
        }
        Message::Cancel(id) => FromMaster::Cancel(attempt::id_from_proto(Some(id))?),
        Message::Forget(id) => FromMaster::Forget(attempt::id_from_proto(Some(id))?),
        Message::LogAck(ack) => FromMaster::LogAck {
            owner: log::owner_from_proto(ack.owner)?,
            durable_offset: ack.durable_offset,
            rewind_to: ack.rewind_to,
        },
        Message::HeartbeatAck(ack) => FromMaster::HeartbeatAck { heartbeat: ack.heartbeat },
        Message::Drain(proto::Drain {}) => FromMaster::Drain,
        Message::Shutdown(text) => FromMaster::Shutdown { sentence: sentence(text) },
        Message::Goodbye(goodbye) => FromMaster::Goodbye {
            code: match Code::try_from(goodbye.code) {
                Ok(Code::Refused) => GoodbyeCode::Refused,
                Ok(Code::Retry | Code::Unspecified) | Err(_) => GoodbyeCode::Retry,
            },
            sentence: sentence(goodbye.sentence),
        },
    })
}

fn welcome_to_proto(welcome: Welcome) -> proto::Welcome {
    proto::Welcome {
        proto: welcome.proto,
        master_key: welcome.master_key,
        proof: welcome.proof,
        heartbeat_busy_ms: short_ms(welcome.heartbeat_busy),
        heartbeat_idle_ms: short_ms(welcome.heartbeat_idle),
        lease_ms: ms(welcome.lease),
        server_time_ms: welcome.server_time.0,
    }
}

fn welcome_from_proto(welcome: proto::Welcome) -> Result<Welcome, ProtocolError> {
    if welcome.heartbeat_busy_ms == 0 || welcome.heartbeat_idle_ms == 0 {
        // It would make the agent send without a pause.
        return Err(ProtocolError::Impossible("heartbeat interval"));
    }
    Ok(Welcome {
        proto: welcome.proto,
        master_key: welcome.master_key,
        proof: welcome.proof,
        heartbeat_busy: Duration::from_millis(welcome.heartbeat_busy_ms.into()),
        heartbeat_idle: Duration::from_millis(welcome.heartbeat_idle_ms.into()),
        lease: Duration::from_millis(welcome.lease_ms),
        server_time: Timestamp(welcome.server_time_ms),
    })
}
