//! The world around one real Coordinator: virtual time, one heap of what is to come, one source of
//! chance. Commit, act and crash happen here; who acts back stands in cloud, agents and people.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use busybee::master::domain::coordinator::Coordinator;
use busybee::master::domain::decision::Action;
use busybee::master::domain::decision::Answer;
use busybee::master::domain::decision::Decision;
use busybee::master::domain::decision::Record;
use busybee::master::domain::decision::ReplyId;
use busybee::master::domain::event::AgentEvent;
use busybee::master::domain::event::Event;
use busybee::master::domain::settings::PoolSettings;
use busybee::master::domain::settings::ProjectSettings;
use busybee::master::domain::settings::ProvisionerKind;
use busybee::master::domain::settings::Settings;
use busybee::model::attempt::AttemptRef;
use busybee::model::ids::ConnectionId;
use busybee::model::ids::WorkerName;
use busybee::model::time::Timestamp;

use crate::agents::Agent;
use crate::agents::AgentStep;
use crate::cloud::Cloud;
use crate::cloud::CloudStep;
use crate::disk::Disk;
use crate::laws::Laws;
use crate::logs::Chunk;
use crate::logs::Logs;
use crate::people::People;
use crate::people::PeopleStep;

/// A line of the trace shows the beginning of what happened: whole pipelines drown the rest.
const LINE_CHARS_MAX: usize = 220;

/// A mistake that is made on purpose, to see that the laws notice it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planted {
    Nothing,
    /// Actions are done before the records are safe.
    ActBeforeCommit,
    /// A commit is lost and nobody notices.
    CommitDropped,
    /// A restart forgets what was given to workers.
    AssignmentsForgotten,
    /// The agent is told that its log is safe as soon as it is written.
    AckBeforeDurable,
    /// An agent goes on with its job when its lease is over.
    LeaseIgnored,
    /// A late result counts for whatever the job's newest attempt is.
    StaleResultAccepted,
}

/// Something that will happen.
pub(crate) enum Happening {
    /// Word reaches the master, if it is the same process still and the connection is open.
    ToMaster {
        life: u64,
        connection: Option<ConnectionId>,
        event: Event,
    },
    Chunk(Chunk),
    LogSynced(u64, ConnectionId, WorkerName, AttemptRef),
    LogRetried(u64, ConnectionId, WorkerName, AttemptRef),
    Cloud(CloudStep),
    Agent(WorkerName, AgentStep),
    People(PeopleStep),
    MasterCrashes,
    MasterStarts,
}

/// Who waits for an answer.
pub(crate) enum Waiter {
    Agent(WorkerName, ConnectionId),
    Person,
}

/// One history.
pub(crate) struct World {
    pub(crate) now: Timestamp,
    luck: u64,
    heap: BTreeMap<(Timestamp, u64), Happening>,
    n_happenings: u64,
    pub(crate) faults: bool,
    pub(crate) planted: Planted,
    pub(crate) settings: Settings,
    /// Nothing while no master runs.
    pub(crate) it: Option<Coordinator>,
    /// Counts the master's processes.
    pub(crate) life: u64,
    pub(crate) disk: Disk,
    pub(crate) logs: Logs,
    pub(crate) cloud: Cloud,
    pub(crate) agents: BTreeMap<WorkerName, Agent>,
    pub(crate) people: People,
    pub(crate) laws: Laws,
    pub(crate) open: BTreeSet<ConnectionId>,
    pub(crate) last_connection: u64,
    pub(crate) waiters: BTreeMap<ReplyId, Waiter>,
    last_reply: u64,
    /// Lines of what happened, while somebody wants them.
    pub(crate) trace: Option<Vec<String>>,
    pub(crate) counts: BTreeMap<&'static str, u64>,
    pub(crate) n_events: u64,
}

