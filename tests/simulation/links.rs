//! Connections: bytes in both directions, in order, in pieces as a network cuts them. A connection can
//! be cut, and its ends may or may not notice; or stall, for a while or for ever.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::time::Duration;

use busybee::model::ids::ConnectionId;
use busybee::model::ids::WorkerName;
use busybee::model::time::Timestamp;

use crate::world::Happening;
use crate::world::World;

/// A connection, in all of a history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkId(pub(crate) u64);

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Master,
    Agent,
}

/// What arrives at an end.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    Bytes(Vec<u8>),
    /// The other end has hung up, or its process has died.
    End,
}

#[derive(Debug, Default)]
struct Pipe {
    pieces: VecDeque<Piece>,
    /// Pieces arrive in order: when the last one does.
    at: Option<Timestamp>,
    /// Pieces that were due while the connection stalled.
    owed: usize,
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Link {
    /// Whose agent called; nobody: a thief's.
    pub(crate) worker: Option<WorkerName>,
    pub(crate) connection: ConnectionId,
    pub(crate) exporter: [u8; 32],
    up: Pipe,
    down: Pipe,
    stalls: bool,
    is_cut: bool,
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Links {
    all: BTreeMap<LinkId, Link>,
    last: u64,
}

impl Links {
    pub(crate) fn get(&self, link: LinkId) -> Option<&Link> {
        self.all.get(&link)
    }

    /// An agent's process or machine is gone, or has nothing to do with it any more.
    pub(crate) fn disown(&mut self, link: LinkId) {
        if let Some(link) = self.all.get_mut(&link) {
            link.worker = None;
        }
    }
}

impl Link {
    fn pipe(&mut self, to: Side) -> &mut Pipe {
        match to {
            Side::Master => &mut self.up,
            Side::Agent => &mut self.down,
        }
    }
}

impl World {
    pub(crate) fn open_link(
        &mut self,
        worker: Option<WorkerName>,
        connection: ConnectionId,
    ) -> LinkId {
        self.links.last += 1;
        let id = LinkId(self.links.last);
        let mut exporter = [0; 32];
        exporter[..8].copy_from_slice(&self.random(u64::MAX).to_be_bytes());
        let (up, down) = (Pipe::default(), Pipe::default());
        let link = Link { worker, connection, exporter, up, down, stalls: false, is_cut: false };
        self.links.all.insert(id, link);
        id
    }

    /// Sends bytes to the other end: in one piece, or cut anywhere.
    pub(crate) fn transmit(&mut self, link: LinkId, to: Side, mut bytes: &[u8]) {
        let mut delay = 10 + self.random(300);
        while self.random(12) == 0 && bytes.len() > 1 {
            let cut = 1 + self.random(bytes.len() as u64 - 1) as usize;
            *self.counts.entry("frame cut").or_default() += 1;
            self.post(link, to, delay, Piece::Bytes(bytes[..cut].to_vec()));
            bytes = &bytes[cut..];
            delay = self.random(2_000);
        }
        self.post(link, to, delay, Piece::Bytes(bytes.to_vec()));
    }

    /// One end hangs up: the other one hears of it after all that was sent before.
    pub(crate) fn hang_up(&mut self, link: LinkId, to: Side) {
        let delay = self.random(500);
        self.post(link, to, delay, Piece::End);
    }

    fn post(&mut self, id: LinkId, to: Side, delay_ms: u64, piece: Piece) {
        let earliest = self.now + Duration::from_millis(delay_ms);
        let Some(link) = self.links.all.get_mut(&id) else { return };
        let pipe = link.pipe(to);
        let at = pipe.at.map_or(earliest, |at| at.max(earliest));
        pipe.at = Some(at);
        pipe.pieces.push_back(piece);
        self.at(at, Happening::Arrives(id, to));
    }

    pub(crate) fn arrives(&mut self, id: LinkId, to: Side) {
        let Some(link) = self.links.all.get_mut(&id).filter(|link| !link.is_cut) else { return };
        let stalls = link.stalls;
        let pipe = link.pipe(to);
        if stalls {
            pipe.owed += 1;
            return;
        }
        let Some(piece) = pipe.pieces.pop_front() else { return };
        match to {
            Side::Master => self.master_receives(id, piece),
            Side::Agent => self.agent_receives(id, piece),
        }
    }

    /// Whatever may befall a connection, each time something was said on it.
    pub(crate) fn network_happens(&mut self, link: LinkId) {
        if self.fault("connection cut", 12) {
            self.cut(link);
        } else if self.fault("stall", 6) {
            let Some(stalled) = self.links.all.get_mut(&link) else { return };
            stalled.stalls = true;
            let lasts = 1_000 + self.random(120_000);
            self.later(lasts, Happening::Unstalls(link));
        } else if self.fault("half open", 4)
            && let Some(stalled) = self.links.all.get_mut(&link)
        {
            stalled.stalls = true;
        }
    }

    /// All that is under way is lost. Each end notices at once, or only by its own deadlines.
    fn cut(&mut self, id: LinkId) {
        let Some(link) = self.links.all.get_mut(&id) else { return };
        link.is_cut = true;
        for side in [Side::Master, Side::Agent] {
            if self.random(8) > 0 {
                let delay = self.random(3_000);
                self.later(delay, Happening::Noticed(id, side));
            }
        }
    }

    pub(crate) fn notices(&mut self, link: LinkId, side: Side) {
        match side {
            Side::Master => self.master_receives(link, Piece::End),
            Side::Agent => self.agent_receives(link, Piece::End),
        }
    }

    pub(crate) fn unstalls(&mut self, id: LinkId) {
        let Some(link) = self.links.all.get_mut(&id) else { return };
        link.stalls = false;
        for to in [Side::Master, Side::Agent] {
            let Some(link) = self.links.all.get_mut(&id) else { return };
            let pipe = link.pipe(to);
            let owed = std::mem::take(&mut pipe.owed);
            pipe.at = Some(pipe.at.map_or(self.now, |at| at.max(self.now)));
            for _ in 0..owed {
                self.at(self.now, Happening::Arrives(id, to));
            }
        }
    }
}
