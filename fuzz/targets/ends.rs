//! The two ends of a connection, told any bytes at every stage of it.
//!
//! What is heard depends on the bytes alone, not on how they are cut. A stranger is heard once, with
//! a greeting; an agent says first what it has, or leaves; nobody greets or welcomes twice. An agent
//! hears no welcome from who does not know its password.

#![no_main]

use std::time::Duration;

use busybee::model::secret::Secret;
use busybee::model::time::Timestamp;
use busybee::wire::agent_end;
use busybee::wire::agent_end::AgentEnd;
use busybee::wire::agent_end::Credentials;
use busybee::wire::convert;
use busybee::wire::handshake;
use busybee::wire::handshake::SigningKey;
use busybee::wire::handshake::Transcript;
use busybee::wire::master_end;
use busybee::wire::master_end::MasterEnd;
use busybee::wire::message::FromAgent;
use busybee::wire::message::FromMaster;
use busybee::wire::message::Hello;
use busybee::wire::message::HelloProof;
use busybee::wire::message::Welcome;
use busybee::wire::session;
use bytes::BytesMut;
use libfuzzer_sys::fuzz_target;

const NOW: Duration = Duration::from_secs(1000);
const EXPORTER: [u8; 32] = [9; 32];

// The last byte says how the others are cut.
fuzz_target!(|input: &[u8]| {
    let Some((cut, bytes)) = input.split_last() else { return };
    let size = usize::from(*cut).max(1);
    tell_a_master_of_a_stranger(bytes, size);
    tell_an_agent_that_greeted(bytes, size);
    let (master, agent) = (|| met().0, || met().1);
    let whole = tell_master(master(), bytes, bytes.len().max(1));
    assert_eq!(format!("{whole:?}"), format!("{:?}", tell_master(master(), bytes, size)));
    check_an_agents_words(&whole.0);
    let whole = tell_agent(agent(), bytes, bytes.len().max(1));
    assert_eq!(format!("{whole:?}"), format!("{:?}", tell_agent(agent(), bytes, size)));
    for heard in &whole.0 {
        let is_allowed = !matches!(
            heard,
            agent_end::Heard::Welcome(_)
                | agent_end::Heard::Message(FromMaster::Welcome(_) | FromMaster::Goodbye { .. })
        );
        assert!(is_allowed, "{heard:?}");
    }
});

fn tell_a_master_of_a_stranger(bytes: &[u8], size: usize) {
    let (heard, _) = tell_master(MasterEnd::new(NOW), bytes, size);
    let is_greeting = |heard: &master_end::Heard| matches!(heard, master_end::Heard::Hello(_));
    assert!(heard.len() <= 1 && heard.iter().all(is_greeting), "{heard:?}");
}

fn tell_an_agent_that_greeted(bytes: &[u8], size: usize) {
    let (agent, _) = greeting();
    let (heard, _) = tell_agent(agent, bytes, size);
    let is_farewell = |heard: &agent_end::Heard| matches!(heard, agent_end::Heard::Goodbye { .. });
    assert!(heard.iter().all(is_farewell), "{heard:?}");
}

fn check_an_agents_words(heard: &[master_end::Heard]) {
    let mut has_inventory = false;
    for heard in heard {
        let master_end::Heard::Message(message) = heard else { panic!("{heard:?}") };
        has_inventory |= matches!(message, FromAgent::Inventory(_));
        assert!(has_inventory || matches!(message, FromAgent::Goodbye { .. }), "{message:?}");
        assert!(!matches!(message, FromAgent::Hello(_)), "{message:?}");
    }
}

/// What a master hears of these bytes, in pieces of this size, and how it ends.
fn tell_master(
    mut end: MasterEnd,
    bytes: &[u8],
    size: usize,
) -> (Vec<master_end::Heard>, Option<master_end::Broken>) {
    let mut all = Vec::new();
    for piece in bytes.chunks(size) {
        end.room().extend_from_slice(piece);
        loop {
            match end.next(NOW) {
                Ok(Some(heard)) => all.push(heard),
                Ok(None) => break,
                Err(broken) => return (all, Some(broken)),
            }
        }
        assert!(end.deadline().is_none_or(|(at, _)| at > NOW));
    }
    (all, None)
}

/// The same of an agent, until somebody says farewell.
fn tell_agent(
    mut end: AgentEnd,
    bytes: &[u8],
    size: usize,
) -> (Vec<agent_end::Heard>, Option<agent_end::Broken>) {
    let mut all = Vec::new();
    for piece in bytes.chunks(size) {
        end.room().extend_from_slice(piece);
        loop {
            match end.next(NOW) {
                Ok(Some(heard)) => {
                    let is_over = matches!(heard, agent_end::Heard::Goodbye { .. });
                    all.push(heard);
                    if is_over {
                        return (all, None);
                    }
                }
                Ok(None) => break,
                Err(broken) => return (all, Some(broken)),
            }
        }
        assert!(end.deadline().0 > NOW);
    }
    (all, None)
}

fn password() -> Secret<String> {
    Secret::new("5ec2e7".repeat(10))
}

fn greeting() -> (AgentEnd, BytesMut) {
    let key = SigningKey::from_seed(&Secret::new([2; 32]));
    let password = password();
    let hello = Hello {
        proto_min: 1,
        proto_max: 1,
        worker: "w-1".into(),
        instance_claim: String::new(),
        boot_id: "boot".into(),
        epoch: 1,
        public_key: key.public(),
        proof: HelloProof::Bind(Vec::new()),
        version: "0.1.0".into(),
    };
    let credentials = Credentials { key: &key, pinned: None, password: Some(&password) };
    let greeted = AgentEnd::greet(NOW, hello, &EXPORTER, credentials, false);
    greeted.expect("it is short").expect("there is a password")
}

/// Two ends that have greeted each other.
fn met() -> (MasterEnd, AgentEnd) {
    let (mut agent, bytes) = greeting();
    let mut master = MasterEnd::new(NOW);
    master.room().extend_from_slice(&bytes);
    let Ok(Some(master_end::Heard::Hello(hello))) = master.next(NOW) else { panic!("no greeting") };
    let key = SigningKey::from_seed(&Secret::new([5; 32]));
    let transcript = Transcript::new(&hello, &EXPORTER);
    let welcome = FromMaster::Welcome(Welcome {
        proto: 1,
        master_key: key.public(),
        proof: handshake::prove_master(&hello, &transcript, &password(), &key, 1),
        heartbeat_busy: session::HEARTBEAT_BUSY,
        heartbeat_idle: session::HEARTBEAT_IDLE,
        lease: Duration::from_secs(1800),
        server_time: Timestamp(0),
    });
    let mut bytes = BytesMut::new();
    convert::append_from_master(welcome, &mut bytes).expect("it is short");
    agent.room().extend_from_slice(&bytes);
    let heard = agent.next(NOW);
    assert!(matches!(heard, Ok(Some(agent_end::Heard::Welcome(_)))), "{heard:?}");
    master.welcome(NOW, false);
    (master, agent)
}
