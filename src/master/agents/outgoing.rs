//! What goes out on one connection: one task writes, and messages overtake acks of logs.
//!
//! Saying something never waits. Messages have a queue, and an agent that lets it fill up loses
//! its connection; of acks only the newest of each log counts, so they need none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::AsyncWrite;
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;
use tokio::sync::mpsc;
use tokio::sync::watch;

use crate::model::attempt::AttemptRef;
use crate::model::attempt::LogOwner;
use crate::wire::convert;
use crate::wire::message::FromMaster;

/// Messages that wait to be written, at most: far more than are ever due at once.
const MESSAGES_MAX: usize = 256;

/// Bytes gathered into one write, at least as long as more is waiting.
const BATCH_BYTES: usize = 64 * 1024;

/// How long one write may take: an agent that takes nothing for so long does not listen.
const WRITE_DEADLINE: Duration = Duration::from_secs(30);

/// A way to say something on one connection. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    messages: mpsc::Sender<FromMaster>,
    acks: Arc<Acks>,
    cut: watch::Sender<bool>,
}

/// The writing end, for [`write_all`].
#[derive(Debug)]
pub(crate) struct Queue {
    messages: mpsc::Receiver<FromMaster>,
    acks: Arc<Acks>,
}

#[derive(Debug, Default)]
struct Acks {
    waiting: Mutex<BTreeMap<LogOwner, Ack>>,
    some: Notify,
}

/// What is to be told of one log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ack {
    durable: u64,
    rewind_to: Option<u64>,
}

/// Why nothing more is written.
#[derive(Debug)]
pub(crate) enum Ended {
    /// A farewell was the last word.
    Farewell,
    /// The agent is gone, or does not listen.
    Gone,
}

impl Outgoing {
    pub(crate) fn new() -> (Outgoing, Queue) {
        let (messages, receiver) = mpsc::channel(MESSAGES_MAX);
        let acks = Arc::new(Acks::default());
        let outgoing = Outgoing { messages, acks: acks.clone(), cut: watch::Sender::new(false) };
        (outgoing, Queue { messages: receiver, acks })
    }

    /// Says it, before anything that is told of logs.
    pub(crate) fn say(&self, message: FromMaster) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.messages.try_send(message) {
            tracing::warn!("cut an agent off: {MESSAGES_MAX} messages wait for it");
            self.cut();
        }
    }

    /// Tells how much of a log is durable here.
    pub(crate) fn ack(&self, owner: LogOwner, durable: u64) {
        let mut waiting = self.acks.lock();
        let ack = waiting.entry(owner).or_default();
        ack.durable = ack.durable.max(durable);
        drop(waiting);
        self.acks.some.notify_one();
    }

    /// Tells from where a log is to be sent.
    pub(crate) fn rewind(&self, owner: LogOwner, to: u64) {
        self.acks.lock().entry(owner).or_default().rewind_to = Some(to);
        self.acks.some.notify_one();
    }

    /// Ends the connection without a word.
    pub(crate) fn cut(&self) {
        self.cut.send_replace(true);
    }

    /// Comes true when the connection is to end without a word.
    pub(crate) async fn is_cut(&self) {
        let mut cut = self.cut.subscribe();
        let _never_dropped = cut.wait_for(|cut| *cut).await;
    }
}

impl Acks {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<LogOwner, Ack>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> BTreeMap<LogOwner, Ack> {
        std::mem::take(&mut *self.lock())
    }
}

/// Writes what is said until a farewell, or until nobody takes it. An attempt that is too long for
/// a frame is given to `unsendable`.
pub(crate) async fn write_all<W: AsyncWrite + Unpin>(
    mut stream: W,
    mut queue: Queue,
    mut unsendable: impl FnMut(AttemptRef, String),
) -> Ended {
    loop {
        let mut first = tokio::select! {
            biased;
            message = queue.messages.recv() => match message {
                Some(message) => Some(message),
                None => return Ended::Gone,
            },
            () = queue.acks.some.notified() => None,
        };
        let mut batch = BytesMut::new();
        let mut last_word = false;
        while batch.len() < BATCH_BYTES && !last_word {
            let Some(message) = first.take().or_else(|| queue.messages.try_recv().ok()) else {
                break;
            };
            last_word = matches!(message, FromMaster::Goodbye { .. });
            append(message, &mut batch, &mut unsendable);
        }
        if !last_word {
            for (owner, Ack { durable, rewind_to }) in queue.acks.take() {
                let ack = FromMaster::LogAck { owner, durable_offset: durable, rewind_to };
                append(ack, &mut batch, &mut unsendable);
            }
        }
        let written = async {
            stream.write_all(&batch).await?;
            stream.flush().await?;
            if last_word { stream.shutdown().await } else { Ok(()) }
        };
        match tokio::time::timeout(WRITE_DEADLINE, written).await {
            Ok(Ok(())) if last_word => return Ended::Farewell,
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Ended::Gone,
        }
    }
}

fn append(
    message: FromMaster,
    batch: &mut BytesMut,
    unsendable: &mut impl FnMut(AttemptRef, String),
) {
    let attempt = match &message {
        FromMaster::RunAttempt(spec) => Some(spec.id),
        _ => None,
    };
    if let Err(error) = convert::append_from_master(message, batch) {
        tracing::error!("cannot tell an agent: {error}");
        if let Some(attempt) = attempt {
            unsendable(attempt, format!("the job cannot be sent to a worker: {error}"));
        }
    }
}
