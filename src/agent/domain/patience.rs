//! How long the agent keeps its machine without a word from a master: one of the machine's three killers,
//! beside the master itself and the timer, neither of which it needs. Times are a monotonic clock's.

use std::time::Duration;

/// A worker without a job outlives its master's silence by this.
pub const IDLE_FOR: Duration = Duration::from_secs(15 * 60);

/// With a job it outlives the lease by this: its result may still be told.
pub const BEYOND_LEASE: Duration = Duration::from_secs(5 * 60);

/// Until when the agent waits for its master.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    until: Duration,
}

impl Patience {
    /// Of an agent that has just begun.
    pub fn new(now: Duration) -> Patience {
        Patience { until: now + IDLE_FOR }
    }

    /// The master has said something.
    pub fn heard(&mut self, now: Duration) {
        self.until = self.until.max(now + IDLE_FOR);
    }

    /// A job was given, with this lease.
    pub fn given(&mut self, now: Duration, lease: Duration) {
        self.until = self.until.max(now + lease + BEYOND_LEASE);
    }

    /// The master has answered a heartbeat; `lease` is that of a job that runs. For how long the machine
    /// may run from now on.
    pub fn renewed(&mut self, now: Duration, lease: Option<Duration>) -> Duration {
        let allowed = lease.map_or(IDLE_FOR, |lease| lease + BEYOND_LEASE);
        self.until = now + allowed;
        allowed
    }

    /// When it is over.
    pub fn until(&self) -> Duration {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn without_a_master_it_lasts_a_quarter_of_an_hour() {
        let mut patience = Patience::new(7 * MINUTE);
        assert_eq!(patience.until(), 22 * MINUTE);
        patience.heard(8 * MINUTE);
        assert_eq!(patience.until(), 23 * MINUTE);
    }

    #[test]
    fn a_job_makes_it_last_for_its_lease_and_a_little_and_idleness_less_again() {
        let lease = 30 * MINUTE;
        let mut patience = Patience::new(Duration::ZERO);
        patience.given(MINUTE, lease);
        assert_eq!(patience.until(), 36 * MINUTE);
        assert_eq!(patience.renewed(2 * MINUTE, Some(lease)), 35 * MINUTE);
        patience.heard(3 * MINUTE);
        assert_eq!(patience.until(), 37 * MINUTE, "a mere word takes nothing back");
        assert_eq!(patience.renewed(4 * MINUTE, None), 15 * MINUTE);
        assert_eq!(patience.until(), 19 * MINUTE);
    }
}
