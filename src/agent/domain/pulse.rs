//! Heartbeats: when the next is due, and until when a lease lasts once one was acked.

use std::collections::VecDeque;
use std::time::Duration;

use crate::wire::message::Welcome;

/// Heartbeats whose sending time is kept until their ack.
const HEARTBEATS_MAX: usize = 64;

/// Before a master has said how often.
const UNTOLD: Duration = Duration::from_secs(10);

/// A master that asks for more would flood itself.
const AT_LEAST: Duration = Duration::from_secs(1);

/// The heartbeats of one session.
#[derive(Debug, Default)]
pub struct Pulse {
    busy_every: Option<Duration>,
    idle_every: Option<Duration>,
    lease: Option<Duration>,
    number: u64,
    sent: VecDeque<(u64, Duration)>,
    /// When the last one was sent.
    last_at: Duration,
}

impl Pulse {
    /// A new session: what was sent in the last one is not acked any more.
    pub(super) fn begin(&mut self, welcome: &Welcome) {
        self.busy_every = Some(welcome.heartbeat_busy);
        self.idle_every = Some(welcome.heartbeat_idle);
        self.lease = Some(welcome.lease);
        self.number = 0;
        self.sent.clear();
    }

    /// When the next is due. Asked anew each time: who becomes busy keeps the quicker pace at once.
    pub(super) fn due(&self, busy: bool) -> Duration {
        let every = if busy { self.busy_every } else { self.idle_every };
        self.last_at + every.unwrap_or(UNTOLD).max(AT_LEAST)
    }

    /// One is sent now; its number.
    pub(super) fn beat(&mut self, now: Duration) -> u64 {
        self.number += 1;
        self.last_at = now;
        self.sent.push_back((self.number, now));
        if self.sent.len() > HEARTBEATS_MAX {
            self.sent.pop_front();
        }
        self.number
    }

    /// One was acked: until when the lease lasts now, and how long a lease is. It counts from the
    /// sending, as the master has heard of us no later than that.
    pub(super) fn acked(&mut self, number: u64) -> Option<(Duration, Duration)> {
        let lease = self.lease?;
        while let Some((sent, at)) = self.sent.front().copied() {
            if sent > number {
                return None;
            }
            self.sent.pop_front();
            if sent == number {
                return Some((at + lease, lease));
            }
        }
        None
    }
}
