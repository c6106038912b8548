//! A log's way from spool to master over a connection that is cut at any moment, to a disk that
//! forgets what was not flushed.
//!
//! The master, which takes only the exact next byte, gets every byte once; the agent never believes
//! more durable than is, nor an ack of what was never written; what is on its way stays within the
//! window; and once the faults stop, everything arrives.

#![no_main]

use std::collections::VecDeque;

use busybee::wire::log_window::LogWindow;
use busybee::wire::log_window::Misplaced;
use busybee::wire::log_window::WINDOW_BYTES_MAX;
use libfuzzer_sys::arbitrary;
use libfuzzer_sys::arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Happens {
    /// The step prints this much.
    Prints(u16),
    /// The agent sends a chunk of at most this much raw, packed to so many KiB.
    Sends { raw: u16, packed_kib: u8 },
    /// A chunk reaches the master.
    ChunkArrives,
    /// The master's disk has everything now.
    Flushes,
    /// What was not flushed is lost; the master goes on from there and says so.
    DiskForgets,
    /// An answer reaches the agent.
    AnswerArrives,
    /// The connection is cut, and another made.
    Cut,
    /// A master that lies.
    Lies { durable: u64, rewind: Option<u64> },
}

struct World {
    written: u64,
    agent: LogWindow,
    /// Offset, raw length, packed bytes.
    chunks: VecDeque<(u64, u64, usize)>,
    answers: VecDeque<(u64, Option<u64>)>,
    /// Where each chunk ends that the agent waits for an ack of, and its packed bytes.
    unacked: VecDeque<(u64, usize)>,
    master_has: u64,
    master_durable: u64,
    misplaced: Misplaced,
}

fuzz_target!(|history: Vec<Happens>| {
    let mut world = World {
        written: 0,
        agent: LogWindow::new(0),
        chunks: VecDeque::new(),
        answers: VecDeque::new(),
        unacked: VecDeque::new(),
        master_has: 0,
        master_durable: 0,
        misplaced: Misplaced::default(),
    };
    for happens in history {
        let durable = world.agent.durable();
        world.happen(happens);
        assert!(world.agent.durable() >= durable, "durable goes only up");
        assert!(world.agent.durable() <= world.master_durable);
        assert!(world.agent.next().is_none_or(|next| next >= world.agent.durable()));
    }
    world.calm();
});

impl World {
    fn happen(&mut self, happens: Happens) {
        match happens {
            Happens::Prints(bytes) => self.written += u64::from(bytes),
            Happens::Sends { raw, packed_kib } => self.send(raw.into(), packed_kib),
            Happens::ChunkArrives => self.arrive(),
            Happens::Flushes => self.flush(),
            Happens::DiskForgets => {
                self.master_has = self.master_durable;
                self.misplaced.forget();
                self.answers.push_back((self.master_durable, Some(self.master_durable)));
            }
            Happens::AnswerArrives => {
                if let Some((durable, rewind)) = self.answers.pop_front() {
                    self.answer(durable, rewind);
                }
            }
            Happens::Cut => {
                self.chunks.clear();
                self.answers.clear();
                self.agent.restart();
                self.unacked.clear();
                self.misplaced = Misplaced::default();
            }
            Happens::Lies { durable, rewind } => {
                let beyond = |offset: u64| offset.max(self.written.saturating_add(1));
                self.answer(beyond(durable), rewind.map(beyond));
            }
        }
    }

    fn send(&mut self, raw: u64, packed_kib: u8) {
        let Some(next) = self.agent.next() else { return };
        let raw = raw.min(self.written - next);
        if raw == 0 {
            return;
        }
        let packed = (usize::from(packed_kib) % 64 + 1) * 1024;
        self.agent.sent(raw, packed);
        self.chunks.push_back((next, raw, packed));
        self.unacked.push_back((next + raw, packed));
        let before: usize = self.unacked.iter().rev().skip(1).map(|(_, packed)| packed).sum();
        assert!(before < WINDOW_BYTES_MAX, "{before} bytes were on their way already");
    }

    /// An answer reaches the agent. What it begins again with is no more on its way.
    fn answer(&mut self, durable: u64, rewind: Option<u64>) {
        self.agent.acked(durable, rewind, self.written);
        if rewind.is_some_and(|to| to <= self.written) {
            self.unacked.clear();
        }
        self.unacked.retain(|(end, _)| *end > self.agent.durable());
    }

    fn arrive(&mut self) {
        let Some((offset, raw, _)) = self.chunks.pop_front() else { return };
        if offset == self.master_has {
            self.master_has += raw;
            self.misplaced.forget();
        } else if self.misplaced.note(offset, offset + raw) {
            self.answers.push_back((self.master_durable, Some(self.master_has)));
        }
        assert!(self.master_has <= self.written);
    }

    fn flush(&mut self) {
        if self.master_durable != self.master_has {
            self.master_durable = self.master_has;
            self.answers.push_back((self.master_durable, None));
        }
    }

    /// No more faults: all of it arrives, in a number of rounds that the log's length bounds.
    fn calm(&mut self) {
        let rounds = self.written / 65_535 + 2 * self.chunks.len() as u64 + 8;
        for _ in 0..rounds {
            while self.agent.next().is_some_and(|next| next < self.written) {
                self.send(65_535, 63);
            }
            while !self.chunks.is_empty() {
                self.arrive();
            }
            self.flush();
            while !self.answers.is_empty() {
                self.happen(Happens::AnswerArrives);
            }
            if self.agent.durable() == self.written {
                return;
            }
        }
        panic!("{} of {} bytes after {rounds} quiet rounds", self.agent.durable(), self.written);
    }
}
