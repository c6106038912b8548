//! The master's end of a connection: the greeting that must come first and alone, and what an agent
//! may say after its welcome. Pure: bytes and the time come in, messages come out.

use std::time::Duration;

use bytes::BytesMut;

use crate::wire::convert;
use crate::wire::convert::ProtocolError;
use crate::wire::frame::FrameError;
use crate::wire::frame::Frames;
use crate::wire::message::FromAgent;
use crate::wire::message::Hello;
use crate::wire::session::HELLO_DEADLINE;
use crate::wire::session::TooLate;
use crate::wire::session::Watch;

/// What came from the agent.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// Its greeting, which nobody has judged yet. Comes once, and first.
    Hello(Box<Hello>),
    /// It says something else, after its welcome (never Hello).
    Message(FromAgent),
}

/// What the other end has broken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// Bytes that are no frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A frame that is no message.
    #[error(transparent)]
    Message(#[from] ProtocolError),
    /// It must begin with a greeting.
    #[error("another message instead of a greeting")]
    NoGreeting,
    /// Nothing may be sent behind a greeting before it is answered.
    #[error("more than a greeting")]
    MoreThanGreeting,
    /// The first word after the welcome is what the agent has.
    #[error("it did not begin with its inventory")]
    NoInventory,
    /// One greeting is enough.
    #[error("it greeted twice")]
    GreetedTwice,
}

/// A master's end of one connection.
#[derive(Debug)]
pub struct MasterEnd {
    frames: Frames,
    stage: Stage,
    /// A whole message has come since the last look at the watch.
    whole: bool,
}

#[derive(Debug)]
enum Stage {
    /// Nobody knows who it is.
    Stranger {
        until: Duration,
    },
    /// Its greeting is being judged. What it sends meanwhile is a fault, and left unread.
    Judged,
    Session {
        watch: Watch,
        has_inventory: bool,
    },
}

impl MasterEnd {
    /// A connection that was just accepted.
    pub fn new(now: Duration) -> MasterEnd {
        let stage = Stage::Stranger { until: now + HELLO_DEADLINE };
        MasterEnd { frames: Frames::before_welcome(), stage, whole: false }
    }

    /// Where the next bytes go: append them, then ask [`MasterEnd::next`] until it has nothing more.
    pub fn room(&mut self) -> &mut BytesMut {
        self.frames.room()
    }

    /// What came next, if it is whole. After an error the connection is over.
    ///
    /// # Errors
    /// When the other end broke a rule.
    pub fn next(&mut self, now: Duration) -> Result<Option<Heard>, Broken> {
        if matches!(self.stage, Stage::Judged) {
            return Ok(None);
        }
        let Some(body) = self.frames.take()? else {
            if let Stage::Session { watch, .. } = &mut self.stage {
                let half = self.frames.in_the_middle();
                watch.heard(now, std::mem::take(&mut self.whole), half);
            }
            return Ok(None);
        };
        let message = convert::read_from_agent(&body)?;
        match (&mut self.stage, message) {
            (Stage::Stranger { .. }, FromAgent::Hello(hello)) => {
                if self.frames.in_the_middle() {
                    return Err(Broken::MoreThanGreeting);
                }
                self.stage = Stage::Judged;
                Ok(Some(Heard::Hello(Box::new(hello))))
            }
            (Stage::Stranger { .. } | Stage::Judged, _) => Err(Broken::NoGreeting),
            (Stage::Session { .. }, FromAgent::Hello(_)) => Err(Broken::GreetedTwice),
            (Stage::Session { has_inventory, .. }, message) => {
                *has_inventory |= matches!(message, FromAgent::Inventory(_));
                // Who leaves at once has nothing to say of what it has.
                if !*has_inventory && !matches!(message, FromAgent::Goodbye { .. }) {
                    return Err(Broken::NoInventory);
                }
                self.whole = true;
                Ok(Some(Heard::Message(message)))
            }
        }
    }

    /// The greeting was accepted.
    pub fn welcome(&mut self, now: Duration, busy: bool) {
        self.frames.welcome();
        self.stage = Stage::Session { watch: Watch::new(now, busy), has_inventory: false };
    }

