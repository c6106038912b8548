//! The outside of a master, in virtual time: a cloud, agents, people, and everything that goes wrong.

use std::collections::BTreeMap;

use busybee::master::domain::coordinator::Coordinator;
use busybee::master::domain::decision::Action;
use busybee::master::domain::decision::Answer;
use busybee::master::domain::decision::Decision;
use busybee::master::domain::decision::ReplyId;
use busybee::master::domain::decision::ToAgent;
use busybee::master::domain::event::AgentEvent;
use busybee::master::domain::event::AgentHello;
use busybee::master::domain::event::Event;
use busybee::master::domain::event::InventoryItem;
use busybee::master::domain::event::Machine;
use busybee::master::domain::event::Proof;
use busybee::master::domain::event::Request;
use busybee::master::domain::settings::Settings;
use busybee::model::attempt::AttemptOutcome;
use busybee::model::attempt::AttemptRef;
use busybee::model::attempt::AttemptSpec;
use busybee::model::ids::AttemptId;
use busybee::model::ids::CloudId;
use busybee::model::ids::ConnectionId;
use busybee::model::ids::InstanceId;
use busybee::model::ids::LaunchId;
use busybee::model::ids::WorkerName;
use busybee::model::step::StepOutcome;
use busybee::model::time::Timestamp;

use crate::disk::Disk;
use crate::laws;
use crate::scenery;

pub(crate) use crate::scenery::MAX_INSTANCES;

/// Planted bugs: the laws must find each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mutation {
    None,
    /// Performs first, and may end before it has committed.
    ActBeforeCommit,
    /// Now and then a commit is lost, and the master goes on as if it were not.
    LoseCommits,
    /// Assignments are not remembered.
    ForgetAssignments,
    /// Agents go on when their lease is over.
    IgnoreLease,
}

/// An attempt in an agent's hands.
pub(crate) struct Run {
    /// How it ended, once it has.
    pub(crate) ended: Option<AttemptOutcome>,
    lease_ends: u64,
}

/// An agent, which outlives connections and masters.
pub(crate) struct Agent {
    epoch: u64,
    is_bound: bool,
    bootstrapped: bool,
    connection: Option<ConnectionId>,
    pub(crate) attempts: BTreeMap<AttemptRef, Run>,
    last_ack: u64,
}

/// What will happen outside.
#[derive(Clone, Debug)]
enum Next {
    Event(Event),
    Dial(WorkerName),
    Heartbeat(WorkerName, ConnectionId),
    AttemptEnds(WorkerName, AttemptRef, AttemptOutcome),
    LeaseEnds(WorkerName, AttemptRef),
    Hangup(WorkerName),
    Vanish(LaunchId),
}

/// The world.
pub(crate) struct World {
    rng: u64,
    pub(crate) now: u64,
    seq: u64,
    heap: BTreeMap<(u64, u64), Next>,
    pub(crate) disk: Disk,
    pub(crate) master: Coordinator,
    settings: Settings,
    pub(crate) machines: BTreeMap<LaunchId, WorkerName>,
    pub(crate) agents: BTreeMap<WorkerName, Agent>,
    /// What each attempt really came to.
    pub(crate) truth: BTreeMap<AttemptId, AttemptOutcome>,
    greeting: BTreeMap<ReplyId, (WorkerName, ConnectionId)>,
    last_reply: u64,
    last_connection: u64,
    pub(crate) faults: bool,
    mutation: Mutation,
    pub(crate) trace: Vec<String>,
}

impl World {
    pub(crate) fn new(seed: u64, mutation: Mutation) -> World {
        let settings = scenery::settings();
        let disk = Disk::default();
        let master = Coordinator::load(settings.clone(), disk.snapshot(), Timestamp(0), seed);
        World {
            rng: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            now: 0,
            seq: 0,
            heap: BTreeMap::new(),
            disk,
            master,
            settings,
            machines: BTreeMap::new(),
            agents: BTreeMap::new(),
            truth: BTreeMap::new(),
            greeting: BTreeMap::new(),
            last_reply: 0,
            last_connection: 0,
            faults: true,
            mutation,
            trace: Vec::new(),
        }
    }