impl World {
    pub(crate) fn new(seed: u64, planted: Planted, traced: bool) -> World {
        let mut world = World {
            now: Timestamp(1_000_000_000_000),
            luck: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            heap: BTreeMap::new(),
            n_happenings: 0,
            faults: true,
            planted,
            settings: Settings::default(),
            it: None,
            life: 0,
            disk: Disk::default(),
            logs: Logs::default(),
            cloud: Cloud::default(),
            agents: BTreeMap::new(),
            people: People::default(),
            laws: Laws::default(),
            open: BTreeSet::new(),
            last_connection: 0,
            waiters: BTreeMap::new(),
            last_reply: 0,
            trace: traced.then(Vec::new),
            counts: BTreeMap::new(),
            n_events: 0,
        };
        world.settings = world.draw_settings();
        world.start_master();
        world.people_arrive();
        let first = 120_000 + world.random(1_200_000);
        world.later(first, Happening::MasterCrashes);
        world
    }

    fn draw_settings(&mut self) -> Settings {
        let jobs_per_instance = [0, 1, 3][self.random(3) as usize];
        let pool = |name: &str, labels: &[&str]| PoolSettings {
            name: name.into(),
            labels: labels.iter().copied().collect(),
            provisioner: ProvisionerKind::Local,
            has_bootstrap: false,
            candidates: Vec::new(),
            max_instances: 3,
            min_idle: 0,
            jobs_per_instance: 0,
            shared: true,
            idle_timeout: Duration::from_secs(180),
            boot_timeout: Duration::from_secs(300),
            reconnect_grace: Duration::from_secs(120),
            lease: Duration::from_secs(600),
            max_lifetime: Duration::from_secs(2 * 3600),
            env: Vec::new(),
        };
        let shared = self.random(2) == 0;
        let min_idle = self.random(2) as u32;
        let project = |name: &str| ProjectSettings { name: name.into(), repo: "repo".into() };
        Settings {
            pools: vec![
                PoolSettings {
                    provisioner: ProvisionerKind::Ec2,
                    candidates: vec!["here".to_owned(), "there".to_owned()],
                    has_bootstrap: true,
                    jobs_per_instance,
                    shared,
                    ..pool("cloud", &["linux"])
                },
                PoolSettings { max_instances: 2, min_idle, ..pool("big", &["linux", "big"]) },
                PoolSettings {
                    provisioner: ProvisionerKind::None,
                    has_bootstrap: true,
                    ..pool("own", &["mac"])
                },
            ],
            projects: vec![project("app"), project("lib")],
            url: "https://ci.example".to_owned(),
        }
    }

    /// A number below `n`.
    pub(crate) fn random(&mut self, n: u64) -> u64 {
        self.luck ^= self.luck << 13;
        self.luck ^= self.luck >> 7;
        self.luck ^= self.luck << 17;
        (self.luck >> 11) % n.max(1)
    }

