//! Attacks on the agent channel, against the master's end of it: each is tried, and gets nowhere.
//!
//! The wire is in memory and the TLS exporter is given, so that a relay can be played without one.
//! Behind the channel stands a real store and the real domain.

use std::sync::Arc;
use std::sync::Mutex;

use busybee::master::agents::Agents;
use busybee::master::agents::Wiring;
use busybee::master::domain::coordinator::Coordinator;
use busybee::master::domain::decision::Action;
use busybee::master::domain::decision::Answer;
use busybee::master::domain::decision::ReplyId;
use busybee::master::domain::event::Event;
use busybee::master::domain::event::Request;
use busybee::master::domain::settings::PoolSettings;
use busybee::master::domain::settings::ProvisionerKind;
use busybee::master::domain::settings::Settings;
use busybee::master::inbox::Inbox;
use busybee::master::inbox::Letter;
use busybee::master::keys::Keys;
use busybee::master::logs::LogStore;
use busybee::master::store::Store;
use busybee::model::attempt::GitCredential;
use busybee::model::ids::LaunchId;
use busybee::model::secret::Secret;
use busybee::runtime::clock;
use busybee::wire::convert;
use busybee::wire::frame::Frames;
use busybee::wire::handshake;
use busybee::wire::handshake::KnownMaster;
use busybee::wire::handshake::SigningKey;
use busybee::wire::handshake::Transcript;
use busybee::wire::message::FromAgent;
use busybee::wire::message::FromMaster;
use busybee::wire::message::Hello;
use busybee::wire::message::HelloProof;
use busybee::wire::version;
use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::DuplexStream;

const DEADLINE: std::time::Duration = std::time::Duration::from_secs(20);

/// A master with one worker of one's own, `w1`, that has not called yet.
struct House {
    agents: Agents,
    launch: LaunchId,
    keys: Keys,
    alarms: Arc<Mutex<Vec<String>>>,
    greetings: Arc<Mutex<usize>>,
    _dir: tempfile::TempDir,
}

fn settings() -> Settings {
    let minute = std::time::Duration::from_secs(60);
    Settings {
        pools: vec![PoolSettings {
            name: "own".into(),
            labels: ["linux"].into_iter().collect(),
            provisioner: ProvisionerKind::None,
            has_bootstrap: false,
            candidates: Vec::new(),
            max_instances: 1,
            min_idle: 0,
            jobs_per_instance: 0,
            shared: true,
            idle_timeout: minute,
            boot_timeout: minute,
            reconnect_grace: minute,
            lease: 30 * minute,
            max_lifetime: 60 * minute,
            env: Vec::new(),
        }],
        projects: Vec::new(),
        url: "https://ci.example.com".into(),
    }
}

impl House {
    async fn open() -> House {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let keys = Keys::load_or_create(dir.path()).unwrap();
        let mut domain = Coordinator::load(settings(), store.load().unwrap(), clock::now(), 7);
        let added = domain.handle(
            clock::now(),
            Event::Asked(ReplyId(1), Request::AddWorker("w1".into(), "own".into())),
        );
        store.commit(added.remember).await.unwrap();
        let [(_, Answer::WorkerAdded(_, launch))] = &added.answers[..] else { panic!() };
        let (inbox, mut letters) = Inbox::new();
        let rows = store.clone();
        let agents = Agents::new(Wiring {
            inbox,
            logs: LogStore::open(dir.path()).unwrap(),
            keys: keys.clone(),
            worker: Arc::new(move |name| {
                let rows = rows.clone();
                Box::pin(async move { rows.worker(name).await })
            }),
            bootstrap: Arc::new(|_| None),
            credential: Arc::new(|_| GitCredential::None),
        });
        let (alarms, greetings) = (Arc::default(), Arc::new(Mutex::new(0)));
        let house = House {
            agents: agents.clone(),
            launch: launch.clone(),
            keys,
            alarms,
            greetings,
            _dir: dir,
        };
        let (alarms, greetings) = (Arc::clone(&house.alarms), Arc::clone(&house.greetings));
        // The event loop in small: decide, commit, act, answer.
        tokio::spawn(async move {
            while let Some(letter) = letters.recv().await {
                let (event, sender) = match letter {
                    Letter::Notice(event) => (event, None),
                    Letter::Request(request, sender) => {
                        (Event::Asked(ReplyId(2), request), Some(sender))
                    }
                    Letter::Hello(greeting, sender) => {
                        *greetings.lock().unwrap() += 1;
                        (greeting.into_event(ReplyId(2)), Some(sender))
                    }
                };
                let decision = domain.handle(clock::now(), event);
                store.commit(decision.remember).await.unwrap();
                for action in decision.perform {
                    match action {
                        Action::Tell { worker, connection, message } => {
                            agents.tell(&worker, connection, message);
                        }
                        Action::Disconnect { connection, sentence } => {
                            agents.disconnect(connection, sentence);
                        }
                        Action::Alarm(sentence) => alarms.lock().unwrap().push(sentence),
                        _ => {}
                    }
                }
                if let (Some(sender), Some((_, answer))) =
                    (sender, decision.answers.into_iter().next())
                {
                    let _hung_up = sender.send(answer);
                }
            }
        });
        house
    }

