//! The agent's end of a connection: its greeting, whether what answers is its master, and what the
//! master may say after that. Pure: bytes and the time come in, messages come out.

use std::time::Duration;

use bytes::BytesMut;

use crate::model::backoff::Backoff;
use crate::model::secret::Secret;
use crate::wire::convert;
use crate::wire::convert::ProtocolError;
use crate::wire::frame::FrameError;
use crate::wire::frame::Frames;
use crate::wire::handshake;
use crate::wire::handshake::KnownMaster;
use crate::wire::handshake::SigningKey;
use crate::wire::handshake::Transcript;
use crate::wire::message::FromAgent;
use crate::wire::message::FromMaster;
use crate::wire::message::GoodbyeCode;
use crate::wire::message::Hello;
use crate::wire::message::HelloProof;
use crate::wire::message::Welcome;
use crate::wire::session::TooLate;
use crate::wire::session::WELCOME_DEADLINE;
use crate::wire::session::Watch;
use crate::wire::version;

/// Delays between calls: soon at first, so that a master that restarts is found again at once;
/// later seldom enough for a thousand agents whose master is away.
pub const REDIAL: Backoff = match Backoff::new(Duration::from_millis(250), Duration::from_secs(30))
{
    Some(backoff) => backoff,
    None => panic!("a quarter of a second is neither nothing nor more than thirty"),
};

/// What a session must last so that the next call comes soon again.
pub const GOOD_SESSION: Duration = Duration::from_secs(30);

/// What an agent proves itself with, and knows its master by.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// Its own key.
    pub key: &'a SigningKey,
    /// The key of the master that welcomed it once.
    pub pinned: Option<&'a [u8]>,
    /// Its launch's password, until it was welcomed.
    pub password: Option<&'a Secret<String>>,
}

/// What came from the master.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// It welcomes this agent, and has proved that it may. Comes once, and first.
    Welcome(Welcome),
    /// It says something else (never Welcome or Goodbye).
    Message(FromMaster),
    /// It ends the connection.
    Goodbye {
        /// What the agent should do.
        code: GoodbyeCode,
        /// Why; for the log.
        sentence: String,
    },
}

/// What the other end has broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Bytes that are no frame.
    #[error("the master broke a rule: {0}")]
    Frame(#[from] FrameError),
    /// A frame that is no message.
    #[error("the master broke a rule: {0}")]
    Message(#[from] ProtocolError),
    /// Anybody can say welcome.
    #[error("it does not prove that it is this worker's master")]
    Unproven,
    /// Something else came instead of an answer to the greeting.
    #[error("the master answered a greeting with something else")]
    NoAnswer,
    /// One welcome is enough.
    #[error("the master said welcome twice")]
    WelcomeTwice,
}

/// An agent's end of one connection.
#[derive(Debug)]
pub struct AgentEnd {
    frames: Frames,
    stage: Stage,
    busy: bool,
    /// A whole message has come since the last look at the watch.
    whole: bool,
}

#[derive(Debug)]
enum Stage {
    Greeting { known: KnownMaster, transcript: Transcript, until: Duration },
    Session(Watch),
}

impl AgentEnd {
    /// Greets over a connection with this exporter: the end, and the bytes to send. Nothing, where
    /// there is nothing to prove oneself with.
    ///
    /// # Errors
    /// When the greeting is longer than a frame may be.
    pub fn greet(
        now: Duration,
        mut hello: Hello,
        exporter: &[u8; 32],
        credentials: Credentials,
        busy: bool,
    ) -> Result<Option<(AgentEnd, BytesMut)>, FrameError> {
        hello.proof = HelloProof::Bind(Vec::new());
        let transcript = Transcript::new(&hello, exporter);
        let known = match (credentials.pinned, credentials.password) {
            (Some(pinned), _) => {
                hello.proof = handshake::prove_key(credentials.key, &transcript);
                KnownMaster::Pinned(pinned.to_vec())
            }
            (None, Some(password)) => {
                hello.proof = handshake::prove_password(password, &transcript);
                KnownMaster::Password(password.clone())
            }
            (None, None) => return Ok(None),
        };
        let mut frame = BytesMut::new();
        convert::append_from_agent(FromAgent::Hello(hello), &mut frame)?;
        let stage = Stage::Greeting { known, transcript, until: now + WELCOME_DEADLINE };
        let end = AgentEnd { frames: Frames::before_welcome(), stage, busy, whole: false };
        Ok(Some((end, frame)))
    }

    /// Where the next bytes go: append them, then ask [`AgentEnd::next`] until it has nothing more.
    pub fn room(&mut self) -> &mut BytesMut {
        self.frames.room()
    }

    /// What came next, if it is whole. After an error or a farewell the connection is over.
    ///
    /// # Errors
    /// When the other end broke a rule.
    pub fn next(&mut self, now: Duration) -> Result<Option<Heard>, Broken> {
        let Some(body) = self.frames.take()? else {
            if let Stage::Session(watch) = &mut self.stage {
                let half = self.frames.in_the_middle();
                watch.heard(now, std::mem::take(&mut self.whole), half);
            }
            return Ok(None);
        };
        let message = convert::read_from_master(&body)?;
        match (&self.stage, message) {
            (_, FromMaster::Goodbye { code, sentence }) => {
                Ok(Some(Heard::Goodbye { code, sentence }))
            }
            (Stage::Greeting { known, transcript, .. }, FromMaster::Welcome(welcome)) => {
                if !is_proven(known, transcript, &welcome) {
                    return Err(Broken::Unproven);
                }
                self.frames.welcome();
                self.stage = Stage::Session(Watch::new(now, self.busy));
                Ok(Some(Heard::Welcome(welcome)))
            }
            (Stage::Greeting { .. }, _) => Err(Broken::NoAnswer),
            (Stage::Session(_), FromMaster::Welcome(_)) => Err(Broken::WelcomeTwice),
            (Stage::Session(_), message) => {
                self.whole = true;
                Ok(Some(Heard::Message(message)))
            }
        }
    }

    /// Work begins or ends: the silence that is borne depends on it.
    pub fn set_busy(&mut self, now: Duration, busy: bool) {
        self.busy = busy;
        if let Stage::Session(watch) = &mut self.stage {
            watch.set_busy(now, busy);
        }
    }

    /// When to hang up if nothing comes until then, and why.
    pub fn deadline(&self) -> (Duration, TooLate) {
        match &self.stage {
            Stage::Greeting { until, .. } => (*until, TooLate::NoAnswer),
            Stage::Session(watch) => watch.deadline(),
        }
    }
}

fn is_proven(known: &KnownMaster, transcript: &Transcript, welcome: &Welcome) -> bool {
    let Welcome { proto, master_key, proof, .. } = welcome;
    (version::PROTO_MIN..=version::PROTO_MAX).contains(proto)
        && handshake::master_proof_holds(known, transcript, *proto, master_key, proof)
}
