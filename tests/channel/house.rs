//! A master's end of the channel, and somebody who calls it.
//!
//! The wire is in memory and the TLS exporter is given, so that a relay can be played without one.
//! Behind the channel stands a real store and the real domain.

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use busybee::master::agents::Agents;
use busybee::master::agents::Wiring;
use busybee::master::domain::coordinator::Coordinator;
use busybee::master::domain::decision::Action;
use busybee::master::domain::decision::Answer;
use busybee::master::domain::decision::Record;
use busybee::master::domain::decision::ReplyId;
use busybee::master::domain::decision::Unresolved;
use busybee::master::domain::entities::StepRun;
use busybee::master::domain::event::Event;
use busybee::master::domain::event::Request;
use busybee::master::domain::event::Resolved;
use busybee::master::domain::pipeline::JobSpec;
use busybee::master::domain::pipeline::Pipeline;
use busybee::master::domain::pipeline::Planned;
use busybee::master::domain::settings::PoolSettings;
use busybee::master::domain::settings::ProjectSettings;
use busybee::master::domain::settings::ProvisionerKind;
use busybee::master::domain::settings::Settings;
use busybee::master::inbox::Inbox;
use busybee::master::inbox::Letter;
use busybee::master::keys::Keys;
use busybee::master::logs::LogStore;
use busybee::master::store::Store;
use busybee::model::attempt::GitCredential;
use busybee::model::ids::Commit;
use busybee::model::ids::ConnectionId;
use busybee::model::ids::LaunchId;
use busybee::model::secret::Secret;
use busybee::runtime::clock;
use busybee::wire::convert;
use busybee::wire::frame::Frames;
use busybee::wire::handshake;
use busybee::wire::handshake::SigningKey;
use busybee::wire::handshake::Transcript;
use busybee::wire::message::Bootstrap;
use busybee::wire::message::FromAgent;
use busybee::wire::message::FromMaster;
use busybee::wire::message::Hello;
use busybee::wire::message::HelloProof;
use busybee::wire::message::Inventory;
use busybee::wire::version;
use bytes::BytesMut;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::DuplexStream;
use tokio::sync::watch;

/// Nothing that a test waits for takes longer, also on a loaded computer.
pub(crate) const DEADLINE: std::time::Duration = std::time::Duration::from_secs(30);

/// A master with two workers of one's own, `w1` and `w2`, that have not called yet.
pub(crate) struct House {
    pub(crate) agents: Agents,
    /// The way to its domain.
    pub(crate) inbox: Inbox,
    /// Everything that the store was given, in order.
    pub(crate) remembered: watch::Receiver<Vec<Record>>,
    /// How each step of an attempt stood in the store whenever one was written.
    pub(crate) steps: Arc<Mutex<Vec<StepRun>>>,
    pub(crate) logs: LogStore,
    launches: [LaunchId; 2],
    keys: Keys,
    pub(crate) alarms: Arc<Mutex<Vec<String>>>,
    pub(crate) greetings: Arc<Mutex<usize>>,
    dials: AtomicU64,
    _dir: tempfile::TempDir,
}

/// What differs from house to house.
#[derive(Clone, Default)]
pub(crate) struct Furniture {
    /// The jobs of each build of its project, `hello`.
    pub(crate) jobs: Vec<JobSpec>,
    /// The bootstrap script of its pool.
    pub(crate) bootstrap: Option<Bootstrap>,
}

impl Furniture {
    /// What the repository says of a change.
    fn resolve(&self, change: Unresolved) -> Event {
        let pipeline = Pipeline { jobs: self.jobs.clone(), ..Pipeline::default() };
        let resolved = Resolved {
            ref_name: "refs/heads/main".into(),
            commit: Commit("1".repeat(40)),
            subject: "work".into(),
            author: "Ada <ada@example.com>".into(),
            planned: Planned::Pipeline(pipeline),
        };
        Event::ChangeResolved(change.change, resolved)
    }
}

fn settings(furniture: &Furniture) -> Settings {
    let minute = std::time::Duration::from_secs(60);
    Settings {
        pools: vec![PoolSettings {
            name: "own".into(),
            labels: ["linux"].into_iter().collect(),
            provisioner: ProvisionerKind::None,
            has_bootstrap: furniture.bootstrap.is_some(),
            candidates: Vec::new(),
            stopping: None,
            max_instances: 2,
            seats: 0,
            min_idle: 0,
            jobs_per_instance: 0,
            shared: true,
            idle_timeout: minute,
            look_ahead: false,
            boot_timeout: minute,
            reconnect_grace: minute,
            lease: 30 * minute,
            max_lifetime: 60 * minute,
            env: Vec::new(),
            notify_on_missing: Vec::new(),
            daily_budget: None,
        }],
        projects: vec![ProjectSettings { name: "hello".into(), repo: "hello.git".into() }],
        url: "https://ci.example.com".into(),
        daily_budget: None,
    }
}

async fn add_worker(domain: &mut Coordinator, store: &Store, name: &str) -> LaunchId {
    let asked = Request::AddWorker(name.into(), "own".into());
    let added = domain.handle(clock::now(), Event::Asked(ReplyId(1), asked));
    store.commit(added.remember).await.unwrap();
    let [(_, Answer::WorkerAdded(_, launch))] = &added.answers[..] else { panic!() };
    launch.clone()
}

impl House {
    pub(crate) async fn open() -> House {
        House::open_with(Furniture::default()).await
    }

