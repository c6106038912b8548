//! The watch over a connection's other end, under any history of bytes, pauses and work.
//!
//! An end is given up neither late nor early: at the deadline there has been no whole message for
//! the whole patience, or one that began has not ended for its 20 seconds; before it, neither. The
//! law is read off the history, not kept beside it.

#![no_main]

use std::time::Duration;

use busybee::wire::session::BODY_DEADLINE;
use busybee::wire::session::SILENCE_BUSY;
use busybee::wire::session::SILENCE_IDLE;
use busybee::wire::session::TooLate;
use busybee::wire::session::Watch;
use libfuzzer_sys::arbitrary;
use libfuzzer_sys::arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Happens {
    /// Bytes: a message ended with them or not, another has begun or not.
    Heard {
        whole: bool,
        half: bool,
    },
    Work(bool),
}

#[derive(Arbitrary, Debug)]
struct History {
    busy: bool,
    /// Each with the pause before it, in milliseconds.
    events: Vec<(u16, Happens)>,
}

fuzz_target!(|history: History| {
    let mut now = Duration::from_secs(1000);
    let mut watch = Watch::new(now, history.busy);
    let (mut busy, mut counted_from, mut half_since) = (history.busy, now, None);
    for (pause, happens) in history.events {
        let law = law(busy, counted_from, half_since);
        assert_eq!(watch.deadline(), law);
        now += Duration::from_millis(pause.into());
        if now >= law.0 {
            return; // The connection is given up here.
        }
        match happens {
            Happens::Heard { whole, half } => {
                // Bytes that end nothing have begun something.
                let half = half || !whole;
                watch.heard(now, whole, half);
                if whole {
                    (counted_from, half_since) = (now, None);
                }
                if half {
                    half_since = half_since.or(Some(now));
                }
            }
            Happens::Work(now_busy) => {
                watch.set_busy(now, now_busy);
                if now_busy != busy {
                    (busy, counted_from) = (now_busy, now);
                }
            }
        }
    }
    assert_eq!(watch.deadline(), law(busy, counted_from, half_since));
});

/// When an end must be given up whose silence counts from then, and whose message began then.
fn law(busy: bool, counted_from: Duration, half: Option<Duration>) -> (Duration, TooLate) {
    let silent = counted_from + if busy { SILENCE_BUSY } else { SILENCE_IDLE };
    match half.map(|since| since + BODY_DEADLINE) {
        Some(late) if late < silent => (late, TooLate::HalfMessage),
        _ => (silent, TooLate::Silence),
    }
}
