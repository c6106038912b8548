//! The master's end of each connection: the real end, rules and rights, driven by pieces of bytes.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::time::Duration;

use bytes::BytesMut;

use busybee::master::agents::rules;
use busybee::master::agents::rules::Belongs;
use busybee::master::agents::rules::greeting;
use busybee::master::agents::rules::greeting::Farewell;
use busybee::master::agents::rules::greeting::Proven;
use busybee::master::agents::rules::report::Awaited;
use busybee::master::agents::rules::report::LOG_NO_PROGRESS;
use busybee::master::agents::rules::report::Report;
use busybee::master::agents::rules::rights::Rights;
use busybee::master::domain::decision::Answer;
use busybee::master::domain::decision::ToAgent;
use busybee::master::domain::event::AgentEvent;
use busybee::master::domain::event::Event;
use busybee::model::attempt::LogChunk;
use busybee::model::attempt::LogOwner;
use busybee::model::ids::ConnectionId;
use busybee::model::ids::WorkerName;
use busybee::model::time::Timestamp;
use busybee::wire::convert;
use busybee::wire::log_window::Misplaced;
use busybee::wire::master_end::Heard;
use busybee::wire::master_end::MasterEnd;
use busybee::wire::message::Bootstrap;
use busybee::wire::message::FromAgent;
use busybee::wire::message::FromMaster;
use busybee::wire::message::Hello;

use crate::links::LinkId;
use crate::links::Piece;
use crate::links::Side;
use crate::master::MasterStep;
use crate::planted::Planted;
use crate::world::Happening;
use crate::world::Waiter;
use crate::world::World;

/// How often a result that waits for its log looks whether it is there.
const LOOK_EVERY_MS: u64 = 500;

/// The master's end of a connection.
#[derive(Debug)]
pub(crate) struct Ear {
    link: LinkId,
    end: MasterEnd,
    /// Whose it is, once that is proven.
    pub(crate) worker: Option<WorkerName>,
    proven: Option<Proven>,
    is_welcome: bool,
    /// What is said before the welcome, which goes first.
    queue: Vec<FromMaster>,
    pub(crate) rights: Rights,
    reports: VecDeque<Report>,
    /// Since when the log that the first report waits for has not grown, and how much of it there was.
    waiting: Option<(Timestamp, u64)>,
    pub(crate) chunks: VecDeque<LogChunk>,
    pub(crate) intake_pauses: bool,
    pub(crate) misplaced: BTreeMap<LogOwner, Misplaced>,
    pub(crate) logs: BTreeSet<LogOwner>,
    wake_at: Option<Timestamp>,
}

impl World {
    /// A connection is accepted.
    pub(crate) fn accept(&mut self, worker: Option<WorkerName>) -> LinkId {
        self.master.last_connection += 1;
        let connection = ConnectionId(self.master.last_connection);
        let link = self.open_link(worker, connection);
        let ear = Ear {
            link,
            end: MasterEnd::new(self.master_monotonic()),
            worker: None,
            proven: None,
            is_welcome: false,
            queue: Vec::new(),
            rights: Rights::default(),
            reports: VecDeque::new(),
            waiting: None,
            chunks: VecDeque::new(),
            intake_pauses: false,
            misplaced: BTreeMap::new(),
            logs: BTreeSet::new(),
            wake_at: None,
        };
        self.master.ears.insert(connection, ear);
        self.plan_to_listen(connection);
        link
    }

    pub(crate) fn master_receives(&mut self, link: LinkId, piece: Piece) {
        let Some(connection) = self.links.get(link).map(|link| link.connection) else { return };
        let ear = self.master.ears.get_mut(&connection).filter(|ear| ear.link == link);
        let Some(ear) = ear else { return };
        let bytes = match piece {
            Piece::Bytes(bytes) => bytes,
            Piece::End => return self.ear_ends(connection, "it hung up"),
        };
        ear.end.room().extend_from_slice(&bytes);
        self.listen(connection);
    }

    fn listen(&mut self, connection: ConnectionId) {
        let now = self.master_monotonic();
        loop {
            let Some(ear) = self.master.ears.get_mut(&connection) else { return };
            ear.end.set_busy(now, ear.rights.is_busy());
            let heard = ear.end.next(now);
            match heard.unwrap_or_else(|broken| panic!("an agent of ours broke a rule: {broken}")) {
                None => break,
                Some(Heard::Hello(hello)) => self.hears_hello(connection, *hello),
                Some(Heard::Message(message)) => self.hears(connection, message),
            }
        }
        self.plan_to_listen(connection);
    }

