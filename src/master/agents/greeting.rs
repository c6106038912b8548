//! A connection's first seconds: who calls, whether the proof holds, and what the domain says.
//!
//! Nothing of an unproven greeting reaches the domain, so that a name alone can end nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::BytesMut;
use tokio::io::AsyncRead;
use tokio::io::AsyncReadExt;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;

use crate::master::agents::Admission;
use crate::master::agents::Connected;
use crate::master::agents::House;
use crate::master::agents::attempts::Attempts;
use crate::master::agents::connection;
use crate::master::agents::connection::Line;
use crate::master::agents::outgoing;
use crate::master::agents::outgoing::Outgoing;
use crate::master::agents::outgoing::Queue;
use crate::master::domain::decision::Answer;
use crate::master::domain::decision::RefusalKind;
use crate::master::domain::decision::Welcome;
use crate::master::domain::entities::Enrolment;
use crate::master::domain::entities::Worker;
use crate::master::domain::event::AgentEvent;
use crate::master::domain::event::AgentHello;
use crate::master::domain::event::Event;
use crate::master::domain::event::Proof;
use crate::master::inbox::Greeting;
use crate::model::ids::ConnectionId;
use crate::model::ids::LaunchId;
use crate::model::ids::WorkerName;
use crate::runtime::clock;
use crate::wire::convert;
use crate::wire::frame::Frames;
use crate::wire::handshake;
use crate::wire::handshake::Expected;
use crate::wire::handshake::Transcript;
use crate::wire::message;
use crate::wire::message::FromAgent;
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

/// What a caller is told while the store cannot be read.
const NOT_NOW: &str = "the master cannot read its store just now";

/// A farewell instead of a welcome.
struct Farewell {
    code: GoodbyeCode,
    sentence: String,
}

impl Farewell {
    fn refused(sentence: impl Into<String>) -> Farewell {
        Farewell { code: GoodbyeCode::Refused, sentence: sentence.into() }
    }

    fn retry(sentence: impl Into<String>) -> Farewell {
        Farewell { code: GoodbyeCode::Retry, sentence: sentence.into() }
    }
}

/// A caller whose proof holds.
struct Proven {
    row: Worker,
    /// The protocol version to speak.
    proto: u32,
    /// The master's own proof.
    proof: Vec<u8>,
}

/// Greets, and if all goes well serves, until the connection ends.
pub(crate) async fn serve<S>(
    house: &Arc<House>,
    admission: Admission,
    mut stream: S,
    exporter: [u8; 32],
    connection: ConnectionId,
    peer: SocketAddr,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let mut frames = Frames::before_welcome();
    let hello = tokio::time::timeout(session::HELLO_DEADLINE, read_hello(&mut stream, &mut frames));
    let Ok(Ok(hello)) = hello.await else {
        // Late, too long, or no greeting: closed without a word.
        house.broken_greetings.fetch_add(1, Ordering::Relaxed);
        tracing::debug!("{peer} connected as an agent and did not greet");
        return;
    };
    let proven = match judge(house, &hello, &exporter).await {
        Ok(proven) => proven,
        Err(farewell) => {
            tracing::info!(%peer, "refused an agent from {peer}: {}", farewell.sentence);
            say(&mut stream, farewell.into_message()).await;
            return;
        }
    };
    drop(admission);
    introduce(house, stream, frames, hello, proven, connection).await;
}

/// The first message, which must be a greeting and come alone.
async fn read_hello<S>(stream: &mut S, frames: &mut Frames) -> anyhow::Result<Hello>
where
    S: AsyncRead + Unpin,
{
    let body = loop {
        if let Some(body) = frames.take()? {
            break body;
        }
        anyhow::ensure!(stream.read_buf(frames.room()).await? > 0, "the connection ended");
    };
    anyhow::ensure!(!frames.in_the_middle(), "more than a greeting");
    match convert::read_from_agent(&body)? {
        FromAgent::Hello(hello) => Ok(hello),
        _ => anyhow::bail!("another message instead of a greeting"),
    }
}

/// Whether a greeting proves who it comes from.
async fn judge(house: &House, hello: &Hello, exporter: &[u8; 32]) -> Result<Proven, Farewell> {
    let proto = version::agree(&hello.worker, hello.proto_min, hello.proto_max)
        .map_err(Farewell::refused)?;
    let row = (house.wiring.worker)(WorkerName(hello.worker.clone())).await.map_err(|error| {
        tracing::error!("cannot look a worker up: {error:#}");
        Farewell::retry(NOT_NOW)
    })?;
    // For a name that nobody has, all is computed as well: the answer takes as long.
    let nobody = LaunchId(String::new());
    let launch = row.as_ref().map_or(&nobody, |row| &row.launch);
    let master_key = house.wiring.keys.master.reveal();
    let expected = Expected {
        password: handshake::bootstrap_password(master_key, launch, CANDIDATE),
        public_key: row.as_ref().and_then(|row| match &row.enrolment {
            Enrolment::Bound { public_key, .. } => Some(public_key.clone()),
            Enrolment::Unused { .. } | Enrolment::Alarmed => None,
        }),
    };
    let transcript = Transcript::new(hello, exporter);
    let holds = handshake::proof_holds(hello, &transcript, &expected);
    match row {
        Some(row) if holds => {
            let proof =
                handshake::prove_master(hello, &transcript, &expected.password, &house.key, proto);
            Ok(Proven { row, proto, proof })
        }
        Some(_) | None => Err(Farewell::refused(NOT_KNOWN)),
    }
}