    pub(crate) async fn open_with(furniture: Furniture) -> House {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let keys = Keys::load_or_create(dir.path()).unwrap();
        let mut domain =
            Coordinator::load(settings(&furniture), store.load().unwrap(), clock::now(), 7);
        let launches = [
            add_worker(&mut domain, &store, "w1").await,
            add_worker(&mut domain, &store, "w2").await,
        ];
        let logs = LogStore::open(dir.path()).unwrap();
        let (inbox, mut letters) = Inbox::new();
        let (rows, bootstrap) = (store.clone(), furniture.bootstrap.clone());
        let agents = Agents::new(Wiring {
            inbox: inbox.clone(),
            logs: logs.clone(),
            keys: keys.clone(),
            worker: Arc::new(move |name| {
                let rows = rows.clone();
                Box::pin(async move { rows.worker(name).await })
            }),
            bootstrap: Arc::new(move |_| bootstrap.clone()),
            credential: Arc::new(|_| GitCredential::None),
            secret: Arc::new(|_, _| Err("there are none here".to_owned())),
        });
        let (alarms, greetings) = (Arc::default(), Arc::new(Mutex::new(0)));
        let (records, remembered) = watch::channel(Vec::new());
        let steps = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&steps);
        let house = House {
            agents: agents.clone(),
            inbox: inbox.clone(),
            remembered,
            steps,
            logs,
            launches,
            keys,
            alarms,
            greetings,
            dials: AtomicU64::new(0),
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
                store.commit(decision.remember.clone()).await.unwrap();
                for record in &decision.remember {
                    if let Record::Step(step) = record {
                        let rows = store.steps_of(step.attempt).await.unwrap();
                        seen.lock().unwrap().extend(rows);
                    }
                }
                records.send_modify(|all| all.extend(decision.remember));
                for action in decision.perform {
                    match action {
                        Action::Tell { worker, connection, message } => {
                            agents.tell(&worker, connection, message);
                        }
                        Action::Disconnect { connection, sentence } => {
                            agents.disconnect(connection, sentence);
                        }
                        Action::ResolveChange(change) => {
                            inbox.send(furniture.resolve(change)).await;
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

    /// The password of `w1`.
    pub(crate) fn password(&self) -> Secret<String> {
        self.password_of("w1")
    }

    /// The password of `w1` or `w2`.
    pub(crate) fn password_of(&self, worker: &str) -> Secret<String> {
        let launch = &self.launches[usize::from(worker == "w2")];
        handshake::bootstrap_password(self.keys.master.reveal(), launch, 0)
    }

    /// A connection whose TLS session has this exporter.
    pub(crate) async fn dial(&self, exporter: [u8; 32]) -> Caller {
        let (near, far) = tokio::io::duplex(1 << 20);
        let agents = self.agents.clone();
        let peer: std::net::SocketAddr = "127.0.0.1:1".parse().unwrap();
        let admission = agents.admit(peer.ip()).await;
        tokio::spawn(async move { agents.serve(admission, far, exporter, peer).await });
        let connection = ConnectionId(self.dials.fetch_add(1, Ordering::Relaxed) + 1);
        Caller { stream: near, frames: Frames::before_welcome(), connection }
    }

    /// `w1` or `w2`, welcomed, with an empty inventory. Calling again is a new connection.
    pub(crate) async fn connect(&self, worker: &str) -> Caller {
        let exporter = [worker.as_bytes()[1]; 32];
        let mut caller = self.dial(exporter).await;
        let key = key(worker.as_bytes()[1]);
        caller.say(bind(worker, &key, &self.password_of(worker), exporter)).await;
        let heard = caller.hear().await;
        assert!(matches!(heard, Some(FromMaster::Welcome(_))), "{worker}: {heard:?}");
        caller.say(FromAgent::Inventory(Inventory::default())).await;
        caller
    }
}

/// Somebody who calls.
pub(crate) struct Caller {
    pub(crate) stream: DuplexStream,
    frames: Frames,
    /// What the master calls this connection: it counts them, and one is accepted after the other.
    pub(crate) connection: ConnectionId,
}

impl Caller {
    pub(crate) async fn say(&mut self, message: FromAgent) {
        let mut bytes = BytesMut::new();
        convert::append_from_agent(message, &mut bytes).unwrap();
        self.stream.write_all(&bytes).await.unwrap();
    }

    /// The next message; nothing: the connection was closed.
    pub(crate) async fn hear(&mut self) -> Option<FromMaster> {
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

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_seed(&Secret::new([seed; 32]))
}

pub(crate) fn hello(worker: &str, key: &SigningKey, epoch: u64) -> Hello {
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
pub(crate) fn bind(
    worker: &str,
    key: &SigningKey,
    password: &Secret<String>,
    exporter: [u8; 32],
) -> FromAgent {
    let mut hello = hello(worker, key, 1);
    hello.proof = handshake::prove_password(password, &Transcript::new(&hello, &exporter));
    FromAgent::Hello(hello)
}

pub(crate) fn resume(key: &SigningKey, epoch: u64, exporter: [u8; 32]) -> FromAgent {
    let mut hello = hello("w1", key, epoch);
    hello.proof = handshake::prove_key(key, &Transcript::new(&hello, &exporter));
    FromAgent::Hello(hello)
}

pub(crate) fn refusal(message: Option<FromMaster>) -> String {
    match message {
        Some(FromMaster::Goodbye { sentence, .. }) => sentence,
        other => panic!("a farewell was due, not {other:?}"),
    }
}
