//! What agents, and thieves, greet with.

use std::time::Duration;

use bytes::BytesMut;

use busybee::model::ids::WorkerName;
use busybee::model::secret::Secret;
use busybee::wire::agent_end::AgentEnd;
use busybee::wire::agent_end::Credentials;
use busybee::wire::handshake::SigningKey;
use busybee::wire::message::Hello;
use busybee::wire::message::HelloProof;

use crate::hosts::Host;

fn hello(host: &Host, name: &WorkerName, key: &SigningKey) -> Hello {
    Hello {
        proto_min: 1,
        proto_max: 1,
        worker: name.to_string(),
        instance_claim: host.claim.clone(),
        boot_id: format!("boot {}", host.boot),
        epoch: host.epoch,
        public_key: key.public(),
        proof: HelloProof::Bind(Vec::new()),
        version: "1".to_owned(),
    }
}

/// An agent's end, and the bytes of its greeting.
pub(crate) fn of_agent(
    host: &Host,
    name: &WorkerName,
    now: Duration,
    exporter: &[u8; 32],
    busy: bool,
) -> (AgentEnd, BytesMut) {
    let credentials = Credentials {
        key: &host.key,
        pinned: host.pinned.as_deref(),
        password: Some(&host.password),
    };
    let hello = hello(host, name, &host.key);
    let greeted = AgentEnd::greet(now, hello, exporter, credentials, busy);
    greeted.expect("it fits into a frame").expect("it has a password")
}

/// Who has read a worker's user-data greets with a key of its own.
pub(crate) fn of_thief(host: &Host, name: &WorkerName, exporter: &[u8; 32]) -> BytesMut {
    let key = SigningKey::from_seed(&Secret::new([66; 32]));
    let credentials = Credentials { key: &key, pinned: None, password: Some(&host.password) };
    let hello = hello(host, name, &key);
    let greeted = AgentEnd::greet(Duration::ZERO, hello, exporter, credentials, false);
    greeted.expect("it fits into a frame").expect("it has a password").1
}
