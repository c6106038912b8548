//! The master's end of a greeting, as any caller may send it.
//!
//! Nobody gets past it without a proof: a greeting reaches the domain exactly when it is one whole
//! frame, alone, whose proof was made with the worker's own password or bound key, over that very
//! greeting and this very connection, in a version that both speak. What is not greeted hears a
//! farewell or nothing, and the connection ends.

#![no_main]

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::Once;
use std::sync::OnceLock;

use busybee::master::agents::Agents;
use busybee::master::agents::Wiring;
use busybee::master::domain::decision::Answer;
use busybee::master::domain::entities::Enrolment;
use busybee::master::domain::entities::Worker;

use busybee::master::inbox::Inbox;
use busybee::master::inbox::Letter;
use busybee::master::keys::Keys;
use busybee::master::logs::LogStore;
use busybee::model::attempt::GitCredential;
use busybee::model::ids::LaunchId;
use busybee::model::secret::Secret;
use busybee::model::status::WorkerFate;
use busybee::model::status::WorkerStatus;
use busybee::model::time::Timestamp;
use busybee::wire::convert;
use busybee::wire::frame::Frames;
use busybee::wire::frame::GREETING_BYTES_MAX;
use busybee::wire::handshake;
use busybee::wire::handshake::SigningKey;
use busybee::wire::handshake::Transcript;
use busybee::wire::message::FromAgent;
use busybee::wire::message::FromMaster;
use busybee::wire::message::Hello;
use busybee::wire::message::HelloProof;
use busybee::wire::version;
use busybee_fuzz::runtime;
use bytes::BytesMut;
use libfuzzer_sys::arbitrary;
use libfuzzer_sys::arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;

const MASTER_KEY: [u8; 32] = [1; 32];
const EXPORTER: [u8; 32] = [9; 32];
/// The seed of the key that is bound to the worker `bound`.
const BOUND_SEED: u8 = 2;

#[derive(Arbitrary, Debug)]
enum Caller<'a> {
    /// Bytes.
    Anything(&'a [u8]),
    /// A greeting that is proven for something, and then perhaps changed.
    Greets {
        worker: Name<'a>,
        seed: u8,
        proof: Proof,
        /// For how old and how new a version.
        proto: (u8, u8),
        epoch: u64,
        instance_claim: &'a str,
        /// The connection it was proven for, if that is another one.
        other_exporter: Option<[u8; 32]>,
        change: Change<'a>,
        /// What comes right behind it.
        behind: &'a [u8],
    },
}

#[derive(Arbitrary, Debug)]
enum Name<'a> {
    Bound,
    Unused,
    Other(&'a str),
}

#[derive(Arbitrary, Debug)]
enum Proof {
    Password,
    /// With the password of the other worker's launch.
    OthersPassword,
    Key,
    Bytes {
        bind: bool,
        bytes: Vec<u8>,
    },
}

