//! What of a log is sent, what may be, and what is answered: offsets and the credit window. Pure; the
//! agent's shipper reads and compresses what this allows, the master's intake writes.

use std::collections::VecDeque;

/// Compressed bytes of one log that may be on their way without an ack.
pub const WINDOW_BYTES_MAX: usize = 1024 * 1024;

/// A log's way to the master, within one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogWindow {
    /// Below this the master has everything, durably.
    durable: u64,
    /// The next byte to send.
    next: u64,
    /// Chunks on their way: where each ends, and its compressed size.
    on_way: VecDeque<(u64, usize)>,
    on_way_bytes: usize,
}

impl LogWindow {
    /// A log of which the master has everything below `durable`.
    pub fn new(durable: u64) -> LogWindow {
        LogWindow { durable, next: durable, on_way: VecDeque::new(), on_way_bytes: 0 }
    }

    /// From where the next chunk is to be read, if another may be sent now.
    pub fn next(&self) -> Option<u64> {
        (self.on_way_bytes < WINDOW_BYTES_MAX).then_some(self.next)
    }

    /// Below this the master has everything, durably.
    pub fn durable(&self) -> u64 {
        self.durable
    }

    /// A chunk that begins at `next` was sent.
    pub fn sent(&mut self, raw_len: u64, frame_bytes: usize) {
        self.next += raw_len;
        self.on_way.push_back((self.next, frame_bytes));
        self.on_way_bytes += frame_bytes;
    }

    /// The master has this much durably, and may want to be sent on from somewhere else.
    ///
    /// An ack beyond what was ever written here is a lie and changes nothing.
    pub fn acked(&mut self, durable: u64, rewind_to: Option<u64>, written: u64) {
        if durable <= written {
            self.durable = self.durable.max(durable);
        }
        while let Some((end, bytes)) = self.on_way.front().copied() {
            if end > self.durable {
                break;
            }
            self.on_way.pop_front();
            self.on_way_bytes -= bytes;
        }
        if let Some(to) = rewind_to.filter(|to| *to <= written) {
            self.on_way.clear();
            self.on_way_bytes = 0;
            self.next = to;
        }
        self.next = self.next.max(self.durable);
    }

    /// A new session: everything above the durable offset is sent again.
    pub fn restart(&mut self) {
        *self = LogWindow::new(self.durable);
    }
}

/// What the master answers on one connection to chunks of one log that do not begin where its log ends:
/// the first is told, the ones that were under way behind it are not, or each would make the agent begin
/// again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Misplaced {
    /// Where the wrong chunks end that were answered already.
    until: Option<u64>,
}

impl Misplaced {
    /// A chunk was in its place, or the agent is told to send on anyway.
    pub fn forget(&mut self) {
        self.until = None;
    }

    /// A chunk was not in its place: whether the agent is to be told.
    pub fn note(&mut self, offset: u64, end: u64) -> bool {
        self.until.replace(end) != Some(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_until_the_window_is_full_and_goes_on_with_the_ack() {
        let mut window = LogWindow::new(0);
        window.sent(5_000_000, WINDOW_BYTES_MAX);
        assert_eq!(window.next(), None);
        window.acked(5_000_000, None, 9_000_000);
        assert_eq!(window.next(), Some(5_000_000));
    }

    #[test]
    fn a_rewind_goes_back_to_where_the_master_is_and_a_new_session_to_what_is_durable() {
        let mut window = LogWindow::new(100);
        window.sent(50, 10);
        window.sent(50, 10);
        window.acked(100, Some(150), 200);
        assert_eq!(window.next(), Some(150));
        window.sent(50, 10);
        window.acked(150, None, 200);
        window.restart();
        assert_eq!(window.next(), Some(150));
    }

    #[test]
    fn chunks_under_way_behind_a_misplaced_one_are_not_answered() {
        let mut misplaced = Misplaced::default();
        assert!(misplaced.note(100, 150), "the first is");
        assert!(!misplaced.note(150, 200) && !misplaced.note(200, 210), "those behind it are not");
        assert!(misplaced.note(100, 150), "one that begins elsewhere is a new mistake");
        misplaced.forget();
        assert!(misplaced.note(150, 200));
    }

    #[test]
    fn an_ack_of_what_was_never_written_is_not_believed() {
        let mut window = LogWindow::new(0);
        window.sent(10, 10);
        window.acked(1_000, Some(2_000), 10);
        assert_eq!((window.durable(), window.next()), (0, Some(10)));
    }
}
