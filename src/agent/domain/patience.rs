//! How long the agent keeps its machine without a word from a master: one of the machine's three killers,
//! beside the master itself and the timer, neither of which it needs. Pure: the caller brings the time.

use std::time::Duration;

use crate::model::time::Timestamp;

/// A worker without a job outlives its master's silence by this.
pub const IDLE_FOR: Duration = Duration::from_secs(15 * 60);

/// With a job it outlives the lease by this: its result may still be told.
pub const BEYOND_LEASE: Duration = Duration::from_secs(5 * 60);

/// Until when the agent waits for its master. Moments are of a clock that does not step, but for the
/// end of the machine's life.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    until: Duration,
    life_ends: Option<Timestamp>,
}

impl Patience {
    /// Of an agent that has just begun. `life_ends`: when the machine must end whatever happens.
    pub fn new(now: Duration, life_ends: Option<Timestamp>) -> Patience {
        Patience { until: now + IDLE_FOR, life_ends }
    }

    /// The master has said something.
    pub fn heard(&mut self, now: Duration) {
        self.until = self.until.max(now + IDLE_FOR);
    }

    /// The master has answered a heartbeat; `lease` is that of a job that runs. For how long the machine
    /// may run from now on.
    pub fn renewed(&mut self, now: Duration, lease: Option<Duration>) -> Duration {
        let allowed = lease.map_or(IDLE_FOR, |lease| lease + BEYOND_LEASE);
        self.until = now + allowed;
        allowed
    }

    /// How long it still lasts.
    pub fn left(&self, now: Duration) -> Duration {
        self.until.saturating_sub(now)
    }

    /// How long the machine's life still lasts; nothing: nobody has limited it.
    pub fn life_left(&self, now: Timestamp) -> Option<Duration> {
        self.life_ends.map(|ends| ends.since(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn without_a_master_it_lasts_a_quarter_of_an_hour() {
        let start = 7 * MINUTE;
        let patience = Patience::new(start, None);
        assert_eq!(patience.left(start), 15 * MINUTE);
        assert_eq!(patience.left(start + 15 * MINUTE), Duration::ZERO);
        assert_eq!(patience.left(start + 99 * MINUTE), Duration::ZERO);
    }

    #[test]
    fn a_job_makes_it_last_for_its_lease_and_a_little_and_idleness_less_again() {
        let lease = 30 * MINUTE;
        let mut patience = Patience::new(Duration::ZERO, None);
        assert_eq!(patience.renewed(MINUTE, Some(lease)), 35 * MINUTE);
        patience.heard(2 * MINUTE);
        assert_eq!(patience.left(2 * MINUTE), 34 * MINUTE, "a mere word takes nothing back");
        assert_eq!(patience.renewed(3 * MINUTE, None), 15 * MINUTE);
        assert_eq!(patience.left(3 * MINUTE), 15 * MINUTE);
    }

    #[test]
    fn nothing_extends_a_life() {
        let mut patience = Patience::new(Duration::ZERO, Some(Timestamp(90_000)));
        patience.renewed(MINUTE, Some(30 * MINUTE));
        assert_eq!(patience.life_left(Timestamp(60_000)), Some(Duration::from_secs(30)));
        assert_eq!(patience.life_left(Timestamp(90_001)), Some(Duration::ZERO));
        assert_eq!(Patience::new(MINUTE, None).life_left(Timestamp(u64::MAX)), None);
    }
}
