//! Every timer of the domain is one key here; each variant says when it fires.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::model::ids::AttemptId;
use crate::model::ids::ChangeId;
use crate::model::ids::InstanceId;
use crate::model::ids::PoolName;
use crate::model::ids::WorkerName;
use crate::model::time::Timestamp;

/// What a timer is for. Setting one again replaces it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A worker that is not ready by now never will be.
    Boot(WorkerName),
    /// A worker's life is over, whatever it does.
    Lifetime(WorkerName),
    /// The next of a pool's idle workers has been so for long enough.
    Idle(PoolName),
    /// A connected worker may have been silent for too long.
    Silence(WorkerName),
    /// A worker without a connection has been away for too long.
    Lost(WorkerName),
    /// The lease of a lost worker's attempt is over: nothing runs there any more.
    LeaseOver(WorkerName),
    /// The agent should have ended an attempt by itself by now.
    Overdue(AttemptId),
    /// A launch of unknown outcome is made again.
    Settle(InstanceId),
    /// What belongs to a machine is asked for again.
    Equip(InstanceId),
    /// A machine that was told to end is asked to again.
    Terminate(InstanceId),
    /// The cloud takes a worker's machine away in a moment: what it has to tell must be told now.
    Taken(WorkerName),
    /// A machine that was told to stop is asked to again.
    Stop(InstanceId),
    /// A stopped machine is too old to be kept.
    StoppedTooLong(InstanceId),
    /// It is time to ask what exists.
    Listing(PoolName),
    /// A pool may launch again after a failure.
    Launch(PoolName),
    /// It is time to ask whether a pool that was refused may launch again.
    Probe(PoolName),
    /// What a pool's waiting jobs are told may be told anew.
    Tell(PoolName),
    /// A budget may be spent by now, or a new day has begun.
    Budget,
    /// A pool should start a machine for a job that will wait.
    LookAhead(PoolName),
    /// A change is worth another look.
    Change(ChangeId),
}

/// The timers that are set.
#[derive(Debug, Default)]
pub(super) struct Timers {
    due: BTreeSet<(Timestamp, Timer)>,
    at: BTreeMap<Timer, Timestamp>,
}

impl Timers {
    pub(super) fn set(&mut self, timer: Timer, at: Timestamp) {
        self.clear(&timer);
        self.at.insert(timer.clone(), at);
        self.due.insert((at, timer));
    }

    pub(super) fn clear(&mut self, timer: &Timer) {
        if let Some(at) = self.at.remove(timer) {
            self.due.remove(&(at, timer.clone()));
        }
    }

    /// Makes it fire no later than this.
    pub(super) fn bring_forward(&mut self, timer: Timer, at: Timestamp) {
        if self.at.get(&timer).is_none_or(|planned| *planned > at) {
            self.set(timer, at);
        }
    }

    pub(super) fn is_set(&self, timer: &Timer) -> bool {
        self.at.contains_key(timer)
    }

    /// When it fires.
    pub(super) fn due_at(&self, timer: &Timer) -> Option<Timestamp> {
        self.at.get(timer).copied()
    }

    pub(super) fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes the earliest timer that is due.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<Timer> {
        let (at, timer) = self.due.first()?.clone();
        (at <= now).then(|| {
            self.clear(&timer);
            timer
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timer_that_is_set_again_fires_once_at_its_new_time() {
        let timer = || Timer::Change(ChangeId(1));
        let mut timers = Timers::default();
        timers.set(timer(), Timestamp(5));
        timers.set(timer(), Timestamp(9));
        assert_eq!(timers.next(), Some(Timestamp(9)));
        assert_eq!(timers.take_due(Timestamp(8)), None);
        assert_eq!(timers.take_due(Timestamp(9)), Some(timer()));
        assert_eq!(timers.next(), None);
    }
}
