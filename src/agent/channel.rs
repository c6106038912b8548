//! The agent's end of the channel: dials the master, proves who it is, speaks and listens, and
//! dials again whenever that ends. What is said is the agent's business, not this file's.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::BytesMut;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWriteExt;
use tokio::io::ReadHalf;
use tokio::io::WriteHalf;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::agent::identity::Identity;
use crate::agent::machine;
use crate::model::attempt::LogChunk;
use crate::model::backoff::Backoff;
use crate::model::secret::Secret;
use crate::runtime::clock;
use crate::runtime::random;
use crate::runtime::tcp;
use crate::runtime::tls;
use crate::wire::convert;
use crate::wire::frame::Frames;
use crate::wire::handshake;
use crate::wire::handshake::KnownMaster;
use crate::wire::handshake::Transcript;
use crate::wire::message::FromAgent;
use crate::wire::message::FromMaster;
use crate::wire::message::GoodbyeCode;
use crate::wire::message::Hello;
use crate::wire::message::HelloProof;
use crate::wire::message::Welcome;
use crate::wire::session;
use crate::wire::session::Watch;
use crate::wire::version;

/// How long finding the master's address and connecting to it may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// How long one write may take before the connection is given up.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);

/// Delays between calls: soon at first, so that a master that restarts is found again at once;
/// later seldom enough for a thousand agents whose master is away.
const REDIAL: Backoff = match Backoff::new(Duration::from_millis(250), Duration::from_secs(30)) {
    Some(backoff) => backoff,
    None => panic!("a quarter of a second is neither nothing nor more than thirty"),
};

/// What a session must last so that the next call comes soon again.
const GOOD_SESSION: Duration = Duration::from_secs(30);

/// Events that wait for the agent, at most. While they do, nothing is read from the master.
const EVENTS_MAX: usize = 64;
/// Messages that wait to be written, at most; who has one more waits.
const CONTROL_MAX: usize = 256;
/// Log chunks that wait to be written, at most: each is 64 KiB at most.
const LOGS_MAX: usize = 8;

/// Bytes gathered into one write, at least as long as more messages are waiting.
const BATCH_BYTES: usize = 64 * 1024;

/// Whom to call, and as whom.
#[derive(Clone, Debug)]
pub struct ChannelConfig {
    /// `BB_MASTER`: host and port.
    pub master: String,
    /// The only authority to trust, in PEM; nothing: the system's roots.
    pub ca_pem: Option<Vec<u8>>,
    /// `BB_NAME`.
    pub worker: String,
    /// `BB_PASSWORD`; nothing once bound.
    pub password: Option<Secret<String>>,
    /// What this machine says its instance is; empty for local and own machines.
    pub instance_claim: String,
    /// The agent's version, for people.
    pub version: String,
}

/// What happens on the channel.
#[derive(Debug)]
pub enum ChannelEvent {
    /// A session began. The identity is bound by now: the password may be wiped. The first message
    /// of a session must be the Inventory.
    Up {
        /// What the master said.
        welcome: Welcome,
        /// The way to say something in this session.
        outgoing: Outgoing,
    },
    /// The master said something (never Welcome or Goodbye).
    Message(FromMaster),
    /// The session ended, or none came to be; the channel calls again by itself.
    Down {
        /// Why; for the log.
        sentence: String,
    },
    /// The master will not have this agent: the channel has ended.
    Refused {
        /// Why; for the log.
        sentence: String,
    },
}

/// The way to say something in one session; dead once it is down. Control goes before logs.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// All messages but log chunks.
    pub control: mpsc::Sender<FromAgent>,
    /// Log chunks.
    pub logs: mpsc::Sender<LogChunk>,
}

