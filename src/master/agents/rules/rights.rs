//! Which attempts a connection may write about: the one its worker is at, and no other's.

use std::collections::BTreeMap;

use crate::model::attempt::AttemptRef;

/// Steps of an attempt whose number we do not know (the master started anew since), at most:
/// each can make a file.
const STEPS_MAX: usize = 1000;

/// The attempts of one connection's worker.
///
/// At its begin that is the one in the worker's row, so that an agent that reconnects may go on at
/// once, before the domain has answered its Inventory. Later it is what the domain told it.
#[derive(Debug, Default)]
pub struct Rights {
    /// The attempts and the number of their last step.
    present: BTreeMap<AttemptRef, usize>,
    /// The last one that was turned away: one answer is enough for all its chunks on their way.
    turned_away: Option<AttemptRef>,
}

/// Whether a step's log may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
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

impl Rights {
    /// The attempt was given to this worker on this connection.
    pub fn given(&mut self, attempt: AttemptRef, steps: usize) {
        if self.turned_away == Some(attempt) {
            self.turned_away = None;
        }
        self.present.insert(attempt, steps);
    }

    /// The master still waits for the attempt's end, whoever gave it out.
    pub fn still_wanted(&mut self, attempt: AttemptRef) {
        self.present.entry(attempt).or_insert(STEPS_MAX);
    }

    /// The attempt is over.
    pub fn forgotten(&mut self, attempt: AttemptRef) {
        self.present.remove(&attempt);
    }

    /// Whether this is an attempt of this connection's worker, with its present fence.
    pub fn is_present(&self, attempt: AttemptRef) -> bool {
        self.present.contains_key(&attempt)
    }

    /// Whether an attempt is present.
    pub fn is_busy(&self) -> bool {
        !self.present.is_empty()
    }

    /// Whether the agent may write to the log of this step.
    pub fn right(&mut self, attempt: AttemptRef, step: u32) -> Right {
        match self.present.get(&attempt) {
            Some(steps) if step as usize <= *steps => Right::Write,
            Some(_) => Right::NoSuchStep,
            None => {
                let tell = self.turned_away != Some(attempt);
                self.turned_away = Some(attempt);
                Right::Refused { tell }
            }
        }
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
        let mut rights = Rights::default();
        rights.given(attempt(2), 1);
        assert_eq!(rights.right(attempt(2), 1), Right::Write);
        assert_eq!(rights.right(attempt(2), 2), Right::NoSuchStep);
        assert_eq!(rights.right(attempt(1), 0), Right::Refused { tell: true });
        assert_eq!(rights.right(attempt(1), 0), Right::Refused { tell: false });
        rights.given(attempt(1), 1);
        rights.forgotten(attempt(1));
        assert_eq!(rights.right(attempt(1), 0), Right::Refused { tell: true });
    }

    #[test]
    fn a_connection_is_busy_while_an_attempt_is_present() {
        let mut rights = Rights::default();
        rights.still_wanted(attempt(1));
        assert!(rights.is_busy());
        rights.forgotten(attempt(1));
        assert!(!rights.is_busy());
    }
}
