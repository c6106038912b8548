//! What runs on instances of paper: an agent that calls when its instance is up, does what it is told in a
//! few seconds of virtual time, and goes when its instance goes.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use busybee::master::domain::decision::Answer;
use busybee::master::domain::decision::ReplyId;
use busybee::master::domain::decision::ToAgent;
use busybee::master::domain::event::AgentEvent;
use busybee::master::domain::event::AgentHello;
use busybee::master::domain::event::Event;
use busybee::master::domain::event::InventoryItem;
use busybee::master::domain::event::Proof;
use busybee::model::attempt::AttemptOutcome;
use busybee::model::attempt::AttemptRef;
use busybee::model::ids::ConnectionId;
use busybee::model::ids::WorkerName;
use busybee::model::time::Timestamp;

use crate::control::RealInstance;

/// From an instance's start to its agent's first call, and between two calls.
const CALL_AFTER: Duration = Duration::from_secs(4);

/// How long a job takes.
pub(crate) const JOB: Duration = Duration::from_secs(20);

/// Between two heartbeats.
const BEAT: Duration = Duration::from_secs(10);

/// Without a master for this long an instance shuts itself down: its own timer, or its agent. In truth it is
/// a quarter of an hour; here it is longer than any history, so that only the master counts.
const LONELY: Duration = Duration::from_secs(6 * 3600);

/// One machine's agent.
#[derive(Debug)]
struct Machine {
    id: String,
    connection: Option<ConnectionId>,
    boot: u32,
    attempt: Option<(AttemptRef, Timestamp)>,
    call_at: Option<Timestamp>,
    beat_at: Timestamp,
    lonely_since: Timestamp,
    shuts_down: bool,
}

/// All of them, by the worker that they are.
#[derive(Debug, Default)]
pub(crate) struct Machines {
    machines: BTreeMap<WorkerName, Machine>,
    /// Who was answered, by the number that the answer will have.
    greetings: BTreeMap<ReplyId, WorkerName>,
    /// What their disks keep: whose agents have a key, and how often each was started.
    enrolled: BTreeSet<String>,
    boots: BTreeMap<String, u32>,
    last: u64,
    /// Whether they do not shut down when they are told to, so that the master must end them.
    pub(crate) are_deaf: bool,
}

impl Machines {
    /// Instances come and go: who has come up will call, who is gone has hung up.
    pub(crate) fn see(&mut self, now: Timestamp, real: &[RealInstance]) -> Vec<Event> {
        let mut events = Vec::new();
        let runs = |id: &str| real.iter().any(|one| one.id == id && one.state == "running");
        self.machines.retain(|name, machine| {
            if runs(&machine.id) {
                return true;
            }
            if let Some(connection) = machine.connection {
                let worker = name.clone();
                events.push(Event::Agent(AgentEvent::Disconnected { worker, connection }));
            }
            false
        });
        for one in real.iter().filter(|one| one.state == "running") {
            let name = WorkerName::from(one.worker.as_str());
            let boots = &mut self.boots;
            self.machines.entry(name).or_insert_with(|| Machine {
                id: one.id.clone(),
                connection: None,
                boot: {
                    let boot = boots.entry(one.id.clone()).or_insert(0);
                    *boot += 1;
                    *boot
                },
                attempt: None,
                call_at: Some(now + CALL_AFTER),
                beat_at: now + BEAT,
                lonely_since: now,
                shuts_down: false,
            });
        }
        events
    }

    /// The master is gone, and with it every connection.
    pub(crate) fn hung_up_on(&mut self, now: Timestamp) {
        self.greetings.clear();
        for machine in self.machines.values_mut() {
            if machine.connection.take().is_some() {
                machine.lonely_since = now;
            }
            machine.call_at = Some(now + CALL_AFTER);
        }
    }