/// A channel that keeps itself up. It ends when this is dropped; to leave in peace, say Goodbye,
/// drop every `Outgoing` and wait for `Down`.
#[derive(Debug)]
pub struct Channel {
    /// What happens.
    pub events: mpsc::Receiver<ChannelEvent>,
    /// To be told whether an attempt runs: the silence that is borne depends on it.
    pub busy: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Drop for Channel {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Begins to call.
pub fn start(config: ChannelConfig, identity: Identity) -> Channel {
    let (events_in, events) = mpsc::channel(EVENTS_MAX);
    let (busy, busy_out) = watch::channel(false);
    let caller = Caller { config, identity, events: events_in, busy: busy_out };
    Channel { events, busy, task: tokio::spawn(caller.run()) }
}

struct Caller {
    config: ChannelConfig,
    identity: Identity,
    events: mpsc::Sender<ChannelEvent>,
    busy: watch::Receiver<bool>,
}

/// How a call ended.
enum Ended {
    /// It did; call again.
    Down(String),
    /// The master said never again.
    Refused(String),
    /// Nobody listens to our events any more.
    Unheard,
}

type Stream = TlsStream<TcpStream>;

impl Caller {
    async fn run(mut self) {
        let tls = match tls::agent_client_config(self.config.ca_pem.as_deref()) {
            Ok(tls) => tls,
            Err(error) => {
                let sentence = format!("cannot trust any master: {error:#}");
                let _unheard = self.events.send(ChannelEvent::Refused { sentence }).await;
                return;
            }
        };
        let mut tries = 0;
        loop {
            let began_at = clock::monotonic();
            let event = match self.call(tls.clone()).await {
                Ended::Down(sentence) => ChannelEvent::Down { sentence },
                Ended::Refused(sentence) => {
                    let _unheard = self.events.send(ChannelEvent::Refused { sentence }).await;
                    return;
                }
                Ended::Unheard => return,
            };
            if self.events.send(event).await.is_err() {
                return;
            }
            if clock::monotonic().saturating_sub(began_at) >= GOOD_SESSION {
                tries = 0;
            }
            tokio::time::sleep(REDIAL.delay(tries, random::number())).await;
            tries = tries.saturating_add(1);
        }
    }

    /// One call, from dialling to hanging up.
    async fn call(&mut self, tls: Arc<ClientConfig>) -> Ended {
        let master = self.config.master.clone();
        let mut frames = Frames::before_welcome();
        let greeted = async {
            let mut stream = dial(&master, tls).await?;
            let answer = self.greet(&mut stream, &mut frames).await?;
            anyhow::Ok((stream, answer))
        };
        match greeted.await {
            Ok((stream, FromMaster::Welcome(welcome))) => {
                frames.welcome();
                self.converse(stream, frames, welcome).await
            }
            Ok((_, FromMaster::Goodbye { code: GoodbyeCode::Refused, sentence })) => {
                Ended::Refused(sentence)
            }
            Ok((_, FromMaster::Goodbye { code: GoodbyeCode::Retry, sentence })) => {
                Ended::Down(sentence)
            }
            Ok(_) => Ended::Down("the master answered a greeting with something else".into()),
            Err(error) => Ended::Down(format!("cannot reach master {master}: {error:#}")),
        }
    }

    /// Says hello and checks what comes back. A Welcome without the right proof is an error.
    async fn greet(
        &mut self,
        stream: &mut Stream,
        frames: &mut Frames,
    ) -> anyhow::Result<FromMaster> {
        let exporter = tls::exporter(stream.get_ref().1)?;
        let worker = self.config.worker.as_str();
        let mut hello = Hello {
            proto_min: version::PROTO_MIN,
            proto_max: version::PROTO_MAX,
            worker: worker.to_owned(),
            instance_claim: self.config.instance_claim.clone(),
            boot_id: machine::boot_id(),
            epoch: self.identity.epoch(),
            public_key: self.identity.key().public(),
            proof: HelloProof::Bind(Vec::new()),
            version: self.config.version.clone(),
        };
        let transcript = Transcript::new(&hello, &exporter);
        let known = match (self.identity.pinned_master(worker), &self.config.password) {
            (Some(pinned), _) => {
                hello.proof = handshake::prove_key(self.identity.key(), &transcript);
                KnownMaster::Pinned(pinned.to_vec())
            }
            (None, Some(password)) => {
                hello.proof = handshake::prove_password(password, &transcript);
                KnownMaster::Password(password.clone())
            }
            (None, None) => {
                // Never without help: the answer is that of a master that knows us no more.
                return Ok(FromMaster::Goodbye {
                    code: GoodbyeCode::Refused,
                    sentence: "no BB_PASSWORD is left, and no master has welcomed this worker"
                        .into(),
                });
            }
        };
        let mut frame = BytesMut::new();
        convert::append_from_agent(FromAgent::Hello(hello), &mut frame)?;
        write(stream, &frame).await?;
        let answer = tokio::time::timeout(session::WELCOME_DEADLINE, read_one(stream, frames))
            .await
            .context("the master did not answer the greeting")??;
        if let FromMaster::Welcome(welcome) = &answer {
            let Welcome { proto, master_key, proof, .. } = welcome;
            let spoken = version::PROTO_MIN..=version::PROTO_MAX;
            anyhow::ensure!(
                spoken.contains(proto)
                    && handshake::master_proof_holds(
                        &known,
                        &transcript,
                        *proto,
                        master_key,
                        proof
                    ),
                "it does not prove that it is this worker's master"
            );
            self.identity.pin(master_key, worker).context("remember the master")?;
            // It has done its duty.
            self.config.password = None;
        }
        Ok(answer)
    }

    /// A session: until one end hangs up or falls silent.
    async fn converse(&mut self, stream: Stream, frames: Frames, welcome: Welcome) -> Ended {
        let (control, control_out) = mpsc::channel(CONTROL_MAX);
        let (logs, logs_out) = mpsc::channel(LOGS_MAX);
        let outgoing = Outgoing { control, logs };
        if self.events.send(ChannelEvent::Up { welcome, outgoing }).await.is_err() {
            return Ended::Unheard;
        }
        let (reader, writer) = tokio::io::split(stream);
        tokio::select! {
            ended = listen(reader, frames, &self.events, self.busy.clone()) => ended,
            error = speak(writer, control_out, logs_out) => Ended::Down(format!("{error:#}")),
        }
    }
}

async fn dial(master: &str, tls: Arc<ClientConfig>) -> anyhow::Result<Stream> {
    let (host, _port) = master.rsplit_once(':').context("BB_MASTER is not HOST:PORT")?;
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(host).context("BB_MASTER names no host")?;
    let tcp = tokio::time::timeout(CONNECT_DEADLINE, TcpStream::connect(master))
        .await
        .context("it did not take the connection in time")??;
    tcp::tune(&tcp)?;
    tcp::keep_little_unsent(&tcp)?;
    let stream =
        tokio::time::timeout(session::TLS_DEADLINE, TlsConnector::from(tls).connect(name, tcp))
            .await
            .context("TLS took too long")?
            .context("speak TLS with it")?;
    anyhow::ensure!(
        stream.get_ref().1.alpn_protocol() == Some(tls::ALPN_AGENT),
        "something else than a Busybee master answers there"
    );
    Ok(stream)
}

/// Writes what is said, control before logs, one log chunk at a time. Returns when nobody takes it.
async fn speak(
    mut stream: WriteHalf<Stream>,
    mut control: mpsc::Receiver<FromAgent>,
    mut logs: mpsc::Receiver<LogChunk>,
) -> anyhow::Error {
    loop {
        let first = tokio::select! {
            biased;
            Some(message) = control.recv() => message,
            Some(chunk) = logs.recv() => FromAgent::LogChunk(chunk),
            // Both are dropped: all is said. The master hangs up when it has read it.
            else => match stream.shutdown().await {
                Ok(()) => std::future::pending().await,
                Err(error) => return anyhow::Error::new(error).context("hang up"),
            },
        };
        let mut batch = BytesMut::new();
        let mut next = Some(first);
        while let Some(message) = next.take() {
            let is_log = matches!(message, FromAgent::LogChunk(_));
            if let Err(error) = convert::append_from_agent(message, &mut batch) {
                return anyhow::Error::new(error).context("say something");
            }
            // After a log chunk the queue of control is looked at first again.
            let more = !is_log && batch.len() < BATCH_BYTES;
            next = if more { control.try_recv().ok() } else { None };
        }
        if let Err(error) = write(&mut stream, &batch).await {
            return error.context("speak to the master");
        }
    }
}

async fn listen(
    mut reader: ReadHalf<Stream>,
    mut frames: Frames,
    events: &mpsc::Sender<ChannelEvent>,
    mut busy: watch::Receiver<bool>,
) -> Ended {
    let now_busy = *busy.borrow_and_update();
    let mut watch = Watch::new(clock::monotonic(), now_busy);
    loop {
        let (deadline, too_late) = watch.deadline();
        let left = deadline.saturating_sub(clock::monotonic());
        let read = tokio::select! {
            read = tokio::time::timeout(left, reader.read_buf(frames.room())) => read,
            Ok(()) = busy.changed() => {
                watch.set_busy(clock::monotonic(), *busy.borrow_and_update());
                continue;
            }
        };
        match read {
            Ok(Ok(bytes)) if bytes > 0 => {}
            Ok(Ok(_)) => return Ended::Down("the master hung up".into()),
            Ok(Err(error)) => return Ended::Down(format!("cannot hear the master: {error}")),
            Err(_) => return Ended::Down(format!("the connection is dead: {too_late}")),
        }
        let mut whole = false;
        loop {
            match next_message(&mut frames) {
                Ok(None) => break,
                Ok(Some(FromMaster::Welcome(_))) => {
                    return Ended::Down("the master said welcome twice".into());
                }
                Ok(Some(FromMaster::Goodbye { code: GoodbyeCode::Retry, sentence })) => {
                    return Ended::Down(sentence);
                }
                Ok(Some(FromMaster::Goodbye { code: GoodbyeCode::Refused, sentence })) => {
                    return Ended::Refused(sentence);
                }
                Ok(Some(message)) => {
                    whole = true;
                    if events.send(ChannelEvent::Message(message)).await.is_err() {
                        return Ended::Unheard;
                    }
                }
                Err(error) => return Ended::Down(format!("the master broke a rule: {error:#}")),
            }
        }
        watch.heard(clock::monotonic(), whole, frames.in_the_middle());
    }
}

fn next_message(frames: &mut Frames) -> anyhow::Result<Option<FromMaster>> {
    match frames.take()? {
        Some(body) => Ok(Some(convert::read_from_master(&body)?)),
        None => Ok(None),
    }
}

async fn read_one(stream: &mut Stream, frames: &mut Frames) -> anyhow::Result<FromMaster> {
    loop {
        if let Some(message) = next_message(frames)? {
            return Ok(message);
        }
        let bytes = stream.read_buf(frames.room()).await?;
        anyhow::ensure!(bytes > 0, "it hung up without a word");
    }
}

async fn write<W: tokio::io::AsyncWrite + Unpin>(
    stream: &mut W,
    frame: &[u8],
) -> anyhow::Result<()> {
    let written = async {
        stream.write_all(frame).await?;
        stream.flush().await
    };
    tokio::time::timeout(WRITE_DEADLINE, written).await.context("it takes nothing")??;
    Ok(())
}
