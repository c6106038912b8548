//! Whether a greeting proves who it comes from, and how the domain's answer is said.

use crate::master::domain::decision::Answer;
use crate::master::domain::decision::RefusalKind;
use crate::master::domain::decision::Welcome;
use crate::master::domain::entities::Enrolment;
use crate::master::domain::entities::Worker;
use crate::master::domain::event::AgentHello;
use crate::master::domain::event::Proof;
use crate::model::ids::LaunchId;
use crate::model::time::Timestamp;
use crate::wire::handshake;
use crate::wire::handshake::Expected;
use crate::wire::handshake::SigningKey;
use crate::wire::handshake::Transcript;
use crate::wire::message;
use crate::wire::message::FromMaster;
use crate::wire::message::GoodbyeCode;
use crate::wire::message::Hello;
use crate::wire::message::HelloProof;
use crate::wire::session;
use crate::wire::version;

/// Which try of a launch a password belongs to. Only provisioners with several candidates count.
const CANDIDATE: u32 = 0;

/// What a caller is told whose name or proof is wrong: not which of the two.
const NOT_KNOWN: &str = "this master has no such worker, or the proof does not hold: the worker \
was ended, or its BB_NAME and BB_PASSWORD are another's";

/// A farewell instead of a welcome.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Farewell {
    /// What the agent should do.
    pub code: GoodbyeCode,
    /// Why.
    pub sentence: String,
}

/// A caller whose proof holds.
#[derive(Debug)]
pub struct Proven {
    /// The protocol version to speak.
    proto: u32,
    /// The master's own proof.
    proof: Vec<u8>,
}

/// The keys of a master.
#[derive(Clone, Copy, Debug)]
pub struct MasterKeys<'a> {
    /// What passwords of launches are derived from.
    pub passwords: &'a [u8; 32],
    /// What it signs with.
    pub channel: &'a SigningKey,
}

/// Whether a greeting proves who it comes from; `row` is that of the worker it names.
///
/// # Errors
/// The farewell to say.
pub fn judge(
    keys: MasterKeys,
    hello: &Hello,
    exporter: &[u8; 32],
    row: Option<&Worker>,
) -> Result<Proven, Farewell> {
    let proto = version::agree(&hello.worker, hello.proto_min, hello.proto_max)
        .map_err(Farewell::refused)?;
    // For a name that nobody has, all is computed as well: the answer takes as long.
    let nobody = LaunchId(String::new());
    let launch = row.map_or(&nobody, |row| &row.launch);
    let expected = Expected {
        password: handshake::bootstrap_password(keys.passwords, launch, CANDIDATE),
        public_key: row.and_then(|row| match &row.enrolment {
            Enrolment::Bound { public_key, .. } => Some(public_key.clone()),
            Enrolment::Unused { .. } | Enrolment::Alarmed => None,
        }),
    };
    let transcript = Transcript::new(hello, exporter);
    if !handshake::proof_holds(hello, &transcript, &expected) || row.is_none() {
        return Err(Farewell::refused(NOT_KNOWN));
    }
    let proof =
        handshake::prove_master(hello, &transcript, &expected.password, keys.channel, proto);
    Ok(Proven { proto, proof })
}

/// What the domain hears of a greeting that is proven.
pub fn told(hello: Hello) -> AgentHello {
    AgentHello {
        proof: match hello.proof {
            HelloProof::Bind(_) => Proof::Password,
            HelloProof::Resume(_) => Proof::Key,
        },
        public_key: hello.public_key,
        epoch: hello.epoch,
        instance_claim: hello.instance_claim,
        boot_id: hello.boot_id,
        version: hello.version,
    }
}

/// What the domain says of it.
///
/// # Errors
/// The farewell to say.
pub fn welcomed(answer: Answer) -> Result<Welcome, Farewell> {
    match answer {
        Answer::Welcome(welcome) => Ok(welcome),
        Answer::CallAgain(sentence) => Err(Farewell::retry(sentence)),
        Answer::Refused(refusal) => Err(match refusal.kind {
            RefusalKind::Unavailable => Farewell::retry(refusal.sentence),
            RefusalKind::NotFound | RefusalKind::Conflict | RefusalKind::Invalid => {
                Farewell::refused(refusal.sentence)
            }
        }),
        // No answers to a greeting. Calling again does no harm, never calling again might.
        Answer::Done | Answer::BuildStarted(..) | Answer::WorkerAdded(..) => {
            Err(Farewell::retry("the master did not understand the greeting"))
        }
    }
}

impl Proven {
    /// The welcome to say.
    pub fn welcome(self, keys: MasterKeys, welcome: &Welcome, now: Timestamp) -> FromMaster {
        FromMaster::Welcome(message::Welcome {
            proto: self.proto,
            master_key: keys.channel.public(),
            proof: self.proof,
            heartbeat_busy: session::HEARTBEAT_BUSY,
            heartbeat_idle: session::HEARTBEAT_IDLE,
            lease: welcome.lease,
            server_time: now,
        })
    }
}

impl Farewell {
    /// Never call again.
    pub fn refused(sentence: impl Into<String>) -> Farewell {
        Farewell { code: GoodbyeCode::Refused, sentence: sentence.into() }
    }

    /// Call again soon.
    pub fn retry(sentence: impl Into<String>) -> Farewell {
        Farewell { code: GoodbyeCode::Retry, sentence: sentence.into() }
    }

    /// The farewell to say.
    pub fn into_message(self) -> FromMaster {
        FromMaster::Goodbye { code: self.code, sentence: self.sentence }
    }
}