    /// Whether a fault happens now; while faults last.
    pub(crate) fn fault(&mut self, name: &'static str, per_mille: u64) -> bool {
        let happens = self.random(1000) < per_mille && self.faults;
        if happens {
            *self.counts.entry(name).or_default() += 1;
            self.note(|| format!("-- {name}"));
        }
        happens
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let line: String = line().chars().take(LINE_CHARS_MAX).collect();
            trace.push(format!("{} {line}", &self.now.to_string()[11..]));
        }
    }

    pub(crate) fn later(&mut self, delay_ms: u64, happening: Happening) {
        self.at(self.now + Duration::from_millis(delay_ms), happening);
    }

    pub(crate) fn at(&mut self, at: Timestamp, happening: Happening) {
        self.n_happenings += 1;
        self.heap.insert((at, self.n_happenings), happening);
    }

    /// Word to the master from an adapter in its process.
    pub(crate) fn tell_master(&mut self, delay_ms: u64, event: Event) {
        let life = self.life;
        self.later(delay_ms, Happening::ToMaster { life, connection: None, event });
    }

    pub(crate) fn reply_to(&mut self, waiter: Waiter) -> ReplyId {
        self.last_reply += 1;
        let reply = ReplyId(self.last_reply);
        self.waiters.insert(reply, waiter);
        reply
    }

    /// Lets everything happen until then.
    pub(crate) fn run_until(&mut self, end: Timestamp) {
        loop {
            let next = self.heap.first_key_value().map(|((at, _), _)| *at);
            let due = self.it.as_ref().and_then(Coordinator::next_timeout);
            let at = match (next, due) {
                (Some(next), Some(due)) => next.min(due),
                (Some(at), None) | (None, Some(at)) => at,
                (None, None) => break,
            };
            if at > end {
                break;
            }
            self.now = self.now.max(at);
            if due == Some(at) {
                self.deliver(Event::Tick);
                let due = self.it.as_ref().and_then(Coordinator::next_timeout);
                assert!(due.is_none_or(|due| due > self.now), "a timer that is due has work done");
            } else if let Some((_, happening)) = self.heap.pop_first() {
                self.happen(happening);
            }
        }
        self.now = end;
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::ToMaster { life, connection, event } => {
                let is_open = connection.is_none_or(|connection| self.open.contains(&connection));
                // Whose asker was refused by a failed commit never reaches the domain.
                let is_wanted = match &event {
                    Event::Asked(reply, _) | Event::Agent(AgentEvent::Hello { reply, .. }) => {
                        self.waiters.contains_key(reply)
                    }
                    _ => true,
                };
                if life == self.life && is_open && is_wanted && self.it.is_some() {
                    if self.waits_for_log(&event) {
                        let again = Happening::ToMaster { life, connection, event };
                        return self.later(500, again);
                    }
                    if let Event::Agent(AgentEvent::Disconnected { connection, .. }) = &event {
                        self.open.remove(connection);
                    }
                    self.deliver(event);
                }
            }
            Happening::Chunk(chunk) => self.chunk_comes(chunk),
            Happening::LogSynced(life, connection, worker, attempt) => {
                self.log_synced(life, connection, &worker, attempt);
            }
            Happening::LogRetried(life, connection, worker, attempt) => {
                self.log_retried(life, connection, &worker, attempt);
            }
            Happening::Cloud(step) => self.cloud_step(step),
            Happening::Agent(name, step) => self.agent_step(&name, step),
            Happening::People(step) => self.people_step(step),
            Happening::MasterCrashes => {
                if self.faults {
                    let next = 120_000 + self.random(2_400_000);
                    self.later(next, Happening::MasterCrashes);
                    if self.it.is_some() {
                        *self.counts.entry("master crashes").or_default() += 1;
                        self.crash();
                    }
                }
            }
            Happening::MasterStarts => self.start_master(),
        }
    }

    /// One event through decide, commit, act and answer; or through a part of it.
    pub(crate) fn deliver(&mut self, event: Event) {
        let event = self.stale_made_fresh(event);
        self.note(|| format!("{event:?}"));
        self.n_events += 1;
        let Some(it) = &mut self.it else { return };
        let greeting = match &event {
            Event::Agent(AgentEvent::Hello { reply, .. }) => Some(*reply),
            _ => None,
        };
        let Decision { remember, perform, answers } = it.handle(self.now, event);
        let is_answered = |reply: ReplyId| answers.iter().any(|(to, _)| *to == reply);
        assert!(greeting.is_none_or(is_answered), "every greeting is answered at once");
        for record in &remember {
            self.note(|| format!("    remember {}", in_short(record)));
        }
        self.it.iter().for_each(Coordinator::check_invariants);
        if self.planted == Planted::ActBeforeCommit && !remember.is_empty() {
            self.act_all(perform, answers);
            if self.fault("crash between act and commit", 40) {
                return self.crash();
            }
            return self.commit(remember);
        }
        if !remember.is_empty() {
            if self.planted == Planted::CommitDropped && self.fault("commit dropped", 20) {
                return self.act_all(perform, answers);
            }
            if self.fault("crash before commit", 2) {
                return self.crash();
            }
            if self.fault("commit failed", 2) {
                return self.start_over();
            }
            self.commit(remember);
            if self.fault("crash between commit and act", 5) {
                return self.crash();
            }
        }
        self.act_all(perform, answers);
    }

    fn commit(&mut self, records: Vec<Record>) {
        self.laws.before_commit(&self.disk, &records, &self.people);
        for record in records.iter().cloned() {
            self.disk.write(record);
        }
        self.laws.after_commit(&self.disk, &records);
        if self.n_events.is_multiple_of(64) {
            self.laws.now_and_then(&self.disk);
        }
    }

    fn act_all(&mut self, actions: Vec<Action>, answers: Vec<(ReplyId, Answer)>) {
        for action in actions {
            self.note(|| format!("    perform {action:?}"));
            match action {
                Action::ResolveChange(change) => self.resolve(change),
                Action::LoadBuild { project, number } => self.load_build(project, number),
                Action::Prepare { instance, .. } => self.prepare(instance),
                Action::Launch { instance, launch, pool, worker, .. } => {
                    self.launch(instance, launch, pool, worker);
                }
                Action::Terminate { instance, launch, .. } => self.terminate(instance, launch),
                Action::KeepConsole { .. } => {}
                Action::ListInstances(pool) => self.list(pool),
                Action::Tell { worker, connection, message } => {
                    self.tell_agent(worker, connection, message);
                }
                Action::Disconnect { connection, .. } => self.disconnect(connection),
                Action::Alarm(_) => *self.counts.entry("alarm").or_default() += 1,
            }
        }
        for (reply, answer) in answers {
            let waiter = self.waiters.remove(&reply);
            match waiter.expect("an answer has somebody who waits, and is given once") {
                Waiter::Agent(name, connection) => self.answer_agent(name, connection, answer),
                Waiter::Person => self.answer_person(&answer),
            }
        }
    }

    /// The process dies: what its adapters had under way dies with it, and so does every connection.
    fn crash(&mut self) {
        self.note(|| "-- the master dies".to_owned());
        self.it = None;
        self.life += 1;
        self.last_connection = 0;
        self.waiters.clear();
        self.open.clear();
        self.logs_crash();
        self.connections_end();
        let longest = if self.random(10) == 0 { 900_000 } else { 20_000 };
        let down = 1000 + self.random(longest);
        self.later(down, Happening::MasterStarts);
    }

    /// A commit failed: the same process drops its domain and loads it again.
    fn start_over(&mut self) {
        self.waiters.clear();
        self.open.clear();
        self.connections_end();
        self.start_master();
    }

    fn start_master(&mut self) {
        let mut snapshot = self.disk.snapshot();
        if self.planted == Planted::AssignmentsForgotten {
            for attempt in std::mem::take(&mut snapshot.attempts) {
                for worker in &mut snapshot.workers {
                    worker.attempt = worker.attempt.filter(|given| *given != attempt.id);
                }
                for job in snapshot.jobs.iter_mut().filter(|job| job.id == attempt.job) {
                    job.status = busybee::model::status::JobStatus::Queued;
                }
            }
        }
        let seed = self.random(u64::MAX);
        self.note(|| "-- the master starts".to_owned());
        self.it = Some(Coordinator::load(self.settings.clone(), snapshot, self.now, seed));
        self.deliver(Event::Tick);
    }

    /// `StaleResultAccepted`: makes a result of an older attempt look like the newest one's.
    fn stale_made_fresh(&mut self, event: Event) -> Event {
        if self.planted != Planted::StaleResultAccepted {
            return event;
        }
        match event {
            Event::Agent(AgentEvent::AttemptFinished { worker, attempt, outcome }) => {
                let (worker, attempt) = self.newest_of(attempt).unwrap_or((worker, attempt));
                Event::Agent(AgentEvent::AttemptFinished { worker, attempt, outcome })
            }
            other => other,
        }
    }

    fn newest_of(&self, attempt: AttemptRef) -> Option<(WorkerName, AttemptRef)> {
        let job = self.disk.jobs.get(&self.disk.attempts.get(&attempt.attempt)?.job)?;
        let newest = self.disk.attempts.get(&job.attempt?)?;
        Some((newest.worker.clone(), newest.id))
    }
}

/// A record without what never changes.
fn in_short(record: &Record) -> String {
    match record {
        Record::Job(job) => format!(
            "{} of build {}: {} {:?} {:?} {:?} {:?}",
            job.spec.name, job.build, job.status, job.attempt, job.fence, job.worker, job.reason
        ),
        Record::Worker(worker) => format!(
            "{}: {} {:?} {:?} boot {:?}",
            worker.name, worker.status, worker.attempt, worker.reason, worker.boot_id
        ),
        Record::Instance(instance) => {
            format!("{} of {}: {}", instance.id, instance.worker, instance.status)
        }
        Record::Build(build) => format!("{}/{}: {}", build.project, build.number, build.status),
        other => format!("{other:?}"),
    }
}