    pub(crate) fn random(&mut self, below: u64) -> u64 {
        self.rng ^= self.rng << 13;
        self.rng ^= self.rng >> 7;
        self.rng ^= self.rng << 17;
        self.rng % below
    }

    /// Whether a fault of this likelihood, in thousandths, happens now.
    fn fault(&mut self, per_mille: u64) -> bool {
        self.faults && self.random(1000) < per_mille
    }

    fn later(&mut self, ms: u64, next: Next) {
        self.seq += 1;
        self.heap.insert((self.now + ms, self.seq), next);
    }

    /// An event on its way: sometimes late, sometimes twice.
    fn send(&mut self, event: Event) {
        let ms = 1 + self.random(50) + if self.fault(20) { self.random(20_000) } else { 0 };
        if self.fault(20) {
            let again = ms + self.random(5_000);
            self.later(again, Next::Event(event.clone()));
        }
        self.later(ms, Next::Event(event));
    }

    pub(crate) fn ask(&mut self, at: u64, request: Request) {
        self.last_reply += 1;
        let event = Event::Asked(ReplyId(self.last_reply), request);
        self.seq += 1;
        self.heap.insert((at, self.seq), Next::Event(event));
    }

    /// A listing of a repository comes at this moment.
    pub(crate) fn listed(&mut self, at: u64, event: Event) {
        self.seq += 1;
        self.heap.insert((at, self.seq), Next::Event(event));
    }

    /// A machine of one's own: its agent dials from the start.
    pub(crate) fn plug_in(&mut self, at: u64, worker: &str) {
        self.seq += 1;
        self.heap.insert((at, self.seq), Next::Dial(worker.into()));
    }

    pub(crate) fn note(&mut self, line: String) {
        self.trace.push(format!("{:>9} {line}", self.now));
    }

    /// Lets things happen until this moment.
    pub(crate) fn run_until(&mut self, end: u64) {
        loop {
            let timeout = self.master.next_timeout().map(|at| at.0.max(self.now));
            let next = self.heap.keys().next().map(|(at, _)| *at);
            let Some(at) = [timeout, next].into_iter().flatten().min().filter(|at| *at <= end)
            else {
                break;
            };
            self.now = at;
            if timeout == Some(at) {
                self.deliver(Event::Tick);
            } else if let Some((_, next)) = self.heap.pop_first() {
                self.happen(next);
            }
        }
        self.now = end;
    }

    fn happen(&mut self, next: Next) {
        match next {
            Next::Event(event) => self.deliver(event),
            Next::Dial(worker) => self.dial(worker),
            Next::Heartbeat(worker, connection) => self.heartbeat(worker, connection),
            Next::AttemptEnds(worker, attempt, outcome) => self.end(&worker, attempt, outcome),
            Next::LeaseEnds(worker, attempt) => self.lease_ends(&worker, attempt),
            Next::Hangup(worker) => self.hang_up(&worker),
            Next::Vanish(launch) => {
                if let Some(worker) = self.machines.remove(&launch) {
                    self.note(format!("-- the machine of {worker} vanishes --"));
                    self.agents.remove(&worker);
                }
            }
        }
    }

    // --- The master

    fn deliver(&mut self, event: Event) {
        self.note(format!("{event:?}"));
        if let Event::Agent(AgentEvent::AttemptAccepted(_, attempt)) = &event
            && let Some(row) = self.disk.attempts.get(&attempt.attempt).cloned()
            && self.disk.jobs.get(&row.job).is_some_and(|job| job.attempt == Some(row.id.attempt))
        {
            laws::needs_have_passed(self, row.job);
        }
        let decision = self.master.handle(Timestamp(self.now), event);
        let ends_between = self.fault(5);
        if self.mutation == Mutation::ActBeforeCommit && ends_between {
            self.act(decision);
            return self.restart();
        }
        let is_lost = self.mutation == Mutation::LoseCommits && self.fault(20);
        if !is_lost {
            for record in decision.remember.iter().cloned() {
                let is_attempt =
                    matches!(record, busybee::master::domain::decision::Record::Attempt(_));
                if self.mutation != Mutation::ForgetAssignments || !is_attempt {
                    self.disk.write(record);
                }
            }
        }
        if ends_between {
            return self.restart();
        }
        self.act(decision);
        laws::always(self);
    }

