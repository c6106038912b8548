//! A response's body that a task writes bit by bit: logs and event streams.

use std::future::Future;
use std::pin::Pin;
use std::task::Context;
use std::task::Poll;

use axum::body::Body;
use bytes::Bytes;
use hyper::body::Frame;
use tokio::sync::mpsc;

/// Pieces that wait for a slow reader, at most. The task then waits too: nothing is dropped and
/// nothing piles up.
const PIECES_WAITING_MAX: usize = 4;

/// The writing end. When the reader goes away, `send` says so and `closed` ends.
#[derive(Debug)]
pub struct Writer {
    pieces: mpsc::Sender<Bytes>,
}

/// The reader has gone away: there is nobody to write for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReaderGone;

impl Writer {
    /// Hands a piece over; waits while the reader is behind.
    ///
    /// # Errors
    /// The reader is gone: end.
    pub async fn send(&self, piece: impl Into<Bytes>) -> Result<(), ReaderGone> {
        self.pieces.send(piece.into()).await.map_err(|_| ReaderGone)
    }

    /// Ends when the reader has gone away.
    pub async fn closed(&self) {
        self.pieces.closed().await;
    }
}

/// A body that `task` writes. The body ends when the task does; the task is dropped when the
/// reader has gone.
pub fn written_by<F, T>(task: F) -> Body
where
    F: FnOnce(std::sync::Arc<Writer>) -> T,
    T: Future<Output = ()> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(PIECES_WAITING_MAX);
    let writer = std::sync::Arc::new(Writer { pieces: sender });
    let writing = task(std::sync::Arc::clone(&writer));
    tokio::spawn(async move {
        tokio::select! {
            () = writing => {}
            () = writer.closed() => {}
        }
    });
    Body::new(Written { receiver })
}

struct Written {
    receiver: mpsc::Receiver<Bytes>,
}

impl hyper::body::Body for Written {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.receiver.poll_recv(context).map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}
