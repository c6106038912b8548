//! The logs that wait to be made durable, in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::PoisonError;

use crate::master::logs::log::Log;

/// The queue. A log is in it once at most, so there are never more than there are open logs.
#[derive(Debug, Default)]
pub(super) struct FlushQueue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    logs: VecDeque<Arc<Log>>,
    closed: bool,
}

impl FlushQueue {
    /// Adds a log at the end.
    pub(super) fn push(&self, log: Arc<Log>) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).logs.push_back(log);
        self.changed.notify_one();
    }

    /// Lets the threads go once the queue is empty.
    pub(super) fn close(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).closed = true;
        self.changed.notify_all();
    }

    /// Flushes log after log until the queue is closed and empty.
    pub(super) fn run(&self) {
        while let Some(log) = self.pop() {
            // At the end of the line: a log that never rests must not keep the others waiting.
            if log.flush() {
                self.push(log);
            }
        }
    }

    fn pop(&self) -> Option<Arc<Log>> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(log) = waiting.logs.pop_front() {
                return Some(log);
            }
            if waiting.closed {
                return None;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