    fn restart(&mut self) {
        self.note("-- the master ends between commit and act, and starts again --".into());
        let seed = self.random(u64::MAX);
        let (settings, snapshot) = (self.settings.clone(), self.disk.snapshot());
        self.master = Coordinator::load(settings, snapshot, Timestamp(self.now), seed);
        self.greeting.clear();
        let workers: Vec<WorkerName> = self.agents.keys().cloned().collect();
        for worker in workers {
            if let Some(agent) = self.agents.get_mut(&worker)
                && agent.connection.take().is_some()
            {
                let ms = 200 + self.random(5_000);
                self.later(ms, Next::Dial(worker));
            }
        }
    }

    fn act(&mut self, decision: Decision) {
        for action in decision.perform {
            self.note(format!("  -> {action:?}"));
            self.perform(action);
        }
        for (reply, answer) in decision.answers {
            if let Some((worker, connection)) = self.greeting.remove(&reply) {
                self.greeted(worker, connection, answer);
            }
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::ResolveChange(change) => {
                let event = if self.fault(100) {
                    let (change, worth_retrying) = (change.change, true);
                    Event::ChangeUnresolved { change, sentence: "down".into(), worth_retrying }
                } else {
                    let jobs = self.random(4);
                    Event::ChangeResolved(change.change, scenery::resolved(jobs))
                };
                self.send(event);
            }
            Action::LoadBuild { project, number } => {
                let found = self.disk.load_build(&project, number);
                self.send(Event::BuildLoaded { project, number, found });
            }
            Action::Launch { instance, launch, worker, .. } => self.boot(instance, launch, worker),
            Action::Terminate { instance, launch, .. } => {
                if self.fault(100) {
                    return; // The call was lost.
                }
                if let Some(worker) = self.machines.remove(&launch) {
                    self.agents.remove(&worker);
                }
                if let Some(instance) = instance {
                    self.send(Event::InstanceEnded { instance, sentence: None });
                }
            }
            Action::ListInstances(pool) => {
                let asked_at = Timestamp(self.now);
                let event = if self.fault(50) {
                    Event::CloudUnlisted { pool, sentence: "throttled".into() }
                } else {
                    let machine = |launch: &LaunchId| Machine {
                        cloud_id: CloudId(format!("i-{launch}")),
                        launch: launch.clone(),
                        alive: true,
                    };
                    let machines = self.machines.keys().map(machine).collect();
                    Event::CloudListed { pool, asked_at, machines }
                };
                self.send(event);
            }
            Action::Tell { worker, connection, message } => self.tell(&worker, connection, message),
            Action::Disconnect { connection, .. } => {
                let mut agents = self.agents.iter();
                let found = agents.find(|(_, agent)| agent.connection == Some(connection));
                if let Some(worker) = found.map(|(worker, _)| worker.clone()) {
                    self.hang_up(&worker);
                }
            }
            Action::Alarm(sentence) => panic!("an alarm without an attack: {sentence}"),
        }
    }

    // --- The cloud

    fn boot(&mut self, instance: InstanceId, launch: LaunchId, worker: WorkerName) {
        let cloud_id = CloudId(format!("i-{launch}"));
        if self.machines.contains_key(&launch) {
            return self.send(Event::InstanceAccepted { instance, cloud_id });
        }
        if self.fault(100) {
            let sentence = "no capacity".to_owned();
            return self.send(Event::LaunchFailed { instance, sentence, needs_a_person: false });
        }
        self.machines.insert(launch.clone(), worker.clone());
        self.send(Event::InstanceAccepted { instance, cloud_id });
        if !self.fault(100) {
            let ms = 5_000 + self.random(40_000);
            self.later(ms, Next::Dial(worker));
        }
        if self.fault(100) {
            let ms = self.random(600_000);
            self.later(ms, Next::Vanish(launch));
        }
    }

    // --- Agents

    fn lives(&self, worker: &WorkerName) -> bool {
        worker.as_str() == scenery::OWN_WORKER || self.machines.values().any(|name| name == worker)
    }

