//! Which attempts a connection may write about: the one its worker is at, and no other's.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;

use tokio::sync::watch;

use crate::model::attempt::AttemptRef;

/// Steps of an attempt whose number we do not know (the master started anew since), at most:
/// each can make a file.
const STEPS_MAX: usize = 1000;

/// The attempts of one connection's worker.
///
/// At its begin that is the one in the worker's row, so that an agent that reconnects may go on at
/// once, before the domain has answered its Inventory. Later it is what the domain told it.
#[derive(Debug)]
pub(crate) struct Attempts {
    present: Mutex<Present>,
    busy: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct Present {
    /// The attempts and the number of their last step.
    attempts: HashMap<AttemptRef, usize>,
    /// The last one that was turned away: one answer is enough for all its chunks on their way.
    turned_away: Option<AttemptRef>,
}

/// Whether a step's log may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// It may.
    Write,
    /// It may not; tell the agent to forget the attempt, unless it was just told.
    Refused {
        /// Whether to tell it.
        tell: bool,
    },
    /// The attempt has no such step.
    NoSuchStep,
}

impl Attempts {
    /// Nothing is present: what a connection begins with.
    pub(crate) fn none() -> Attempts {
        Attempts { present: Mutex::default(), busy: watch::Sender::new(false) }
    }

    /// The attempt was given to this worker on this connection.
    pub(crate) fn given(&self, attempt: AttemptRef, steps: usize) {
        self.change(|present| {
            if present.turned_away == Some(attempt) {
                present.turned_away = None;
            }
            present.attempts.insert(attempt, steps);
        });
    }

    /// The master still waits for the attempt's end, whoever gave it out.
    pub(crate) fn still_wanted(&self, attempt: AttemptRef) {
        self.change(|present| {
            present.attempts.entry(attempt).or_insert(STEPS_MAX);
        });
    }

    /// The attempt is over.
    pub(crate) fn forgotten(&self, attempt: AttemptRef) {
        self.change(|present| {
            present.attempts.remove(&attempt);
        });
    }

    /// Whether this is an attempt of this connection's worker, with its present fence.
    pub(crate) fn is_present(&self, attempt: AttemptRef) -> bool {
        self.lock().attempts.contains_key(&attempt)
    }

    /// Whether the agent may write to the log of this step.
    pub(crate) fn right(&self, attempt: AttemptRef, step: u32) -> Right {
        let mut present = self.lock();
        match present.attempts.get(&attempt) {
            Some(steps) if step as usize <= *steps => Right::Write,
            Some(_) => Right::NoSuchStep,
            None => {
                let tell = present.turned_away != Some(attempt);
                present.turned_away = Some(attempt);
                Right::Refused { tell }
            }
        }
    }

    /// Whether an attempt is present, and when that changes.
    pub(crate) fn busy(&self) -> watch::Receiver<bool> {
        self.busy.subscribe()
    }

    fn change(&self, change: impl FnOnce(&mut Present)) {
        let mut present = self.lock();
        change(&mut present);
        let busy = !present.attempts.is_empty();
        self.busy.send_if_modified(|was| std::mem::replace(was, busy) != busy);
    }

    fn lock(&self) -> MutexGuard<'_, Present> {
        self.present.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ids::AttemptId;
    use crate::model::ids::Fence;

    fn attempt(fence: u64) -> AttemptRef {
        AttemptRef { attempt: AttemptId(7), fence: Fence(fence) }
    }

    #[test]
    fn an_older_fence_may_write_nothing_and_is_told_so_once() {
        let attempts = Attempts::none();
        attempts.given(attempt(2), 1);
        assert_eq!(attempts.right(attempt(2), 1), Right::Write);
        assert_eq!(attempts.right(attempt(2), 2), Right::NoSuchStep);
        assert_eq!(attempts.right(attempt(1), 0), Right::Refused { tell: true });
        assert_eq!(attempts.right(attempt(1), 0), Right::Refused { tell: false });
        attempts.given(attempt(1), 1);
        attempts.forgotten(attempt(1));
        assert_eq!(attempts.right(attempt(1), 0), Right::Refused { tell: true });
    }

    #[test]
    fn a_connection_is_busy_while_an_attempt_is_present() {
        let attempts = Attempts::none();
        let busy = attempts.busy();
        attempts.still_wanted(attempt(1));
        assert!(*busy.borrow());
        attempts.forgotten(attempt(1));
        assert!(!*busy.borrow());
    }
}