    /// When one of them has something to do.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        let all = self.machines.values().flat_map(|machine| {
            let done_at = machine.attempt.map(|(_, done_at)| done_at);
            let done_at = done_at.filter(|_| machine.connection.is_some());
            let beat_at = machine.connection.map(|_| machine.beat_at);
            let lonely = machine.connection.is_none().then_some(machine.lonely_since + LONELY);
            [done_at, machine.call_at, beat_at, lonely]
        });
        all.flatten().min()
    }

    /// What they do now. Whoever shuts its machine down is in the second list, by the instance's id.
    pub(crate) fn act(&mut self, now: Timestamp) -> (Vec<Event>, Vec<String>) {
        let (mut events, mut ended) = (Vec::new(), Vec::new());
        for (name, machine) in &mut self.machines {
            let is_lonely = machine.connection.is_none() && machine.lonely_since + LONELY <= now;
            if machine.shuts_down || is_lonely {
                ended.push(machine.id.clone());
                continue;
            }
            if machine.call_at.is_some_and(|at| at <= now) {
                machine.call_at = None;
                self.last += 1;
                let (reply, connection) = (ReplyId(1_000_000 + self.last), ConnectionId(self.last));
                machine.connection = Some(connection);
                self.greetings.insert(reply, name.clone());
                let hello = hello(machine, self.enrolled.contains(&machine.id));
                let worker = name.clone();
                events.push(Event::Agent(AgentEvent::Hello { reply, worker, connection, hello }));
            }
            let Some(connection) = machine.connection else { continue };
            if machine.beat_at <= now {
                machine.beat_at = now + BEAT;
                let worker = name.clone();
                events.push(Event::Agent(AgentEvent::Heartbeat { worker, connection }));
            }
            if let Some((attempt, at)) = machine.attempt
                && at <= now
            {
                // Told again and again until it is to be forgotten.
                machine.attempt = Some((attempt, now + BEAT));
                let (worker, outcome) = (name.clone(), AttemptOutcome::Passed);
                events.push(Event::Agent(AgentEvent::AttemptFinished { worker, attempt, outcome }));
            }
        }
        (events, ended)
    }

    /// The answer to a greeting.
    pub(crate) fn answered(
        &mut self,
        now: Timestamp,
        reply: ReplyId,
        answer: &Answer,
    ) -> Option<Event> {
        let worker = self.greetings.remove(&reply)?;
        let machine = self.machines.get_mut(&worker)?;
        match answer {
            Answer::Welcome(_) => {
                self.enrolled.insert(machine.id.clone());
                let connection = machine.connection?;
                let attempts = machine.attempt.iter();
                let attempts = attempts
                    .map(|(attempt, at)| InventoryItem { attempt: *attempt, finished: *at <= now });
                let attempts = attempts.collect();
                let bootstrapped = false;
                let up = Duration::ZERO;
                let inventory =
                    AgentEvent::Inventory { worker, connection, bootstrapped, attempts, up };
                return Some(Event::Agent(inventory));
            }
            Answer::CallAgain(_) => {
                machine.connection = None;
                machine.call_at = Some(now + CALL_AFTER);
            }
            // Nothing speaks for it any more; its timer ends it.
            _ => machine.connection = None,
        }
        None
    }

    /// The master tells one something.
    pub(crate) fn told(
        &mut self,
        now: Timestamp,
        worker: &WorkerName,
        connection: ConnectionId,
        message: ToAgent,
    ) -> Option<Event> {
        let machine = self.machines.get_mut(worker)?;
        if machine.connection != Some(connection) {
            return None;
        }
        match message {
            ToAgent::Run(spec) => {
                if machine.attempt.is_none_or(|(attempt, _)| attempt != spec.id) {
                    machine.attempt = Some((spec.id, now + JOB));
                }
                Some(Event::Agent(AgentEvent::AttemptAccepted(worker.clone(), spec.id)))
            }
            ToAgent::Cancel(attempt) => {
                machine.attempt = None;
                let (worker, outcome) = (worker.clone(), AttemptOutcome::Cancelled);
                Some(Event::Agent(AgentEvent::AttemptFinished { worker, attempt, outcome }))
            }
            ToAgent::Forget(_) => {
                machine.attempt = None;
                None
            }
            ToAgent::Shutdown { .. } => {
                machine.shuts_down = !self.are_deaf;
                machine.beat_at = now + CALL_AFTER;
                None
            }
            _ => None,
        }
    }

    /// The master hangs up.
    pub(crate) fn disconnected(&mut self, now: Timestamp, connection: ConnectionId) {
        for machine in self.machines.values_mut() {
            if machine.connection == Some(connection) {
                machine.connection = None;
                machine.lonely_since = now;
                machine.call_at = Some(now + CALL_AFTER);
            }
        }
    }
}

fn hello(machine: &Machine, has_key: bool) -> AgentHello {
    AgentHello {
        proof: if has_key { Proof::Key } else { Proof::Password },
        public_key: machine.id.clone().into_bytes(),
        epoch: 1,
        instance_claim: machine.id.clone(),
        boot_id: format!("boot {} of {}", machine.boot, machine.id),
        version: "1".to_owned(),
    }
}