    fn password(&self) -> Secret<String> {
        handshake::bootstrap_password(self.keys.master.reveal(), &self.launch, 0)
    }

    /// A connection whose TLS session has this exporter.
    async fn dial(&self, exporter: [u8; 32]) -> Caller {
        let (near, far) = tokio::io::duplex(1 << 20);
        let agents = self.agents.clone();
        let admission = agents.admit().await;
        let peer = "127.0.0.1:1".parse().unwrap();
        tokio::spawn(async move { agents.serve(admission, far, exporter, peer).await });
        Caller { stream: near, frames: Frames::before_welcome() }
    }
}

/// Somebody who calls.
struct Caller {
    stream: DuplexStream,
    frames: Frames,
}

impl Caller {
    async fn say(&mut self, message: FromAgent) {
        let mut bytes = BytesMut::new();
        convert::append_from_agent(message, &mut bytes).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// The next message; nothing: the connection was closed.
    async fn hear(&mut self) -> Option<FromMaster> {
        let hearing = async {
            loop {
                if let Some(body) = self.frames.take().unwrap() {
                    let message = convert::read_from_master(&body).unwrap();
                    if matches!(message, FromMaster::Welcome(_)) {
                        self.frames.welcome();
                    }
                    return Some(message);
                }
                if self.stream.read_buf(self.frames.room()).await.unwrap_or(0) == 0 {
                    return None;
                }
            }
        };
        tokio::time::timeout(DEADLINE, hearing).await.expect("an answer or an end in time")
    }
}

fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Secret::new([seed; 32]))
}

fn hello(worker: &str, key: &SigningKey, epoch: u64) -> Hello {
    Hello {
        proto_min: version::PROTO_MIN,
        proto_max: version::PROTO_MAX,
        worker: worker.into(),
        instance_claim: String::new(),
        boot_id: "boot".into(),
        epoch,
        public_key: key.public(),
        proof: HelloProof::Bind(Vec::new()),
        version: "test".into(),
    }
}

/// A greeting that proves the password on the connection with this exporter.
fn bind(
    worker: &str,
    key: &SigningKey,
    password: &Secret<String>,
    exporter: [u8; 32],
) -> FromAgent {
    let mut hello = hello(worker, key, 1);
    hello.proof = handshake::prove_password(password, &Transcript::new(&hello, &exporter));
    FromAgent::Hello(hello)
}

fn resume(key: &SigningKey, epoch: u64, exporter: [u8; 32]) -> FromAgent {
    let mut hello = hello("w1", key, epoch);
    hello.proof = handshake::prove_key(key, &Transcript::new(&hello, &exporter));
    FromAgent::Hello(hello)
}

fn refusal(message: Option<FromMaster>) -> String {
    match message {
        Some(FromMaster::Goodbye { sentence, .. }) => sentence,
        other => panic!("a farewell was due, not {other:?}"),
    }
}

#[tokio::test]
async fn the_right_password_is_welcomed_and_the_master_proves_that_it_knows_it_too() {
    let house = House::open().await;
    let mut caller = house.dial([1; 32]).await;
    let FromAgent::Hello(hello) = bind("w1", &key(1), &house.password(), [1; 32]) else { panic!() };
    let transcript = Transcript::new(&hello, &[1; 32]);
    caller.say(FromAgent::Hello(hello)).await;
    let Some(FromMaster::Welcome(welcome)) = caller.hear().await else { panic!("no welcome") };
    let known = KnownMaster::Password(house.password());
    let (proto, master_key, proof) = (welcome.proto, &welcome.master_key, &welcome.proof);
    assert!(handshake::master_proof_holds(&known, &transcript, proto, master_key, proof));
    let other = KnownMaster::Password(Secret::new("another".into()));
    assert!(!handshake::master_proof_holds(&other, &transcript, proto, master_key, proof));
}