    fn plan_to_listen(&mut self, connection: ConnectionId) {
        let Some(ear) = self.master.ears.get_mut(&connection) else { return };
        let Some((deadline, _)) = ear.end.deadline() else { return };
        let at = Timestamp(u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX));
        if ear.wake_at.is_none_or(|planned| planned > at) {
            ear.wake_at = Some(at);
            let life = self.master.life;
            self.at(at, Happening::Master(life, MasterStep::Listens(connection)));
        }
    }

    /// A deadline may have come.
    pub(crate) fn look_at_ear(&mut self, connection: ConnectionId) {
        let now = self.master_monotonic();
        let Some(ear) = self.master.ears.get_mut(&connection) else { return };
        ear.wake_at = None;
        match ear.end.deadline() {
            Some((deadline, too_late)) if deadline <= now => {
                self.ear_ends(connection, &too_late.to_string());
            }
            Some(_) | None => self.plan_to_listen(connection),
        }
    }

    fn hears_hello(&mut self, connection: ConnectionId, hello: Hello) {
        let Some(link) = self.master.ears.get(&connection).map(|ear| ear.link) else { return };
        let exporter = self.links.get(link).expect("an ear has its link").exporter;
        let name = WorkerName(hello.worker.clone());
        let row = self.disk.workers.get(&name);
        match greeting::judge(self.master.keys(), &hello, &exporter, row) {
            Err(farewell) => self.send_away(connection, farewell),
            Ok(proven) => {
                let Some(ear) = self.master.ears.get_mut(&connection) else { return };
                (ear.worker, ear.proven) = (Some(name.clone()), Some(proven));
                let reply = self.reply_to(Waiter::Agent(connection));
                let hello = greeting::told(hello);
                self.post_event(Event::Agent(AgentEvent::Hello {
                    reply,
                    worker: name,
                    connection,
                    hello,
                }));
            }
        }
    }

    /// The domain has answered a greeting.
    pub(crate) fn answer_agent(&mut self, connection: ConnectionId, answer: Answer) {
        let welcome = match greeting::welcomed(answer) {
            Ok(welcome) => welcome,
            Err(farewell) => return self.send_away(connection, farewell),
        };
        let now = self.master_monotonic();
        let Some(ear) = self.master.ears.get_mut(&connection) else { return };
        let row = ear.worker.as_ref().and_then(|name| self.disk.workers.get(name));
        if let Some(attempt) = row.and_then(|row| row.attempt) {
            ear.rights.still_wanted(attempt);
        }
        let Some(proven) = ear.proven.take() else { return };
        ear.end.welcome(now, ear.rights.is_busy());
        ear.is_welcome = true;
        let queue = std::mem::take(&mut ear.queue);
        let message = proven.welcome(self.master.keys(), &welcome, self.now);
        for message in std::iter::once(message).chain(queue) {
            self.say(connection, message);
        }
        self.plan_to_listen(connection);
    }

    fn hears(&mut self, connection: ConnectionId, message: FromAgent) {
        let Some(ear) = self.master.ears.get_mut(&connection) else { return };
        let worker = ear.worker.clone().expect("who is welcome has a name");
        let is_heartbeat = matches!(message, FromAgent::Heartbeat(_));
        match rules::sort(&worker, connection, message).expect("a greeting comes once") {
            Belongs::Domain(event) => self.post_event(Event::Agent(event)),
            Belongs::Heartbeat(event, ack) => {
                self.say(connection, ack);
                self.post_event(Event::Agent(event));
            }
            Belongs::Log(chunk) => {
                ear.chunks.push_back(chunk);
                self.take_chunks(connection);
            }
            Belongs::Report(report) => {
                ear.reports.push_back(report);
                self.work_reports(connection);
            }
            Belongs::Notice(event, _) => self.post_event(Event::Agent(event)),
            Belongs::Farewell(event) => {
                self.post_event(Event::Agent(event));
                self.ear_ends(connection, "it said goodbye");
            }
        }
        if is_heartbeat && let Some(ear) = self.master.ears.get(&connection) {
            self.network_happens(ear.link);
        }
    }

    /// Reports go on in order; a result waits for its log.
    pub(crate) fn work_reports(&mut self, connection: ConnectionId) {
        loop {
            let now = self.now;
            let Some(ear) = self.master.ears.get_mut(&connection) else { return };
            let worker = ear.worker.clone().expect("who reports has a name");
            let Some(report) = ear.reports.front().cloned() else { return };
            if let Some(attempt) = report.attempt()
                && !ear.rights.is_present(attempt)
            {
                ear.reports.pop_front();
                if self.planted == Planted::FenceIgnored {
                    self.count_anyway(report, connection);
                }
                self.say(connection, FromMaster::Forget(attempt));
                continue;
            }
            let mut incomplete = false;
            if let Awaited::Log(owner, bytes) = report.awaits() {
                let (durable, has) = self.logs.lengths(owner);
                if durable < bytes {
                    let waiting = ear.waiting.get_or_insert((now, has));
                    if waiting.1 != has {
                        *waiting = (now, has);
                    }
                    if now < waiting.0 + LOG_NO_PROGRESS {
                        let step = MasterStep::Reports(connection);
                        return self.later(LOOK_EVERY_MS, self.master.step(step));
                    }
                    incomplete = true;
                }
            }
            ear.waiting = None;
            ear.reports.pop_front();
            self.log_is_said_to_be(&report, incomplete);
            let event = report.into_event(worker, connection, incomplete);
            self.post_event(Event::Agent(event));
        }
    }

    /// `FenceIgnored`: makes a result of an older attempt look like the newest one's.
    fn count_anyway(&mut self, report: Report, connection: ConnectionId) {
        let Report::Attempt { attempt, outcome } = report else { return };
        let Some((worker, attempt)) = self.disk.newest_of(attempt) else { return };
        let report = Report::Attempt { attempt, outcome };
        self.post_event(Event::Agent(report.into_event(worker, connection, false)));
    }

    /// The domain tells an agent something, on the connection where it was.
    pub(crate) fn tell_agent(
        &mut self,
        name: &WorkerName,
        connection: ConnectionId,
        message: ToAgent,
    ) {
        let ear = self.master.ears.get_mut(&connection);
        let Some(ear) = ear.filter(|ear| ear.worker.as_ref() == Some(name)) else { return };
        let message = match message {
            ToAgent::Bootstrap => FromMaster::Bootstrap(Bootstrap {
                url: "https://ci.example/bootstrap/debian.sh".to_owned(),
                sha256: "0".repeat(64),
                args: Vec::new(),
                env: Vec::new(),
                timeout: Duration::from_secs(300),
            }),
            ToAgent::Run(spec) => {
                ear.rights.given(spec.id, spec.steps.len());
                FromMaster::RunAttempt(spec)
            }
            ToAgent::Cancel(attempt) => {
                ear.rights.still_wanted(attempt);
                FromMaster::Cancel(attempt)
            }
            ToAgent::Forget(attempt) => {
                ear.rights.forgotten(attempt);
                FromMaster::Forget(attempt)
            }
            ToAgent::Drain => FromMaster::Drain,
            ToAgent::Shutdown { sentence } => FromMaster::Shutdown { sentence },
        };
        self.say(connection, message);
        self.listen(connection);
    }

    pub(crate) fn say(&mut self, connection: ConnectionId, message: FromMaster) {
        let Some(ear) = self.master.ears.get_mut(&connection) else { return };
        if !ear.is_welcome {
            ear.queue.push(message);
            return;
        }
        let link = ear.link;
        self.write_down(link, message);
    }

    fn write_down(&mut self, link: LinkId, message: FromMaster) {
        let whom = self.links.get(link).and_then(|link| link.worker.clone());
        if !matches!(message, FromMaster::HeartbeatAck { .. } | FromMaster::LogAck { .. }) {
            self.note(|| format!("    master to {}: {message:?}", crate::world::name_of(&whom)));
        }
        let mut bytes = BytesMut::new();
        convert::append_from_master(message, &mut bytes).expect("it fits into a frame");
        self.transmit(link, Side::Agent, &bytes);
    }

    /// A farewell is the last word.
    pub(crate) fn send_away(&mut self, connection: ConnectionId, farewell: Farewell) {
        let Some(ear) = self.master.ears.get(&connection) else { return };
        let link = ear.link;
        self.write_down(link, farewell.into_message());
        self.ear_ends(connection, "sent away");
    }

    fn ear_ends(&mut self, connection: ConnectionId, why: &str) {
        let Some(ear) = self.master.ears.remove(&connection) else { return };
        self.note(|| format!("    connection {connection} of {:?} ends: {why}", ear.worker));
        self.hang_up(ear.link, Side::Agent);
        if let Some(worker) = ear.worker.filter(|_| ear.is_welcome) {
            self.post_event(Event::Agent(AgentEvent::Disconnected { worker, connection }));
        }
    }

    /// The process ends, and the kernel hangs up for it.
    pub(crate) fn all_ears_end(&mut self) {
        for (_, ear) in std::mem::take(&mut self.master.ears) {
            self.hang_up(ear.link, Side::Agent);
        }
    }
}
