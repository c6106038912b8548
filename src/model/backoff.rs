//! Delays between tries: doubling, capped, with jitter from a random number that the caller brings.

use std::time::Duration;

/// Exponential delays with full jitter, between `first` and `cap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    cap: Duration,
}

impl Backoff {
    /// Refuses a first delay of zero (a busy loop) and a cap below it.
    pub const fn new(first: Duration, cap: Duration) -> Option<Backoff> {
        if first.is_zero() || cap.as_nanos() < first.as_nanos() {
            return None;
        }
        Some(Backoff { first, cap })
    }

    /// The delay before try number `tries` (from 0): half of it fixed, half drawn by `random`.
    pub fn delay(&self, tries: u32, random: u64) -> Duration {
        let whole = self.first.saturating_mul(1 << tries.min(20)).min(self.cap);
        let half_ms = u64::try_from(whole.as_millis() / 2).unwrap_or(u64::MAX);
        whole / 2 + Duration::from_millis(random % half_ms.saturating_add(1))
    }

    /// The same, all of it drawn: for many that were told to slow down at the same moment.
    pub fn full_jitter(&self, tries: u32, random: u64) -> Duration {
        let whole = self.first.saturating_mul(1 << tries.min(20)).min(self.cap);
        let whole_ms = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(random % whole_ms.saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_cap_and_never_pass_it() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(30)).unwrap();
        assert_eq!(backoff.delay(0, 0), Duration::from_millis(500));
        assert_eq!(backoff.delay(3, 0), Duration::from_secs(4));
        assert_eq!(backoff.full_jitter(3, 8000), Duration::from_secs(8));
        assert_eq!(backoff.full_jitter(3, 8001), Duration::ZERO);
        for tries in 0..64 {
            assert!(backoff.delay(tries, u64::MAX) <= Duration::from_secs(30));
            assert!(backoff.full_jitter(tries, u64::MAX) <= Duration::from_secs(30));
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(Backoff::new(Duration::ZERO, Duration::from_secs(1)), None);
        assert_eq!(Backoff::new(Duration::from_secs(2), Duration::from_secs(1)), None);
    }
}