    fn dial(&mut self, worker: WorkerName) {
        if !self.lives(&worker) {
            return;
        }
        let agent = self.agents.entry(worker.clone()).or_insert_with(|| Agent {
            epoch: 1,
            is_bound: false,
            bootstrapped: false,
            connection: None,
            attempts: BTreeMap::new(),
            last_ack: 0,
        });
        if agent.connection.is_some() {
            return;
        }
        let hello = AgentHello {
            proof: if agent.is_bound { Proof::Key } else { Proof::Password },
            public_key: worker.as_str().as_bytes().to_vec(),
            epoch: agent.epoch,
            instance_claim: String::new(),
            boot_id: "boot".into(),
            version: "simulated".into(),
        };
        self.last_connection += 1;
        self.last_reply += 1;
        let (connection, reply) = (ConnectionId(self.last_connection), ReplyId(self.last_reply));
        self.greeting.insert(reply, (worker.clone(), connection));
        let event = AgentEvent::Hello { reply, worker, connection, hello };
        self.deliver(Event::Agent(event));
    }

    fn greeted(&mut self, worker: WorkerName, connection: ConnectionId, answer: Answer) {
        let is_welcome = matches!(answer, Answer::Welcome(_));
        let is_refused = matches!(answer, Answer::Refused(_));
        let now = self.now;
        let Some(agent) = self.agents.get_mut(&worker) else { return };
        if is_refused && worker.as_str() != scenery::OWN_WORKER {
            return; // It ends; its machine is the master's to end.
        }
        if !is_welcome {
            let ms = 1_000 + self.random(5_000);
            return self.later(ms, Next::Dial(worker));
        }
        agent.is_bound = true;
        agent.connection = Some(connection);
        agent.last_ack = now;
        let item = |(attempt, run): (&AttemptRef, &Run)| InventoryItem {
            attempt: *attempt,
            finished: run.ended.is_some(),
        };
        let attempts: Vec<InventoryItem> = agent.attempts.iter().map(item).collect();
        let bootstrapped = agent.bootstrapped;
        let ended: Vec<(AttemptRef, AttemptOutcome)> = agent
            .attempts
            .iter()
            .filter_map(|(attempt, run)| Some((*attempt, run.ended.clone()?)))
            .collect();
        let inventory =
            AgentEvent::Inventory { worker: worker.clone(), connection, bootstrapped, attempts };
        self.later(1, Next::Event(Event::Agent(inventory)));
        for (attempt, outcome) in ended {
            let worker = worker.clone();
            let event = AgentEvent::AttemptFinished { worker, attempt, outcome };
            self.later(2, Next::Event(Event::Agent(event)));
        }
        self.later(10_000, Next::Heartbeat(worker.clone(), connection));
        if self.fault(150) {
            let ms = self.random(300_000);
            self.later(ms, Next::Hangup(worker));
        }
    }

    fn heartbeat(&mut self, worker: WorkerName, connection: ConnectionId) {
        let now = self.now;
        let lives = self.lives(&worker);
        let Some(agent) = self.agents.get_mut(&worker).filter(|_| lives) else { return };
        if agent.connection != Some(connection) {
            return;
        }
        agent.last_ack = now;
        for (attempt, run) in &mut agent.attempts {
            run.lease_ends = now + scenery::LEASE_MS;
            let next = Next::LeaseEnds(worker.clone(), *attempt);
            self.seq += 1;
            self.heap.insert((run.lease_ends, self.seq), next);
        }
        let event = AgentEvent::Heartbeat { worker: worker.clone(), connection };
        self.later(1, Next::Event(Event::Agent(event)));
        self.later(10_000, Next::Heartbeat(worker, connection));
    }

    /// The connection is gone; sometimes for longer than any grace.
    fn hang_up(&mut self, worker: &WorkerName) {
        let Some(agent) = self.agents.get_mut(worker) else { return };
        let Some(connection) = agent.connection.take() else { return };
        self.note(format!("-- {worker} hangs up --"));
        let ms = if self.fault(300) { self.random(3_000_000) } else { self.random(30_000) };
        self.later(500 + ms, Next::Dial(worker.clone()));
        if !self.fault(300) {
            let event = AgentEvent::Disconnected { worker: worker.clone(), connection };
            self.send(Event::Agent(event));
        }
    }