/// Asks the domain, and serves if it says welcome.
async fn introduce<S>(
    house: &Arc<House>,
    mut stream: S,
    frames: Frames,
    hello: Hello,
    proven: Proven,
    connection: ConnectionId,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let worker = proven.row.name.clone();
    let (outgoing, queue) = Outgoing::new();
    let attempts = Arc::new(Attempts::none());
    // Before the domain hears of it: what it wants told at once must find its way. What is said
    // now is written after the Welcome.
    let _entry = enter(house, connection, &proven.row, &outgoing, &attempts);
    let line = Line { worker: worker.clone(), connection, outgoing, attempts };
    let greeting = Greeting { worker: worker.clone(), connection, hello: told(hello) };
    match welcomed(house.wiring.inbox.greet(greeting).await) {
        Ok(welcome) => {
            let ended = converse(house, &line, stream, frames, queue, proven, welcome).await;
            tracing::info!(worker.id = %worker, "connection of worker {worker} ended: {ended:#}");
            let ended = AgentEvent::Disconnected { worker, connection };
            house.wiring.inbox.send(Event::Agent(ended)).await;
        }
        Err(farewell) => {
            tracing::info!(worker.id = %worker, "sent worker {worker} away: {}", farewell.sentence);
            say(&mut stream, farewell.into_message()).await;
        }
    }
}

/// Says welcome, then listens and speaks until one of both ends. The answer is why.
async fn converse<S>(
    house: &Arc<House>,
    line: &Line,
    mut stream: S,
    mut frames: Frames,
    queue: Queue,
    proven: Proven,
    welcome: Welcome,
) -> anyhow::Error
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // Read again: the greeting itself may have ended the attempt that the first reading showed.
    match (house.wiring.worker)(line.worker.clone()).await {
        Ok(row) => {
            if let Some(attempt) = row.and_then(|row| row.attempt) {
                line.attempts.still_wanted(attempt);
            }
        }
        Err(error) => {
            say(&mut stream, Farewell::retry(NOT_NOW).into_message()).await;
            return error.context("look the worker up");
        }
    }
    let welcome = message::Welcome {
        proto: proven.proto,
        master_key: house.key.public(),
        proof: proven.proof,
        heartbeat_busy: session::HEARTBEAT_BUSY,
        heartbeat_idle: session::HEARTBEAT_IDLE,
        lease: welcome.lease,
        server_time: clock::now(),
    };
    if !say(&mut stream, FromMaster::Welcome(welcome)).await {
        return anyhow::anyhow!("it did not wait for its welcome");
    }
    frames.welcome();
    tracing::info!(worker.id = %line.worker, "worker {} connected", line.worker);
    let (reader, writer) = tokio::io::split(stream);
    let unsendable = connection::reject_unsendable(house, line);
    tokio::select! {
        ended = connection::listen(house, line, reader, frames) => ended,
        () = line.outgoing.is_cut() => anyhow::anyhow!("cut off"),
        ended = outgoing::write_all(writer, queue, unsendable) => match ended {
            outgoing::Ended::Farewell => anyhow::anyhow!("told so"),
            outgoing::Ended::Gone => anyhow::anyhow!("it takes nothing any more"),
        },
    }
}

fn told(hello: Hello) -> AgentHello {
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

fn welcomed(answer: Answer) -> Result<Welcome, Farewell> {
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

impl Farewell {
    fn into_message(self) -> FromMaster {
        FromMaster::Goodbye { code: self.code, sentence: self.sentence }
    }
}

/// Writes one message; whether somebody took it.
async fn say<S: AsyncWrite + Unpin>(stream: &mut S, message: FromMaster) -> bool {
    let last_word = matches!(message, FromMaster::Goodbye { .. });
    let mut frame = BytesMut::new();
    if let Err(error) = convert::append_from_master(message, &mut frame) {
        tracing::error!("cannot answer a greeting: {error}");
        return false;
    }
    let written = async {
        stream.write_all(&frame).await?;
        stream.flush().await?;
        if last_word { stream.shutdown().await } else { Ok(()) }
    };
    matches!(tokio::time::timeout(session::HELLO_DEADLINE, written).await, Ok(Ok(())))
}

/// Enters a connection into the table of those one can speak on, for as long as the answer lives.
fn enter(
    house: &Arc<House>,
    connection: ConnectionId,
    row: &Worker,
    outgoing: &Outgoing,
    attempts: &Arc<Attempts>,
) -> Entry {
    let connected = Connected {
        worker: row.name.clone(),
        pool: row.pool.clone(),
        outgoing: outgoing.clone(),
        attempts: attempts.clone(),
    };
    house.connections().insert(connection, connected);
    Entry { house: house.clone(), connection }
}

struct Entry {
    house: Arc<House>,
    connection: ConnectionId,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.house.connections().remove(&self.connection);
    }
}
