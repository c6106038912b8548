//! Whether the time of day has stepped. Leases, graces and timeouts are counted with it, and none of them
//! may be over, or never be over, because somebody has set the clock.

use std::time::Duration;

use crate::model::time::Timestamp;

/// The time of day and a monotonic clock may disagree by this between two readings: time servers move a
/// clock by half a millisecond in a second, and a reading of both takes none.
const STEP_MIN: Duration = Duration::from_secs(10);

/// The last reading of both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepsOfClock {
    now: Timestamp,
    monotonic: Duration,
}

impl StepsOfClock {
    /// A first reading.
    pub fn new(now: Timestamp, monotonic: Duration) -> StepsOfClock {
        StepsOfClock { now, monotonic }
    }

    /// Another one: whether the time of day has stepped since the last, to either side. A machine that
    /// slept looks the same: its monotonic clock did not count that.
    pub fn has_stepped(&mut self, now: Timestamp, monotonic: Duration) -> bool {
        let expected = self.now + monotonic.saturating_sub(self.monotonic);
        *self = StepsOfClock { now, monotonic };
        now.since(expected).max(expected.since(now)) > STEP_MIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_has_stepped_once_and_one_that_is_slewed_has_not() {
        let s = Duration::from_secs;
        let start = Timestamp(1_000_000_000);
        let mut clock = StepsOfClock::new(start, s(50));
        assert!(!clock.has_stepped(start + s(3600), s(50 + 3590)));
        assert!(clock.has_stepped(start + s(7300), s(50 + 3650)), "forward");
        assert!(!clock.has_stepped(start + s(7310), s(50 + 3660)));
        assert!(clock.has_stepped(start + s(7000), s(50 + 3670)), "and back");
    }
}
