//! The wire between agents and master, in all the ways in which a network is bad: a TCP proxy on
//! loopback that cuts, stalls, slows down, drips, and calls the master from other addresses.
//!
//! It never reads what it relays, except for the name of the protocol in a ClientHello: the agent
//! channel is to be told apart from downloads. Two threads a connection, one a direction.

use std::collections::BTreeMap;
use std::io::Read;
use std::io::Write;
use std::net::Ipv4Addr;
use std::net::Shutdown;
use std::net::SocketAddrV4;
use std::net::TcpListener;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::Condvar;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::time::Duration;

/// Read at once: small, so that a change of weather soon counts.
const READ_BYTES: usize = 16 * 1024;

/// A slow line passes its bytes in pieces, so often.
const SLOW_EVERY: Duration = Duration::from_millis(20);

/// What stands in the ClientHello of an agent (ALPN is in the clear there).
const AGENT_ALPN: &[u8] = b"busybee/1";

/// A direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the agent to the master.
    Up,
    /// From the master to the agent.
    Down,
}

pub(crate) const BOTH: [Way; 2] = [Way::Up, Way::Down];

/// How a direction passes its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    Free,
    /// Nothing passes, and nobody is told: a half-open connection, a black hole.
    Stalled,
    Slow {
        bytes_per_second: usize,
    },
    /// The next bytes pass one by one, each in a write of its own.
    Dripping {
        bytes: usize,
    },
    /// After so many bytes the whole connection is cut.
    CutAfter {
        bytes: usize,
    },
}

/// How a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Both ends read an orderly end.
    End,
    /// Both ends get a reset, and what is under way is lost.
    Reset,
    /// One direction ends; the other stays as it is.
    Half(Way),
}

/// What happens to a connection that comes anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fate {
    pub(crate) up: Passage,
    pub(crate) down: Passage,
}

/// What a wire has done so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    /// Connections that agents made.
    pub(crate) calls: u64,
    /// Connections that were ended while they lived.
    pub(crate) cuts: u64,
    /// Bytes of theirs that passed.
    pub(crate) bytes: u64,
}

/// Relays connections to the master until it is dropped with the test's process.
pub(crate) struct Wire {
    port: u16,
    hall: Arc<Hall>,
}

/// What all connections share.
struct Hall {
    master_port: u16,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    next: u64,
    lines: BTreeMap<u64, Line>,
    /// For connections to come, one each; then they are free.
    fates: Vec<Fate>,
    /// The last number of the address from which the master is called.
    host: u8,
    tally: Tally,
}

struct Line {
    near: TcpStream,
    far: TcpStream,
    is_agent: bool,
    up: Passage,
    down: Passage,
}

impl Line {
    fn passage(&mut self, way: Way) -> &mut Passage {
        match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        }
    }

    fn cut(&self, cut: Cut) {
        let _gone = match cut {
            Cut::End => (self.near.shutdown(Shutdown::Both), self.far.shutdown(Shutdown::Both)),
            Cut::Reset => {
                for end in [&self.near, &self.far] {
                    let now = Some(Duration::ZERO);
                    let _gone = rustix::net::sockopt::set_socket_linger(end.as_fd(), now);
                }
                // The reset goes out when the last of our descriptors is closed, which the pumps
                // do as soon as they see this.
                (self.near.shutdown(Shutdown::Read), self.far.shutdown(Shutdown::Read))
            }
            Cut::Half(Way::Up) => (self.far.shutdown(Shutdown::Write), Ok(())),
            Cut::Half(Way::Down) => (self.near.shutdown(Shutdown::Write), Ok(())),
        };
    }
}

