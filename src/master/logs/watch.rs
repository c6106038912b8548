//! How far a log goes, for whoever waits for more.

use std::sync::Arc;

use tokio::sync::watch;

use crate::master::logs::log::Log;

/// An end of a log, in raw bytes, that moves while the log grows.
///
/// It can move back: when the disk fails, a log is cut to what is durable, and what viewers have
/// seen beyond that comes again, the same.
#[derive(Debug)]
pub struct LogWatch {
    receiver: watch::Receiver<u64>,
    falls: watch::Receiver<u64>,
    /// Keeps the one `Log` of the file in use, so that there is no other to be told of.
    _log: Arc<Log>,
}

impl LogWatch {
    pub(super) fn new(log: Arc<Log>, receiver: watch::Receiver<u64>) -> LogWatch {
        LogWatch { receiver, falls: log.watch_falls(), _log: log }
    }

    /// Where the end is now.
    pub fn current(&self) -> u64 {
        *self.receiver.borrow()
    }

    /// Ends when the log has been cut back to what is durable: what was written behind that must be sent
    /// again, and nothing else says so where no more of it comes.
    pub async fn fell_back(&mut self) {
        // The sender lives as long as the log, which this holds.
        let _never_closed = self.falls.changed().await;
    }

    /// Waits until the end is another than the one this has told of last, and tells of it.
    /// Dropping the future loses nothing.
    pub async fn changed(&mut self) -> u64 {
        // The sender lives as long as the log, which this holds.
        let _never_closed = self.receiver.changed().await;
        *self.receiver.borrow_and_update()
    }
}
