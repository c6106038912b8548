//! What bounds a command, and why it must end.

use std::time::Duration;

use crate::model::step::StepOutcome;

/// When a command must be over at the latest; a monotonic clock's readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// The step.
    pub step_ends: Option<Duration>,
    /// The whole attempt.
    pub attempt_ends: Duration,
    /// Whether a cancel ends it; steps that run after a cancel are not ended by the same one.
    pub heeds_cancel: bool,
}

/// What may end a command beside its own end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its output could not be kept.
    pub disk_failed: bool,
    /// Its attempt was cancelled.
    pub cancelled: bool,
    /// Until when the attempt may go on without word from the master; nothing: no lease was ever given.
    pub lease: Option<Duration>,
}

/// Why a command is being ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The step ran out of time.
    Step,
    /// The attempt ran out of time.
    Attempt,
    /// The attempt was cancelled.
    Cancel,
    /// The lease is over: the master may have given the job to another worker.
    Lease,
    /// The disk takes no more output.
    Disk,
}

impl Bounds {
    /// Whether a command must end now, and why.
    pub fn must_end(&self, now: Duration, seen: Seen) -> Option<Ending> {
        if seen.disk_failed {
            return Some(Ending::Disk);
        }
        if self.heeds_cancel && seen.cancelled {
            return Some(Ending::Cancel);
        }
        if seen.lease.is_some_and(|lease| lease <= now) {
            return Some(Ending::Lease);
        }
        if self.attempt_ends <= now {
            return Some(Ending::Attempt);
        }
        self.step_ends.is_some_and(|end| end <= now).then_some(Ending::Step)
    }

    /// When time alone ends it, if nothing changes.
    pub fn next_timeout(&self, seen: Seen) -> Duration {
        let ends = [self.step_ends, seen.lease].into_iter().flatten();
        ends.fold(self.attempt_ends, Duration::min)
    }
}

impl Ending {
    /// What a command has come to that was ended so.
    pub fn outcome(self, disk_failure: &str) -> StepOutcome {
        match self {
            Ending::Step | Ending::Attempt => StepOutcome::TimedOut,
            Ending::Cancel => StepOutcome::Cancelled,
            Ending::Lease => StepOutcome::Infra("the master was not heard of for too long".into()),
            Ending::Disk => StepOutcome::Infra(format!(
                "cannot write the step's log on the worker: {disk_failure}"
            )),
        }
    }

    /// Why, for the log.
    pub fn sentence(self) -> &'static str {
        match self {
            Ending::Step => "the step ran out of time",
            Ending::Attempt => "the job ran out of time",
            Ending::Cancel => "the job was cancelled",
            Ending::Lease => "the master was not heard of for too long",
            Ending::Disk => "the worker's disk takes no more",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const BOUNDS: Bounds = Bounds {
        step_ends: Some(Duration::from_secs(10)),
        attempt_ends: Duration::from_secs(20),
        heeds_cancel: true,
    };

    #[test]
    fn a_command_ends_by_what_comes_first() {
        let leased = Seen { lease: Some(s(15)), ..Seen::default() };
        assert_eq!(BOUNDS.must_end(s(9), leased), None);
        assert_eq!(BOUNDS.next_timeout(leased), s(10));
        assert_eq!(BOUNDS.must_end(s(10), leased), Some(Ending::Step));
        let endless = Bounds { step_ends: None, ..BOUNDS };
        assert_eq!(endless.must_end(s(14), leased), None);
        assert_eq!(endless.must_end(s(15), leased), Some(Ending::Lease), "to the moment");
        assert_eq!(endless.must_end(s(20), Seen::default()), Some(Ending::Attempt));
    }

    #[test]
    fn a_step_that_runs_after_a_cancel_is_not_ended_by_it() {
        let cancelled = Seen { cancelled: true, ..Seen::default() };
        assert_eq!(BOUNDS.must_end(s(1), cancelled), Some(Ending::Cancel));
        let after = Bounds { heeds_cancel: false, ..BOUNDS };
        assert_eq!(after.must_end(s(1), cancelled), None);
    }
}
