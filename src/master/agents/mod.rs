//! The agent channel, master's end. Speaks with agents and decides nothing: what they say becomes
//! events, what the domain wants told becomes messages, log bytes go to the log files.
//!
//! `admission` and `greeting` find out who calls, `connection` listens, `outgoing` speaks; `attempts` knows whose
//! attempts a connection may write about, `reports` and `log_intake` carry what it writes. What is decided
//! on the way is in `rules`, and pure.

mod admission;
mod attempts;
mod connection;
mod greeting;
mod log_intake;
mod outgoing;
mod reports;
pub mod rules;

use std::collections::HashMap;
use std::future::Future;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering;

use tokio::io::AsyncRead;
use tokio::io::AsyncWrite;

pub use crate::master::agents::admission::Admission;
use crate::master::agents::admission::Admissions;
use crate::master::agents::attempts::Attempts;
use crate::master::agents::outgoing::Outgoing;
use crate::master::domain::decision::ToAgent;
use crate::master::domain::entities::Worker;
use crate::master::domain::event::AgentEvent;
use crate::master::domain::event::Event;
use crate::master::inbox::Inbox;
use crate::master::keys::Keys;
use crate::master::logs::LogStore;
use crate::model::attempt::AttemptSpec;
use crate::model::attempt::GitCredential;
use crate::model::ids::ConnectionId;
use crate::model::ids::PoolName;
use crate::model::ids::ProjectName;
use crate::model::ids::WorkerName;
use crate::model::secret::Secret;
use crate::model::step::StepOutcome;
use crate::wire::handshake::SigningKey;
use crate::wire::message::Bootstrap;
use crate::wire::message::FromMaster;
use crate::wire::message::GoodbyeCode;

pub use crate::wire::message::Bootstrap as BootstrapOrder;

/// A worker's row, or why it cannot be read.
pub type WorkerRow = Pin<Box<dyn Future<Output = anyhow::Result<Option<Worker>>> + Send>>;

/// What a pool's workers run first; nothing: the pool has no script (any more).
pub type BootstrapOf = Arc<dyn Fn(&PoolName) -> Option<Bootstrap> + Send + Sync>;

/// Reads a secret of a project, or says why there is none.
pub type SecretOf = Arc<dyn Fn(&ProjectName, &str) -> Result<Secret<String>, String> + Send + Sync>;

/// What the channel needs of the rest of the house.
pub struct Wiring {
    /// The way to the domain.
    pub inbox: Inbox,
    /// Where logs go.
    pub logs: LogStore,
    /// The master's keys.
    pub keys: Keys,
    /// Looks a worker up in the store.
    pub worker: Arc<dyn Fn(WorkerName) -> WorkerRow + Send + Sync>,
    /// What a pool's workers run first; nothing: the pool has no script (any more).
    pub bootstrap: BootstrapOf,
    /// How git proves itself for a project's repository.
    pub credential: Arc<dyn Fn(&ProjectName) -> GitCredential + Send + Sync>,
    /// Reads a secret of a project, or says why there is none.
    pub secret: SecretOf,
}

/// The agents. Cheap to clone.
#[derive(Clone)]
pub struct Agents {
    house: Arc<House>,
}

struct House {
    wiring: Wiring,
    key: SigningKey,
    admissions: Admissions,
    next_connection: AtomicU64,
    connections: Mutex<HashMap<ConnectionId, Connected>>,
    /// Connections that broke a rule before their greeting was proven: closed without a word.
    broken_greetings: AtomicU64,
}

/// A connection, for those who have something to say on it.
struct Connected {
    worker: WorkerName,
    pool: PoolName,
    outgoing: Outgoing,
    attempts: Arc<Attempts>,
}

impl Agents {
    /// The agents of a master that just started: none.
    pub fn new(wiring: Wiring) -> Agents {
        let key = SigningKey::from_seed(&wiring.keys.channel_seed);
        Agents {
            house: Arc::new(House {
                wiring,
                key,
                admissions: Admissions::new(),
                next_connection: AtomicU64::new(1),
                connections: Mutex::new(HashMap::new()),
                broken_greetings: AtomicU64::new(0),
            }),
        }
    }