    /// Work begins or ends: the silence that is borne depends on it.
    pub fn set_busy(&mut self, now: Duration, busy: bool) {
        if let Stage::Session { watch, .. } = &mut self.stage {
            watch.set_busy(now, busy);
        }
    }

    /// When to hang up if nothing comes until then, and why; never, while it waits for us.
    pub fn deadline(&self) -> Option<(Duration, TooLate)> {
        match &self.stage {
            Stage::Stranger { until } => Some((*until, TooLate::NoGreeting)),
            Stage::Judged => None,
            Stage::Session { watch, .. } => Some(watch.deadline()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::secret::Secret;
    use crate::wire::agent_end;
    use crate::wire::agent_end::AgentEnd;
    use crate::wire::agent_end::Credentials;
    use crate::wire::handshake;
    use crate::wire::handshake::SigningKey;
    use crate::wire::handshake::Transcript;
    use crate::wire::message::FromMaster;
    use crate::wire::message::GoodbyeCode;
    use crate::wire::message::HelloProof;
    use crate::wire::message::Inventory;
    use crate::wire::message::Welcome;
    use crate::wire::session;

    const NOW: Duration = Duration::from_secs(100);
    const EXPORTER: [u8; 32] = [9; 32];

    fn password() -> Secret<String> {
        Secret::new("5ec2e7".repeat(10))
    }

    fn hello(key: &SigningKey) -> Hello {
        Hello {
            proto_min: 1,
            proto_max: 1,
            worker: "w-1".into(),
            instance_claim: String::new(),
            boot_id: "boot".into(),
            epoch: 1,
            public_key: key.public(),
            proof: HelloProof::Bind(Vec::new()),
            version: "0.1.0".into(),
        }
    }

    fn greeting() -> (AgentEnd, BytesMut) {
        let key = SigningKey::from_seed(&Secret::new([2; 32]));
        let password = password();
        let credentials = Credentials { key: &key, pinned: None, password: Some(&password) };
        AgentEnd::greet(NOW, hello(&key), &EXPORTER, credentials, false).unwrap().unwrap()
    }

    fn welcome_for(hello: &Hello, password: &Secret<String>) -> BytesMut {
        let master = SigningKey::from_seed(&Secret::new([5; 32]));
        let transcript = Transcript::new(hello, &EXPORTER);
        let proof = handshake::prove_master(hello, &transcript, password, &master, 1);
        framed(FromMaster::Welcome(Welcome {
            proto: 1,
            master_key: master.public(),
            proof,
            heartbeat_busy: session::HEARTBEAT_BUSY,
            heartbeat_idle: session::HEARTBEAT_IDLE,
            lease: Duration::from_secs(1800),
            server_time: crate::model::time::Timestamp(0),
        }))
    }

    fn framed(message: FromMaster) -> BytesMut {
        let mut bytes = BytesMut::new();
        convert::append_from_master(message, &mut bytes).unwrap();
        bytes
    }

    fn said(message: FromAgent) -> BytesMut {
        let mut bytes = BytesMut::new();
        convert::append_from_agent(message, &mut bytes).unwrap();
        bytes
    }

    /// A master's end that has heard a greeting, and the agent's end that sent it.
    fn met() -> (MasterEnd, AgentEnd, Box<Hello>) {
        let (agent, bytes) = greeting();
        let mut master = MasterEnd::new(NOW);
        master.room().extend_from_slice(&bytes);
        let Ok(Some(Heard::Hello(hello))) = master.next(NOW) else { panic!("no greeting") };
        (master, agent, hello)
    }

    #[test]
    fn two_ends_that_share_a_password_meet_however_their_bytes_are_cut() {
        let (mut agent, bytes) = greeting();
        let mut master = MasterEnd::new(NOW);
        let mut heard = None;
        for byte in &bytes {
            assert_eq!(heard, None);
            master.room().extend_from_slice(&[*byte]);
            heard = master.next(NOW).unwrap();
        }
        let Some(Heard::Hello(hello)) = heard else { panic!("no greeting") };
        assert_eq!(master.deadline(), None, "it waits for us");
        let answer = welcome_for(&hello, &password());
        let mut heard = None;
        for byte in &answer {
            assert_eq!(heard, None);
            agent.room().extend_from_slice(&[*byte]);
            heard = agent.next(NOW).unwrap();
        }
        assert!(matches!(heard, Some(agent_end::Heard::Welcome(_))), "{heard:?}");
        master.welcome(NOW, false);
        let inventory = FromAgent::Inventory(Inventory::default());
        master.room().extend_from_slice(&said(inventory.clone()));
        assert_eq!(master.next(NOW), Ok(Some(Heard::Message(inventory))));
        assert_eq!(master.next(NOW), Ok(None));
        assert_eq!(master.deadline(), Some((NOW + session::SILENCE_IDLE, TooLate::Silence)));
    }

    #[test]
    fn an_agent_hangs_up_on_whoever_cannot_prove_to_be_its_master() {
        let (_, mut agent, hello) = met();
        agent.room().extend_from_slice(&welcome_for(&hello, &Secret::new("wrong".into())));
        assert_eq!(agent.next(NOW), Err(agent_end::Broken::Unproven));
        let (_, mut agent, _) = met();
        agent.room().extend_from_slice(&framed(FromMaster::Drain));
        assert_eq!(agent.next(NOW), Err(agent_end::Broken::NoAnswer));
        let (_, mut agent, hello) = met();
        for _ in 0..2 {
            agent.room().extend_from_slice(&welcome_for(&hello, &password()));
        }
        assert!(agent.next(NOW).is_ok());
        assert_eq!(agent.next(NOW), Err(agent_end::Broken::WelcomeTwice));
    }

    #[test]
    fn a_farewell_is_heard_before_a_welcome_and_after_it() {
        let (_, mut agent, _) = met();
        let (code, sentence) = (GoodbyeCode::Retry, "not now".to_owned());
        agent
            .room()
            .extend_from_slice(&framed(FromMaster::Goodbye { code, sentence: sentence.clone() }));
        assert_eq!(agent.next(NOW), Ok(Some(agent_end::Heard::Goodbye { code, sentence })));
    }

    #[test]
    fn a_greeting_comes_first_and_alone_and_an_inventory_next() {
        let heartbeat = || said(FromAgent::Heartbeat(crate::wire::message::Heartbeat::default()));
        let mut master = MasterEnd::new(NOW);
        master.room().extend_from_slice(&heartbeat());
        assert_eq!(master.next(NOW), Err(Broken::NoGreeting));

        let mut master = MasterEnd::new(NOW);
        master.room().extend_from_slice(&greeting().1);
        master.room().extend_from_slice(b"x");
        assert_eq!(master.next(NOW), Err(Broken::MoreThanGreeting));

        let (mut master, _, _) = met();
        master.welcome(NOW, false);
        master.room().extend_from_slice(&heartbeat());
        assert_eq!(master.next(NOW), Err(Broken::NoInventory));

        let (mut master, _, _) = met();
        master.welcome(NOW, false);
        master.room().extend_from_slice(&greeting().1);
        assert_eq!(master.next(NOW), Err(Broken::GreetedTwice));
    }

    #[test]
    fn each_wait_for_the_other_end_has_its_deadline() {
        let (agent, _) = greeting();
        assert_eq!(agent.deadline(), (NOW + session::WELCOME_DEADLINE, TooLate::NoAnswer));
        let mut master = MasterEnd::new(NOW);
        let until = NOW + session::HELLO_DEADLINE;
        assert_eq!(master.deadline(), Some((until, TooLate::NoGreeting)));
        master.room().extend_from_slice(&[0, 0]);
        assert_eq!(master.next(NOW + Duration::from_secs(9)), Ok(None));
        assert_eq!(master.deadline(), Some((until, TooLate::NoGreeting)), "however it drips");
        master.welcome(NOW, true);
        assert_eq!(master.deadline(), Some((NOW + session::SILENCE_BUSY, TooLate::Silence)));
    }

    #[test]
    fn an_agent_with_nothing_to_prove_itself_with_says_nothing() {
        let key = SigningKey::from_seed(&Secret::new([2; 32]));
        let credentials = Credentials { key: &key, pinned: None, password: None };
        let greeted = AgentEnd::greet(NOW, hello(&key), &EXPORTER, credentials, false);
        assert!(greeted.unwrap().is_none());
    }
}