/// What is changed in a greeting after it was proven.
#[derive(Arbitrary, Debug)]
enum Change<'a> {
    Nothing,
    Worker(Name<'a>),
    InstanceClaim(&'a str),
    BootId(&'a str),
    Epoch(u64),
    PublicKey(Vec<u8>),
    Version(&'a str),
    ProtoMax(u8),
    ProofByte(u8),
}

fuzz_target!(|caller: Caller<'_>| {
    let (bytes, is_proven) = match caller {
        Caller::Anything(bytes) => (bytes.to_vec(), false),
        greets @ Caller::Greets { .. } => greeting(greets),
    };
    let master = master();
    static HONEST: Once = Once::new();
    HONEST.call_once(|| {
        let (bytes, is_proven) = greeting(honest());
        assert!(is_proven && runtime().block_on(call(master, bytes)), "the honest get in");
    });
    assert_eq!(runtime().block_on(call(master, bytes)), is_proven);
});

/// What the agent of the worker `unused` sends.
fn honest() -> Caller<'static> {
    Caller::Greets {
        worker: Name::Unused,
        seed: 4,
        proof: Proof::Password,
        proto: (1, 1),
        epoch: 1,
        instance_claim: "",
        other_exporter: None,
        change: Change::Nothing,
        behind: &[],
    }
}

/// A greeting's bytes, and whether it is to be let in.
fn greeting(caller: Caller<'_>) -> (Vec<u8>, bool) {
    let Caller::Greets {
        worker,
        seed,
        proof,
        proto,
        epoch,
        instance_claim,
        other_exporter,
        change,
        behind,
    } = caller
    else {
        return (Vec::new(), false);
    };
    let key = SigningKey::from_seed(&Secret::new([seed; 32]));
    let mut hello = Hello {
        proto_min: proto.0.into(),
        proto_max: proto.1.into(),
        worker: name(&worker),
        instance_claim: instance_claim.into(),
        boot_id: "boot".into(),
        epoch,
        public_key: key.public(),
        proof: HelloProof::Bind(Vec::new()),
        version: "fuzz".into(),
    };
    let transcript = Transcript::new(&hello, &other_exporter.unwrap_or(EXPORTER));
    let password = |worker: &str| {
        handshake::bootstrap_password(&MASTER_KEY, &LaunchId(format!("launch of {worker}")), 0)
    };
    let mut is_proven = false;
    hello.proof = match proof {
        Proof::Password => {
            is_proven = matches!(worker, Name::Bound | Name::Unused);
            handshake::prove_password(&password(&hello.worker), &transcript)
        }
        Proof::OthersPassword => {
            handshake::prove_password(&password(&format!("{}2", hello.worker)), &transcript)
        }
        Proof::Key => {
            is_proven = matches!(worker, Name::Bound) && seed == BOUND_SEED;
            handshake::prove_key(&key, &transcript)
        }
        Proof::Bytes { bind: true, bytes } => HelloProof::Bind(bytes),
        Proof::Bytes { bind: false, bytes } => HelloProof::Resume(bytes),
    };
    let proven = hello.clone();
    apply(change, &mut hello);
    is_proven &= hello == proven
        && other_exporter.is_none_or(|exporter| exporter == EXPORTER)
        && version::agree("w", hello.proto_min, hello.proto_max).is_ok()
        && behind.is_empty();
    let mut bytes = BytesMut::new();
    convert::append_from_agent(FromAgent::Hello(hello), &mut bytes).expect("inputs are small");
    is_proven &= bytes.len() - 4 <= GREETING_BYTES_MAX;
    ([&bytes[..], behind].concat(), is_proven)
}

/// `Other` never names one of ours.
fn name(name: &Name<'_>) -> String {
    match name {
        Name::Bound => "bound".into(),
        Name::Unused => "unused".into(),
        Name::Other(other) => format!("other {other}"),
    }
}

fn apply(change: Change<'_>, hello: &mut Hello) {
    match change {
        Change::Nothing => {}
        Change::Worker(other) => hello.worker = name(&other),
        Change::InstanceClaim(text) => hello.instance_claim = text.into(),
        Change::BootId(text) => hello.boot_id = text.into(),
        Change::Epoch(epoch) => hello.epoch = epoch,
        Change::PublicKey(key) => hello.public_key = key,
        Change::Version(text) => hello.version = text.into(),
        Change::ProtoMax(max) => hello.proto_max = max.into(),
        Change::ProofByte(at) => {
            let (HelloProof::Bind(proof) | HelloProof::Resume(proof)) = &mut hello.proof;
            let len = proof.len().max(1);
            if let Some(byte) = proof.get_mut(usize::from(at) % len) {
                *byte ^= 1;
            }
        }
    }
}

struct Master {
    agents: Agents,
    letters: Mutex<mpsc::Receiver<Letter>>,
}

fn master() -> &'static Master {
    static MASTER: OnceLock<Master> = OnceLock::new();
    MASTER.get_or_init(|| {
        let (inbox, letters) = Inbox::new();
        let scratch = Box::leak(Box::new(busybee_fuzz::scratch()));
        let agents = Agents::new(Wiring {
            inbox,
            logs: LogStore::open(scratch.path()).expect("log threads"),
            keys: Keys { master: Secret::new(MASTER_KEY), channel_seed: Secret::new([3; 32]) },
            worker: Arc::new(|name| Box::pin(async move { Ok(row(&name.0)) })),
            bootstrap: Arc::new(|_| None),
            credential: Arc::new(|_| GitCredential::None),
            secret: Arc::new(|_, _| Err("there are none".to_owned())),
        });
        Master { agents, letters: Mutex::new(letters) }
    })
}

fn row(name: &str) -> Option<Worker> {
    let enrolment = match name {
        "bound" => Enrolment::Bound {
            public_key: SigningKey::from_seed(&Secret::new([BOUND_SEED; 32])).public(),
            instance_claim: String::new(),
            epoch: 1,
        },
        "unused" => Enrolment::Unused { expires_at: None },
        _ => return None,
    };
    Some(Worker {
        name: name.into(),
        pool: "pool".into(),
        launch: LaunchId(format!("launch of {name}")),
        instance: None,
        status: WorkerStatus::Starting,
        reason: None,
        enrolment,
        boot_id: None,
        bootstrapped: false,
        project: None,
        jobs_given: 0,
        attempt: None,
        fate: WorkerFate::Serves,
        created_at: Timestamp(0),
        idle_since: None,
        ended_at: None,
        taken_at: None,
        notice: None,
    })
}

/// Calls with these bytes, and whether that came through to the domain, which sends it away.
async fn call(master: &Master, bytes: Vec<u8>) -> bool {
    let peer = std::net::SocketAddr::from(([127, 0, 0, 1], 1));
    let (mut near, far) = tokio::io::duplex(1 << 20);
    let admission = master.agents.admit(peer.ip()).await;
    let serving = master.agents.serve(admission, far, EXPORTER, peer);
    let calling = async {
        near.write_all(&bytes).await.expect("the pipe has room");
        near.shutdown().await.expect("the end can be told");
        let mut frames = Frames::before_welcome();
        frames.welcome();
        while near.read_buf(frames.room()).await.unwrap_or(0) > 0 {}
        let said = frames.take().expect("the master keeps its own rules");
        let said = said.map(|body| convert::read_from_master(&body).expect("a message"));
        assert!(matches!(said, None | Some(FromMaster::Goodbye { .. })), "{said:?}");
    };
    let letters = &mut *master.letters.lock().expect("one caller at a time");
    let mut greeted = false;
    let domain = async {
        while let Some(letter) = letters.recv().await {
            if let Letter::Hello(_, reply) = letter {
                greeted = true;
                let _gone = reply.send(Answer::CallAgain("not now".into()));
            }
        }
    };
    tokio::select! {
        _ = async { tokio::join!(serving, calling) } => {}
        () = domain => {}
    }
    greeted
}