    /// Waits until one more connection from this address may greet. The caller has a deadline.
    pub async fn admit(&self, address: IpAddr) -> Admission {
        self.house.admissions.admit(address).await
    }

    /// Drives one connection to its end. `exporter` is that of its TLS session.
    pub async fn serve<S>(
        &self,
        admission: Admission,
        stream: S,
        exporter: [u8; 32],
        peer: SocketAddr,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let number = self.house.next_connection.fetch_add(1, Ordering::Relaxed);
        let connection = ConnectionId(number);
        greeting::serve(&self.house, admission, stream, exporter, connection, peer).await;
    }

    /// Tells an agent something, without waiting. Said on an older connection, nobody hears it;
    /// an agent that does not listen loses its connection.
    pub fn tell(&self, worker: &WorkerName, connection: ConnectionId, message: ToAgent) {
        let connections = self.house.connections();
        let Some(connected) = connections.get(&connection).filter(|it| it.worker == *worker) else {
            tracing::debug!(worker.id = %worker, "nobody is left on connection {connection}");
            return;
        };
        let message = match message {
            ToAgent::Bootstrap => {
                let Some(bootstrap) = (self.house.wiring.bootstrap)(&connected.pool) else {
                    self.house.no_bootstrap(connected, connection);
                    return;
                };
                FromMaster::Bootstrap(bootstrap)
            }
            ToAgent::Run(spec) => {
                connected.attempts.given(spec.id, spec.steps.len());
                FromMaster::RunAttempt(Box::new(self.house.with_secrets(*spec)))
            }
            ToAgent::Cancel(attempt) => {
                connected.attempts.still_wanted(attempt);
                FromMaster::Cancel(attempt)
            }
            ToAgent::Forget(attempt) => {
                connected.attempts.forgotten(attempt);
                FromMaster::Forget(attempt)
            }
            ToAgent::Drain => FromMaster::Drain,
            ToAgent::Shutdown { sentence } => FromMaster::Shutdown { sentence },
        };
        connected.outgoing.say(message);
    }

    /// Ends a connection after a farewell. Its agent may call again, and is judged anew then.
    pub fn disconnect(&self, connection: ConnectionId, sentence: String) {
        if let Some(connected) = self.house.connections().get(&connection) {
            connected.outgoing.say(FromMaster::Goodbye { code: GoodbyeCode::Retry, sentence });
        }
    }

    /// Ends every connection after a farewell.
    pub fn close_all(&self, sentence: &str) {
        for connected in self.house.connections().values() {
            let sentence = sentence.to_owned();
            connected.outgoing.say(FromMaster::Goodbye { code: GoodbyeCode::Retry, sentence });
        }
    }

    /// How many connections broke a rule before their greeting was proven.
    pub fn broken_greetings(&self) -> u64 {
        self.house.broken_greetings.load(Ordering::Relaxed)
    }
}

impl House {
    fn connections(&self) -> MutexGuard<'_, HashMap<ConnectionId, Connected>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with_secrets(&self, mut spec: AttemptSpec) -> AttemptSpec {
        for secret in &mut spec.secrets {
            secret.value = (self.wiring.secret)(&spec.project, &secret.name);
        }
        if let Some(checkout) = &mut spec.checkout {
            checkout.credential = (self.wiring.credential)(&spec.project);
        }
        spec
    }

    /// The domain wants a script run that is not there: for it, the script failed.
    fn no_bootstrap(&self, connected: &Connected, connection: ConnectionId) {
        let sentence = format!("the bootstrap script of pool {} cannot be found", connected.pool);
        tracing::error!(worker.id = %connected.worker, "{sentence}");
        let finished = AgentEvent::BootstrapFinished {
            worker: connected.worker.clone(),
            connection,
            outcome: StepOutcome::Infra(sentence.clone()),
            tail: sentence,
        };
        let inbox = self.wiring.inbox.clone();
        tokio::spawn(async move { inbox.send(Event::Agent(finished)).await });
    }
}

impl std::fmt::Debug for Agents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Agents({} connected)", self.house.connections().len())
    }
}
