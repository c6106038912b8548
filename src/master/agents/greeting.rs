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
use crate::master::agents::rules;
use crate::master::agents::rules::greeting::Farewell;
use crate::master::agents::rules::greeting::MasterKeys;
use crate::master::agents::rules::greeting::Proven;
use crate::master::agents::rules::greeting::told;
use crate::master::agents::rules::greeting::welcomed;
use crate::master::domain::decision::Welcome;
use crate::master::domain::entities::Worker;
use crate::master::domain::event::AgentEvent;
use crate::master::domain::event::Event;
use crate::master::inbox::Greeting;
use crate::model::ids::ConnectionId;
use crate::model::ids::WorkerName;
use crate::runtime::clock;
use crate::wire::convert;
use crate::wire::master_end::Heard;
use crate::wire::master_end::MasterEnd;
use crate::wire::message::FromMaster;
use crate::wire::message::Hello;
use crate::wire::session;

/// What a caller is told while the store cannot be read.
const NOT_NOW: &str = "the master cannot read its store just now";

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
    let mut end = MasterEnd::new(clock::monotonic());
    let hello = tokio::time::timeout(session::HELLO_DEADLINE, read_hello(&mut stream, &mut end));
    let Ok(Ok(hello)) = hello.await else {
        // Late, too long, or no greeting: closed without a word.
        house.broken_greetings.fetch_add(1, Ordering::Relaxed);
        tracing::debug!("{peer} connected as an agent and did not greet");
        return;
    };
    let (row, proven) = match judge(house, &hello, &exporter).await {
        Ok(judged) => judged,
        Err(farewell) => {
            tracing::info!(%peer, "refused an agent from {peer}: {}", farewell.sentence);
            say(&mut stream, farewell.into_message()).await;
            return;
        }
    };
    drop(admission);
    introduce(house, stream, end, hello, row, proven, connection).await;
}

/// The first message, which must be a greeting and come alone.
async fn read_hello<S>(stream: &mut S, end: &mut MasterEnd) -> anyhow::Result<Hello>
where
    S: AsyncRead + Unpin,
{
    loop {
        match end.next(clock::monotonic())? {
            Some(Heard::Hello(hello)) => return Ok(*hello),
            Some(Heard::Message(_)) => anyhow::bail!("another message instead of a greeting"),
            None => {}
        }
        anyhow::ensure!(stream.read_buf(end.room()).await? > 0, "the connection ended");
    }
}

/// Whether a greeting proves who it comes from.
async fn judge(
    house: &House,
    hello: &Hello,
    exporter: &[u8; 32],
) -> Result<(Worker, Proven), Farewell> {
    let row = (house.wiring.worker)(WorkerName(hello.worker.clone())).await.map_err(|error| {
        tracing::error!("cannot look a worker up: {error:#}");
        Farewell::retry(NOT_NOW)
    })?;
    let proven = rules::greeting::judge(house.keys(), hello, exporter, row.as_ref())?;
    Ok((row.expect("nobody proves to be who is not there"), proven))
}

/// Asks the domain, and serves if it says welcome.
async fn introduce<S>(
    house: &Arc<House>,
    mut stream: S,
    end: MasterEnd,
    hello: Hello,
    row: Worker,
    proven: Proven,
    connection: ConnectionId,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let worker = row.name.clone();
    let (outgoing, queue) = Outgoing::new();
    let attempts = Arc::new(Attempts::none());
    // Before the domain hears of it: what it wants told at once must find its way. What is said
    // now is written after the Welcome.
    let _entry = enter(house, connection, &row, &outgoing, &attempts);
    let line = Line { worker: worker.clone(), connection, outgoing, attempts };
    let greeting = Greeting { worker: worker.clone(), connection, hello: told(hello) };
    match welcomed(house.wiring.inbox.greet(greeting).await) {
        Ok(welcome) => {
            let ended = converse(house, &line, stream, end, queue, proven, welcome).await;
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
    mut end: MasterEnd,
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
    let welcome = proven.welcome(house.keys(), &welcome, clock::now());
    if !say(&mut stream, welcome).await {
        return anyhow::anyhow!("it did not wait for its welcome");
    }
    end.welcome(clock::monotonic(), *line.attempts.busy().borrow());
    tracing::info!(worker.id = %line.worker, "worker {} connected", line.worker);
    let (reader, writer) = tokio::io::split(stream);
    let unsendable = connection::reject_unsendable(house, line);
    tokio::select! {
        ended = connection::listen(house, line, reader, end) => ended,
        () = line.outgoing.is_cut() => anyhow::anyhow!("cut off"),
        ended = outgoing::write_all(writer, queue, unsendable) => match ended {
            outgoing::Ended::Farewell => anyhow::anyhow!("told so"),
            outgoing::Ended::Gone => anyhow::anyhow!("it takes nothing any more"),
        },
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

impl House {
    fn keys(&self) -> MasterKeys<'_> {
        MasterKeys { passwords: self.wiring.keys.master.reveal(), channel: &self.key }
    }
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
