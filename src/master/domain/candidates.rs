//! The ways to ask for a machine: what tells them apart, and which of them are left alone for a while.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::model::time::Timestamp;

/// A candidate for which there was no room is left alone this long, and twice as long each time.
const COOL_FIRST: Duration = Duration::from_secs(3 * 60);

/// But never longer: capacity comes back within minutes, mostly.
const COOL_MAX: Duration = Duration::from_secs(30 * 60);

/// A candidate that does not exist where it was asked for is not going to within the hour.
const COOL_FOR_LONG: Duration = Duration::from_secs(24 * 3600);

/// One way to ask for a machine: a type in a place, paid for in one way.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// For people.
    pub name: String,
    /// What machine it would be; empty: it is not known.
    pub kind: String,
    /// What kinds it shares a quota with; empty: none is known.
    pub family: String,
    /// Where it would be; empty: wherever the provisioner likes.
    pub place: String,
    /// Whether it is lent, and may be taken back.
    pub is_spot: bool,
}

impl From<&str> for Candidate {
    /// One that has nothing but a name.
    fn from(name: &str) -> Candidate {
        Candidate { name: name.to_owned(), ..Candidate::default() }
    }
}

/// Why a candidate is left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cool {
    /// No room: for a while, longer each time.
    Room,
    /// It does not exist: for a day.
    ForLong,
    /// The account may not have more: until then, or until one of ours ends.
    Quota(Timestamp),
}

/// A candidate that was refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cooling {
    /// Until when it is left alone.
    pub(super) until: Timestamp,
    /// How often in a row there was no room for it.
    pub(super) refusals: u32,
    /// Whether the end of a machine may change it.
    pub(super) is_quota: bool,
}

/// The candidates that are left alone, by their number. Forgotten by a start of the master.
#[derive(Clone, Debug, Default)]
pub(super) struct Coolings(BTreeMap<u32, Cooling>);

impl Coolings {
    /// The first of so many candidates that is not left alone just now.
    pub(super) fn first_free(&self, count: u32, now: Timestamp) -> Option<u32> {
        (0..count).find(|index| self.is_free(*index, now))
    }

    /// Whether a candidate is not left alone just now.
    pub(super) fn is_free(&self, candidate: u32, now: Timestamp) -> bool {
        self.0.get(&candidate).is_none_or(|cooling| cooling.until <= now)
    }

    pub(super) fn cool(&mut self, candidate: u32, now: Timestamp, why: Cool) {
        let cooling = self.0.entry(candidate);
        let cooling = cooling.or_insert(Cooling { until: now, refusals: 0, is_quota: false });
        let until = match why {
            Cool::Room => {
                let time = COOL_FIRST.saturating_mul(1 << cooling.refusals.min(8)).min(COOL_MAX);
                cooling.refusals += 1;
                now + time
            }
            Cool::ForLong => now + COOL_FOR_LONG,
            Cool::Quota(until) => until,
        };
        let is_only_quota = cooling.is_quota || cooling.until <= now;
        cooling.is_quota = is_only_quota && matches!(why, Cool::Quota(_));
        cooling.until = cooling.until.max(until);
    }

    /// A machine of it lives: what was refused before is held against it no longer than it is now.
    pub(super) fn warm(&mut self, candidate: u32, now: Timestamp) {
        if self.is_free(candidate, now) {
            self.0.remove(&candidate);
        } else if let Some(cooling) = self.0.get_mut(&candidate) {
            cooling.refusals = 0;
        }
    }

    /// A machine has ended: what only a quota forbade may be had again.
    ///
    /// Whether there was any.
    pub(super) fn release_quota(&mut self) -> bool {
        let before = self.0.len();
        self.0.retain(|_, cooling| !cooling.is_quota);
        self.0.len() < before
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Whether none of so many is to be had before lack of room could be over.
    pub(super) fn all_for_long(&self, count: u32, now: Timestamp) -> bool {
        self.first_free(count, now + COOL_MAX).is_none()
    }

    /// When the first of those that are left alone may be tried again.
    pub(super) fn until(&self) -> Option<Timestamp> {
        self.0.values().map(|cooling| cooling.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(minutes: u64) -> Timestamp {
        Timestamp(1_000_000) + Duration::from_secs(60 * minutes)
    }

    #[test]
    fn a_candidate_without_room_is_left_alone_for_3_minutes_and_at_last_for_30() {
        let mut coolings = Coolings::default();
        let mut now = after(0);
        for minutes in [3, 6, 12, 24, 30, 30] {
            coolings.cool(0, now, Cool::Room);
            let until = now + Duration::from_secs(60 * minutes);
            assert_eq!(coolings.until(), Some(until), "{minutes} min");
            assert_eq!(coolings.first_free(2, now), Some(1));
            now = until;
            assert_eq!(coolings.first_free(2, now), Some(0));
        }
        coolings.warm(0, now);
        coolings.cool(0, now, Cool::Room);
        assert_eq!(coolings.until(), Some(now + Duration::from_secs(180)), "counted anew");
        coolings.warm(0, now);
        assert_eq!(coolings.first_free(1, now), None, "what was refused since is left alone still");
    }

    #[test]
    fn what_only_a_quota_forbids_is_released_and_nothing_else() {
        let mut coolings = Coolings::default();
        coolings.cool(0, after(0), Cool::Quota(after(10)));
        coolings.cool(1, after(0), Cool::ForLong);
        coolings.cool(2, after(0), Cool::Room);
        coolings.cool(2, after(0), Cool::Quota(after(10)));
        assert_eq!(coolings.first_free(3, after(0)), None);
        assert!(coolings.release_quota());
        assert!(!coolings.release_quota());
        assert_eq!(coolings.first_free(3, after(0)), Some(0));
        coolings.cool(0, after(0), Cool::Room);
        assert_eq!(coolings.first_free(3, after(0)), None);
        assert!(!coolings.all_for_long(3, after(0)));
        coolings.cool(0, after(0), Cool::ForLong);
        assert_eq!(coolings.first_free(3, after(11)), Some(2));
        assert_eq!(coolings.first_free(3, after(24 * 60)), Some(0), "a day later");
    }
}
