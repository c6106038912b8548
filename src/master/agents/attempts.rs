//! The rights of one connection, shared between those who speak on it, listen to it and write its logs.

use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use tokio::sync::watch;

use crate::master::agents::rules::intake;
use crate::master::agents::rules::intake::Verdict;
use crate::master::agents::rules::rights::Rights;
use crate::model::attempt::AttemptRef;
use crate::model::attempt::LogChunk;

/// The attempts of one connection's worker.
#[derive(Debug)]
pub(crate) struct Attempts {
    rights: Mutex<Rights>,
    busy: watch::Sender<bool>,
}

impl Attempts {
    /// Nothing is present: what a connection begins with.
    pub(crate) fn none() -> Attempts {
        Attempts { rights: Mutex::default(), busy: watch::Sender::new(false) }
    }

    /// The attempt was given to this worker on this connection.
    pub(crate) fn given(&self, attempt: AttemptRef, steps: usize) {
        self.change(|rights| rights.given(attempt, steps));
    }

    /// The master still waits for the attempt's end, whoever gave it out.
    pub(crate) fn still_wanted(&self, attempt: AttemptRef) {
        self.change(|rights| rights.still_wanted(attempt));
    }

    /// The attempt is over.
    pub(crate) fn forgotten(&self, attempt: AttemptRef) {
        self.change(|rights| rights.forgotten(attempt));
    }

    /// Whether this is an attempt of this connection's worker, with its present fence.
    pub(crate) fn is_present(&self, attempt: AttemptRef) -> bool {
        self.lock().is_present(attempt)
    }

    /// What to do with a log chunk.
    pub(crate) fn judge(&self, chunk: &LogChunk) -> Verdict {
        intake::judge(&mut self.lock(), chunk)
    }

    /// Whether an attempt is present, and when that changes.
    pub(crate) fn busy(&self) -> watch::Receiver<bool> {
        self.busy.subscribe()
    }

    fn change(&self, change: impl FnOnce(&mut Rights)) {
        let mut rights = self.lock();
        change(&mut rights);
        let busy = rights.is_busy();
        self.busy.send_if_modified(|was| std::mem::replace(was, busy) != busy);
    }

    fn lock(&self) -> MutexGuard<'_, Rights> {
        self.rights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