impl Wire {
    /// A wire whose far end is a port on loopback.
    pub(crate) fn to(master_port: u16) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let port = listener.local_addr().expect("it has an address").port();
        let state = Mutex::new(State { host: 1, ..State::default() });
        let hall = Arc::new(Hall { master_port, state, changed: Condvar::new() });
        let shared = Arc::clone(&hall);
        std::thread::spawn(move || {
            for near in listener.incoming().flatten() {
                let hall = Arc::clone(&shared);
                std::thread::spawn(move || hall.connect(near));
            }
        });
        Wire { port, hall }
    }

    /// The near end's port: what agents are told.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn tally(&self) -> Tally {
        self.hall.state().tally
    }

    /// Cuts agents' connections: the one that this picks (of so many), or all. Returns how many.
    pub(crate) fn cut(&self, pick: Option<u64>, cut: Cut) -> usize {
        let mut state = self.hall.state();
        let picked = picked(&state, pick);
        for id in &picked {
            state.lines[id].cut(cut);
            if cut == Cut::Reset {
                state.lines.remove(id);
            }
        }
        state.tally.cuts += picked.len() as u64;
        drop(state);
        self.hall.changed.notify_all();
        picked.len()
    }

    /// Lets agents' connections pass their bytes so.
    pub(crate) fn set(&self, pick: Option<u64>, ways: &[Way], passage: Passage) {
        let mut state = self.hall.state();
        let picked = picked(&state, pick);
        for id in &picked {
            if let Some(line) = state.lines.get_mut(id) {
                for way in ways {
                    *line.passage(*way) = passage;
                }
            }
        }
        drop(state);
        self.hall.changed.notify_all();
    }

    /// What happens to the next connections of agents, one each.
    pub(crate) fn foretell(&self, fates: Vec<Fate>) {
        self.hall.state().fates = fates;
    }

    /// From now on the master is called from `127.0.0.host`.
    pub(crate) fn move_to(&self, host: u8) {
        self.hall.state().host = host;
    }

    /// What was stalled is cut, or its bytes come late.
    pub(crate) fn end_stalls(&self, by_cut: bool) {
        let mut state = self.hall.state();
        for line in state.lines.values_mut() {
            if [line.up, line.down].contains(&Passage::Stalled) {
                (line.up, line.down) = (Passage::Free, Passage::Free);
                if by_cut {
                    line.cut(Cut::End);
                }
            }
        }
        drop(state);
        self.hall.changed.notify_all();
    }

    /// Good weather: what comes passes freely, and what lives, too, unless it is stalled.
    pub(crate) fn calm(&self) {
        let mut state = self.hall.state();
        state.fates.clear();
        for line in state.lines.values_mut() {
            for passage in [&mut line.up, &mut line.down] {
                if *passage != Passage::Stalled {
                    *passage = Passage::Free;
                }
            }
        }
        drop(state);
        self.hall.changed.notify_all();
    }
}

/// The agents' connections that are meant.
fn picked(state: &State, pick: Option<u64>) -> Vec<u64> {
    let agents = state.lines.iter().filter(|(_, line)| line.is_agent);
    let agents: Vec<u64> = agents.map(|(id, _)| *id).collect();
    match pick {
        None => agents,
        Some(_) if agents.is_empty() => agents,
        Some(pick) => vec![agents[(pick % agents.len() as u64) as usize]],
    }
}

impl Hall {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Relays one connection until it ends.
    fn connect(self: Arc<Hall>, mut near: TcpStream) {
        let mut first = vec![0; READ_BYTES];
        let Ok(read @ 1..) = near.read(&mut first) else { return };
        first.truncate(read);
        let is_agent = first.windows(AGENT_ALPN.len()).any(|bytes| bytes == AGENT_ALPN);
        let host = if is_agent { self.state().host } else { 1 };
        // While the master is down, whoever calls is hung up on, as by a real one.
        let Ok(far) = dial(host, self.master_port) else { return };
        for end in [&near, &far] {
            let _no_delay = end.set_nodelay(true);
        }
        let id = {
            let mut state = self.state();
            let free = Fate { up: Passage::Free, down: Passage::Free };
            let fate = if is_agent { state.fates.pop().unwrap_or(free) } else { free };
            state.tally.calls += u64::from(is_agent);
            state.next += 1;
            let id = state.next;
            let (up, down) = (fate.up, fate.down);
            let line = Line { near: clone(&near), far: clone(&far), is_agent, up, down };
            state.lines.insert(id, line);
            id
        };
        let (other, down) = (Arc::clone(&self), (clone(&far), clone(&near)));
        let back = std::thread::spawn(move || other.pump(id, Way::Down, down, Vec::new()));
        self.pump(id, Way::Up, (near, far), first);
        let _panicked = back.join();
        self.state().lines.remove(&id);
    }

