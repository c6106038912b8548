//! How long one waits for the other end. Pure: times come in as a monotonic clock's reading.
//!
//! Silence is counted between whole messages, so that bytes dripped one by one keep nothing alive;
//! and a message that has begun must be whole soon after.

use std::time::Duration;

/// How often an agent sends a heartbeat while it works.
pub const HEARTBEAT_BUSY: Duration = Duration::from_secs(10);
/// How often it does otherwise: ten thousand idle agents are 333 messages a second.
pub const HEARTBEAT_IDLE: Duration = Duration::from_secs(30);
/// Silence after which a working connection is given up: three heartbeats and some slack.
pub const SILENCE_BUSY: Duration = Duration::from_secs(35);
/// Silence after which an idle connection is given up: two heartbeats and some slack.
pub const SILENCE_IDLE: Duration = Duration::from_secs(75);
/// How long a message may take from its first byte to its last.
pub const BODY_DEADLINE: Duration = Duration::from_secs(20);
/// How long TLS may take.
pub const TLS_DEADLINE: Duration = Duration::from_secs(10);
/// How long the greeting may take, from the end of TLS.
pub const HELLO_DEADLINE: Duration = Duration::from_secs(10);
/// How long the master may take to answer a greeting: it answers after its commit.
pub const WELCOME_DEADLINE: Duration = Duration::from_secs(30);

/// Why one stops listening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooLate {
    /// Not one whole message for too long.
    #[error("silence")]
    Silence,
    /// A message began and did not end.
    #[error("a message that did not end")]
    HalfMessage,
    /// Nobody greeted.
    #[error("no greeting")]
    NoGreeting,
    /// A greeting was not answered.
    #[error("the master did not answer the greeting")]
    NoAnswer,
}

/// Watches the other end of an accepted connection.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    silence: Duration,
    heard_at: Duration,
    begun_at: Option<Duration>,
}

impl Watch {
    /// A connection that was accepted at `now`.
    pub fn new(now: Duration, busy: bool) -> Watch {
        Watch { silence: silence(busy), heard_at: now, begun_at: None }
    }

    /// Bytes came. `whole`: a message ended with them; `half`: the next one has begun.
    pub fn heard(&mut self, now: Duration, whole: bool, half: bool) {
        if whole {
            self.heard_at = now;
        }
        self.begun_at = match (half, self.begun_at) {
            (false, _) => None,
            (true, Some(begun_at)) if !whole => Some(begun_at),
            (true, _) => Some(now),
        };
    }

    /// Work begins or ends. Silence is counted anew: the heartbeats so far kept the other pace.
    pub fn set_busy(&mut self, now: Duration, busy: bool) {
        if self.silence != silence(busy) {
            self.silence = silence(busy);
            self.heard_at = now;
        }
    }

    /// When to give up if nothing comes until then, and why.
    pub fn deadline(&self) -> (Duration, TooLate) {
        let silent = self.heard_at + self.silence;
        match self.begun_at {
            Some(begun_at) if begun_at + BODY_DEADLINE < silent => {
                (begun_at + BODY_DEADLINE, TooLate::HalfMessage)
            }
            Some(_) | None => (silent, TooLate::Silence),
        }
    }
}

fn silence(busy: bool) -> Duration {
    if busy { SILENCE_BUSY } else { SILENCE_IDLE }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn an_idle_end_may_be_silent_for_75_seconds_and_a_busy_one_for_35() {
        let mut watch = Watch::new(s(100), false);
        assert_eq!(watch.deadline(), (s(175), TooLate::Silence));
        watch.heard(s(130), true, false);
        assert_eq!(watch.deadline(), (s(205), TooLate::Silence));
        watch.set_busy(s(150), true);
        assert_eq!(watch.deadline(), (s(185), TooLate::Silence));
        watch.set_busy(s(160), true);
        assert_eq!(watch.deadline(), (s(185), TooLate::Silence), "no news, no more time");
    }

    #[test]
    fn a_message_that_has_begun_is_whole_within_20_seconds_however_it_drips() {
        let mut watch = Watch::new(s(0), false);
        for second in 10..30 {
            watch.heard(s(second), false, true);
            assert_eq!(watch.deadline(), (s(30), TooLate::HalfMessage));
        }
        watch.heard(s(29), true, true);
        assert_eq!(watch.deadline(), (s(49), TooLate::HalfMessage), "the next one has its own");
        watch.heard(s(30), true, false);
        assert_eq!(watch.deadline(), (s(105), TooLate::Silence));
    }

    #[test]
    fn dripped_bytes_do_not_end_a_silence() {
        let mut watch = Watch::new(s(0), true);
        watch.heard(s(34), false, true);
        assert_eq!(watch.deadline(), (s(35), TooLate::Silence));
    }

    #[test]
    fn two_heartbeats_may_be_lost_before_an_end_is_given_up() {
        assert!(SILENCE_BUSY > HEARTBEAT_BUSY * 3);
        assert!(SILENCE_IDLE > HEARTBEAT_IDLE * 2);
        assert!(BODY_DEADLINE < SILENCE_BUSY);
    }
}