    fn tell(&mut self, worker: &WorkerName, connection: ConnectionId, message: ToAgent) {
        let lives = self.lives(worker);
        let Some(agent) = self.agents.get_mut(worker).filter(|_| lives) else { return };
        if agent.connection != Some(connection) {
            return;
        }
        match message {
            ToAgent::Run(spec) => self.take(worker, &spec),
            ToAgent::Cancel(attempt) => {
                let ms = self.random(2_000);
                let next = Next::AttemptEnds(worker.clone(), attempt, AttemptOutcome::Cancelled);
                self.later(ms, next);
            }
            ToAgent::Forget(attempt) => {
                agent.attempts.remove(&attempt);
            }
            ToAgent::Bootstrap => self.bootstrap(worker, connection),
            ToAgent::Drain => {}
            ToAgent::Shutdown { sentence } => {
                self.agents.remove(worker);
                let event = AgentEvent::Leaving { worker: worker.clone(), sentence };
                self.send(Event::Agent(event));
            }
        }
    }

    fn bootstrap(&mut self, worker: &WorkerName, connection: ConnectionId) {
        // A machine of one's own that cannot be prepared is given up, and its jobs wait for a person.
        let fails = self.fault(100) && worker.as_str() != scenery::OWN_WORKER;
        if let Some(agent) = self.agents.get_mut(worker) {
            agent.bootstrapped = !fails;
        }
        let outcome = StepOutcome::Exited(i32::from(fails));
        let (worker, tail) = (worker.clone(), "the last line".to_owned());
        let event = AgentEvent::BootstrapFinished { worker, connection, outcome, tail };
        let ms = self.random(60_000);
        self.later(ms, Next::Event(Event::Agent(event)));
    }

    fn take(&mut self, worker: &WorkerName, spec: &AttemptSpec) {
        let attempt = spec.id;
        let lease_ends = self.now + scenery::LEASE_MS;
        let Some(agent) = self.agents.get_mut(worker) else { return };
        let accepted = Event::Agent(AgentEvent::AttemptAccepted(worker.clone(), attempt));
        if agent.attempts.contains_key(&attempt) {
            return self.send(accepted);
        }
        agent.attempts.insert(attempt, Run { ended: None, lease_ends });
        self.later(1, Next::Event(accepted));
        self.later(scenery::LEASE_MS, Next::LeaseEnds(worker.clone(), attempt));
        let outcome = match self.random(10) {
            0 | 1 => AttemptOutcome::Failed,
            2 if self.faults => AttemptOutcome::Infra("the disk is full".into()),
            _ => AttemptOutcome::Passed,
        };
        let ms = 1_000 + self.random(300_000);
        self.later(ms, Next::AttemptEnds(worker.clone(), attempt, outcome));
    }

    fn end(&mut self, worker: &WorkerName, attempt: AttemptRef, outcome: AttemptOutcome) {
        let lives = self.lives(worker);
        let Some(agent) = self.agents.get_mut(worker).filter(|_| lives) else { return };
        let is_connected = agent.connection.is_some();
        let Some(run) = agent.attempts.get_mut(&attempt) else { return };
        if run.ended.is_some() {
            return;
        }
        run.ended = Some(outcome.clone());
        self.truth.insert(attempt.attempt, outcome.clone());
        if is_connected {
            let worker = worker.clone();
            self.send(Event::Agent(AgentEvent::AttemptFinished { worker, attempt, outcome }));
        }
    }

    fn lease_ends(&mut self, worker: &WorkerName, attempt: AttemptRef) {
        let now = self.now;
        let run = self.agents.get(worker).and_then(|agent| agent.attempts.get(&attempt));
        let is_over = run.is_some_and(|run| run.lease_ends <= now && run.ended.is_none());
        if is_over && self.mutation != Mutation::IgnoreLease {
            let outcome = AttemptOutcome::Infra("the lease is over".into());
            self.end(worker, attempt, outcome);
        }
    }
}