    /// Relays one direction of a connection until it ends.
    fn pump(&self, id: u64, way: Way, (mut from, mut to): (TcpStream, TcpStream), first: Vec<u8>) {
        let mut buffer = first;
        let cut = loop {
            if buffer.is_empty() {
                buffer.resize(READ_BYTES, 0);
                match from.read(&mut buffer) {
                    Ok(read @ 1..) => buffer.truncate(read),
                    Ok(_) => break Cut::Half(way),
                    Err(_) => break Cut::End,
                }
            }
            let Some(bytes) = self.may_pass(id, way, buffer.len()) else { break Cut::End };
            if to.write_all(&buffer[..bytes]).is_err() {
                break Cut::End;
            }
            buffer.drain(..bytes);
        };
        if let Some(line) = self.state().lines.get(&id) {
            line.cut(cut);
        }
    }

    /// How many of these bytes may pass now; waits while none may. Nothing: cut it.
    fn may_pass(&self, id: u64, way: Way, wanted: usize) -> Option<usize> {
        let mut state = self.state();
        let mut waited = false;
        loop {
            let passage = state.lines.get_mut(&id)?.passage(way);
            let bytes = match passage {
                Passage::Free => wanted,
                Passage::Stalled => {
                    state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                    continue;
                }
                Passage::Slow { bytes_per_second } => {
                    let pieces = 1000 / SLOW_EVERY.as_millis() as usize;
                    let piece = (*bytes_per_second / pieces).max(1);
                    if !waited {
                        waited = true;
                        state = self.wait(state, SLOW_EVERY);
                        continue;
                    }
                    piece.min(wanted)
                }
                Passage::Dripping { bytes: 0 } => {
                    *passage = Passage::Free;
                    continue;
                }
                Passage::Dripping { bytes } => {
                    *bytes -= 1;
                    1
                }
                Passage::CutAfter { bytes: 0 } => {
                    state.tally.cuts += 1;
                    return None;
                }
                Passage::CutAfter { bytes } => {
                    let piece = wanted.min(*bytes);
                    *bytes -= piece;
                    piece
                }
            };
            let is_agent = state.lines.get(&id)?.is_agent;
            state.tally.bytes += if is_agent { bytes as u64 } else { 0 };
            return Some(bytes);
        }
    }

    /// Waits so long, whatever else changes meanwhile.
    fn wait<'a>(&self, state: MutexGuard<'a, State>, time: Duration) -> MutexGuard<'a, State> {
        let waiting = self.changed.wait_timeout_while(state, time, |_| true);
        waiting.unwrap_or_else(PoisonError::into_inner).0
    }
}

fn clone(end: &TcpStream) -> TcpStream {
    end.try_clone().expect("descriptors are not used up")
}

/// Calls the master from `127.0.0.host`.
fn dial(host: u8, master_port: u16) -> rustix::io::Result<TcpStream> {
    use rustix::net;
    let kind = (net::AddressFamily::INET, net::SocketType::STREAM);
    let socket = net::socket_with(kind.0, kind.1, net::SocketFlags::CLOEXEC, None)?;
    net::bind(&socket, &SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, host), 0))?;
    net::connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, master_port))?;
    Ok(TcpStream::from(socket))
}