#[tokio::test]
async fn a_wrong_password_and_an_unknown_name_learn_nothing_from_each_other() {
    let house = House::open().await;
    let wrong = Secret::new("0".repeat(64));
    let mut sentences = Vec::new();
    for name in ["w1", "nobody"] {
        let mut caller = house.dial([1; 32]).await;
        caller.say(bind(name, &key(1), &wrong, [1; 32])).await;
        sentences.push(refusal(caller.hear().await).replace(name, "NAME"));
    }
    assert_eq!(sentences[0], sentences[1]);
    assert_eq!(*house.greetings.lock().unwrap(), 0, "an unproven greeting reaches nobody");
    assert!(house.alarms.lock().unwrap().is_empty(), "and a name alone is no kill switch");
}

#[tokio::test]
async fn a_greeting_that_is_relayed_into_another_session_is_worth_nothing() {
    let house = House::open().await;
    let mut caller = house.dial([2; 32]).await;
    caller.say(bind("w1", &key(1), &house.password(), [1; 32])).await;
    refusal(caller.hear().await);
    assert_eq!(*house.greetings.lock().unwrap(), 0);
}

#[tokio::test]
async fn a_second_key_with_the_right_password_raises_the_alarm_and_ends_the_worker() {
    let house = House::open().await;
    let mut first = house.dial([1; 32]).await;
    first.say(bind("w1", &key(1), &house.password(), [1; 32])).await;
    assert!(matches!(first.hear().await, Some(FromMaster::Welcome(_))));
    // The same key again is a lost answer, no attack.
    let mut again = house.dial([2; 32]).await;
    again.say(bind("w1", &key(1), &house.password(), [2; 32])).await;
    assert!(matches!(again.hear().await, Some(FromMaster::Welcome(_))));
    assert!(house.alarms.lock().unwrap().is_empty());

    let mut thief = house.dial([3; 32]).await;
    thief.say(bind("w1", &key(9), &house.password(), [3; 32])).await;
    refusal(thief.hear().await);
    assert_eq!(house.alarms.lock().unwrap().len(), 1);
    let mut owner = house.dial([4; 32]).await;
    owner.say(resume(&key(1), 2, [4; 32])).await;
    refusal(owner.hear().await);
}

#[tokio::test]
async fn only_the_bound_key_resumes_and_no_earlier_process_of_its_agent_does() {
    let house = House::open().await;
    let mut first = house.dial([1; 32]).await;
    first.say(bind("w1", &key(1), &house.password(), [1; 32])).await;
    assert!(matches!(first.hear().await, Some(FromMaster::Welcome(_))));
    let check = async |key: &SigningKey, epoch, welcome: bool| {
        let mut caller = house.dial([epoch as u8; 32]).await;
        caller.say(resume(key, epoch, [epoch as u8; 32])).await;
        let heard = caller.hear().await;
        assert_eq!(matches!(heard, Some(FromMaster::Welcome(_))), welcome, "{epoch}: {heard:?}");
    };
    check(&key(1), 5, true).await;
    check(&key(1), 4, false).await;
    check(&key(9), 6, false).await;
    check(&key(1), 6, true).await;
}

#[tokio::test]
async fn what_is_no_greeting_is_closed_without_a_word() {
    let house = House::open().await;
    let too_long = u32::MAX.to_be_bytes().to_vec();
    let empty = 0_u32.to_be_bytes().to_vec();
    let garbage = [4_u32.to_be_bytes().to_vec(), vec![0xff; 4]].concat();
    for bytes in [too_long, empty, garbage, b"GET / HTTP/1.1\r\n\r\n".to_vec()] {
        let mut caller = house.dial([1; 32]).await;
        caller.stream.write_all(&bytes).await.unwrap();
        assert_eq!(caller.hear().await, None, "{bytes:?}");
    }
    let mut early = house.dial([1; 32]).await;
    early.say(FromAgent::Goodbye { sentence: "me first".into() }).await;
    assert_eq!(early.hear().await, None);
    assert_eq!(*house.greetings.lock().unwrap(), 0);
}
