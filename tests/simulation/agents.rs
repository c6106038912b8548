//! The fake agents: they greet, tell what they have, run what they are given while their lease
//! lasts, and tell results until the master has them. They lose connections, restart and reboot.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use busybee::master::domain::decision::Answer;
use busybee::master::domain::decision::ToAgent;
use busybee::master::domain::event::AgentEvent;
use busybee::master::domain::event::AgentHello;
use busybee::master::domain::event::Event;
use busybee::master::domain::event::InventoryItem;
use busybee::master::domain::event::Proof;
use busybee::model::attempt::AttemptOutcome;
use busybee::model::attempt::AttemptRef;
use busybee::model::ids::ConnectionId;
use busybee::model::ids::LaunchId;
use busybee::model::ids::PoolName;
use busybee::model::ids::ProjectName;
use busybee::model::ids::WorkerName;
use busybee::model::step::StepOutcome;
use busybee::model::time::Timestamp;

use crate::cloud::CloudStep;
use crate::logs::Spool;
use crate::world::Happening;
use crate::world::Planted;
use crate::world::Waiter;
use crate::world::World;

/// A connection, and in which process of the master it ends.
pub(crate) type Line = (u64, ConnectionId);

/// Where an attempt stands on the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Run {
    Running,
    Done(AttemptOutcome),
}

#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) pool: PoolName,
    launch: LaunchId,
    key: Vec<u8>,
    is_enrolled: bool,
    pub(crate) epoch: u64,
    boot: u64,
    pub(crate) line: Option<Line>,
    /// The answer to the greeting has come.
    pub(crate) is_welcome: bool,
    is_bootstrapped: bool,
    is_bootstrapping: bool,
    /// It was told to end, and has.
    pub(crate) is_off: bool,
    pub(crate) runs: BTreeMap<AttemptRef, Run>,
    pub(crate) spools: BTreeMap<AttemptRef, Spool>,
    /// Attempts that were cancelled before they came.
    pub(crate) tombstones: BTreeSet<AttemptRef>,
    pub(crate) projects: BTreeSet<ProjectName>,
    lease: Duration,
    lease_until: Timestamp,
    /// Words on one connection arrive in order: when the last one does.
    pub(crate) up_at: Timestamp,
    down_at: Timestamp,
}

/// What happens to an agent, or comes to it.
pub(crate) enum AgentStep {
    /// The process of this epoch calls.
    Calls(u64),
    GivesUpGreeting(Line),
    Answered(Line, Answer),
    Told(Line, ToAgent),
    Beats(Line),
    Acked(Line, Timestamp),
    BootstrapEnds(u64),
    RunEnds(AttemptRef, AttemptOutcome),
    Prints(AttemptRef),
    LogAcked(Line, AttemptRef, usize, Option<usize>),
    LeaseMayBeOver,
}

impl Agent {
    pub(crate) fn new(name: &WorkerName, pool: &PoolName, launch: &LaunchId, salt: u64) -> Agent {
        Agent {
            pool: pool.clone(),
            launch: launch.clone(),
            key: format!("{name} {salt}").into_bytes(),
            is_enrolled: false,
            epoch: 1,
            boot: 1,
            line: None,
            is_welcome: false,
            is_bootstrapped: false,
            is_bootstrapping: false,
            is_off: false,
            runs: BTreeMap::new(),
            spools: BTreeMap::new(),
            tombstones: BTreeSet::new(),
            projects: BTreeSet::new(),
            lease: Duration::ZERO,
            lease_until: Timestamp(0),
            up_at: Timestamp(0),
            down_at: Timestamp(0),
        }
    }

    pub(crate) fn is_running(&self, attempt: AttemptRef) -> bool {
        self.runs.get(&attempt) == Some(&Run::Running)
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.runs.values().any(|run| *run == Run::Running)
    }
}

impl World {
    /// Says something on the agent's connection, if it has one.
    pub(crate) fn say(&mut self, name: &WorkerName, event: AgentEvent) {
        let delay = Duration::from_millis(10 + self.random(300));
        let now = self.now;
        let Some(agent) = self.agents.get_mut(name) else { return };
        let Some((life, connection)) = agent.line else { return };
        agent.up_at = agent.up_at.max(now + delay);
        let at = agent.up_at;
        let connection = Some(connection);
        self.at(at, Happening::ToMaster { life, connection, event: Event::Agent(event) });
    }

    pub(crate) fn send_down(
        &mut self,
        name: &WorkerName,
        step: impl FnOnce(Line) -> AgentStep,
        on: ConnectionId,
    ) {
        let delay = Duration::from_millis(10 + self.random(300));
        let now = self.now;
        let Some(agent) = self.agents.get_mut(name) else { return };
        agent.down_at = agent.down_at.max(now + delay);
        let at = agent.down_at;
        let line = (self.life, on);
        self.at(at, Happening::Agent(name.clone(), step(line)));
    }

    pub(crate) fn tell_agent(
        &mut self,
        name: WorkerName,
        connection: ConnectionId,
        message: ToAgent,
    ) {
        if self.open.contains(&connection) {
            self.send_down(&name, |line| AgentStep::Told(line, message), connection);
        }
    }

    pub(crate) fn answer_agent(
        &mut self,
        name: WorkerName,
        connection: ConnectionId,
        answer: Answer,
    ) {
        self.send_down(&name, |line| AgentStep::Answered(line, answer), connection);
    }

    /// The master closes a connection.
    pub(crate) fn disconnect(&mut self, connection: ConnectionId) {
        self.open.remove(&connection);
        let line = (self.life, connection);
        let found = self.agents.iter().find(|(_, agent)| agent.line == Some(line));
        if let Some((name, _)) = found {
            let name = name.clone();
            self.line_lost(&name);
        }
    }

    /// All connections to this process of the master end.
    pub(crate) fn connections_end(&mut self) {
        let names: Vec<WorkerName> = self.agents.keys().cloned().collect();
        for name in names {
            self.line_lost(&name);
        }
    }

    /// The agent notices that its connection is gone, and will call again.
    fn line_lost(&mut self, name: &WorkerName) {
        let again = match self.fault("network gone", 60) {
            true => 60_000 + self.random(3_600_000),
            false => 1000 + self.random(20_000),
        };
        let Some(agent) = self.agents.get_mut(name) else { return };
        if agent.line.take().is_none() {
            return;
        }
        agent.is_welcome = false;
        let (epoch, over, is_busy) = (agent.epoch, agent.lease_until, agent.is_busy());
        let is_off = agent.is_off;
        if is_busy {
            let over = over.max(self.now);
            self.at(over, Happening::Agent(name.clone(), AgentStep::LeaseMayBeOver));
        }
        if !is_off {
            self.later(again, Happening::Agent(name.clone(), AgentStep::Calls(epoch)));
        }
    }

    /// The agent's end breaks; the master may notice, or only hear nothing more.
    pub(crate) fn hang_up(&mut self, name: &WorkerName) {
        let Some((life, connection)) = self.agents.get(name).and_then(|agent| agent.line) else {
            return;
        };
        if self.random(3) > 0 {
            self.say(name, AgentEvent::Disconnected { worker: name.clone(), connection });
        } else {
            self.note(|| format!("-- connection {connection} of life {life} breaks unnoticed"));
        }
        self.line_lost(name);
    }

    pub(crate) fn agent_step(&mut self, name: &WorkerName, step: AgentStep) {
        let Some(agent) = self.agents.get_mut(name).filter(|agent| !agent.is_off) else { return };
        let is_current = |line: &Line| agent.line == Some(*line);
        match step {
            AgentStep::Calls(epoch) => {
                if agent.epoch == epoch && agent.line.is_none() {
                    self.agent_calls(name);
                }
            }
            AgentStep::GivesUpGreeting(line) => {
                if is_current(&line) && !agent.is_welcome {
                    self.line_lost(name);
                }
            }
            AgentStep::Answered(line, answer) if is_current(&line) => {
                self.agent_answered(name, line, answer);
            }
            AgentStep::Told(line, message) if is_current(&line) => self.agent_told(name, message),
            AgentStep::Beats(line) if is_current(&line) => self.agent_beats(name, line),
            AgentStep::Acked(line, sent_at) if is_current(&line) => {
                agent.lease_until = agent.lease_until.max(sent_at + agent.lease);
            }
            AgentStep::LogAcked(line, attempt, durable, rewind_to) if is_current(&line) => {
                self.log_acked(name, attempt, durable, rewind_to);
            }
            AgentStep::Prints(attempt) => self.prints(name, attempt),
            AgentStep::Answered(..)
            | AgentStep::LogAcked(..)
            | AgentStep::Told(..)
            | AgentStep::Beats(_)
            | AgentStep::Acked(..) => {}
            AgentStep::BootstrapEnds(epoch) => {
                if agent.epoch == epoch && agent.is_bootstrapping {
                    self.bootstrap_ends(name);
                }
            }
            AgentStep::RunEnds(attempt, outcome) => {
                if agent.is_running(attempt) {
                    self.run_ends(name, attempt, outcome);
                }
            }
            AgentStep::LeaseMayBeOver => {
                let is_over = agent.line.is_none() && agent.lease_until <= self.now;
                if is_over && self.planted != Planted::LeaseIgnored {
                    self.all_runs_end(name, "the lease is over");
                }
            }
        }
    }

    fn agent_calls(&mut self, name: &WorkerName) {
        if self.it.is_none() {
            let again = 2000 + self.random(10_000);
            let Some(agent) = self.agents.get(name) else { return };
            let step = AgentStep::Calls(agent.epoch);
            return self.later(again, Happening::Agent(name.clone(), step));
        }
        self.last_connection += 1;
        let connection = ConnectionId(self.last_connection);
        self.open.insert(connection);
        let line = (self.life, connection);
        let Some(agent) = self.agents.get_mut(name) else { return };
        agent.line = Some(line);
        agent.is_welcome = false;
        (agent.up_at, agent.down_at) = (self.now, self.now);
        // What the master has heard of when it accepts is the lease's beginning.
        let hello = AgentHello {
            proof: if agent.is_enrolled { Proof::Key } else { Proof::Password },
            public_key: agent.key.clone(),
            epoch: agent.epoch,
            instance_claim: String::new(),
            boot_id: format!("boot {}", agent.boot),
            version: "1".to_owned(),
        };
        let reply = self.reply_to(Waiter::Agent(name.clone(), connection));
        let worker = name.clone();
        self.say(name, AgentEvent::Hello { reply, worker, connection, hello });
        self.later(30_000, Happening::Agent(name.clone(), AgentStep::GivesUpGreeting(line)));
    }

    fn agent_answered(&mut self, name: &WorkerName, line: Line, answer: Answer) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        let epoch = agent.epoch;
        let again = match answer {
            Answer::Welcome(welcome) => {
                agent.is_enrolled = true;
                agent.is_welcome = true;
                agent.lease = welcome.lease;
                let items = agent.runs.iter().map(|(attempt, run)| InventoryItem {
                    attempt: *attempt,
                    finished: *run != Run::Running,
                });
                let inventory = AgentEvent::Inventory {
                    worker: name.clone(),
                    connection: line.1,
                    bootstrapped: agent.is_bootstrapped,
                    attempts: items.collect(),
                };
                self.say(name, inventory);
                self.ship_again(name);
                self.tell_results(name);
                self.agent_beats(name, line);
                return;
            }
            Answer::CallAgain(_) => 3000,
            _ => 60_000,
        };
        agent.line = None;
        self.later(again, Happening::Agent(name.clone(), AgentStep::Calls(epoch)));
    }

    /// A heartbeat, and whatever may befall an agent.
    fn agent_beats(&mut self, name: &WorkerName, line: Line) {
        let every = match self.agents.get(name) {
            Some(agent) if agent.is_busy() => 10_000,
            Some(_) => 30_000,
            None => return,
        };
        let (worker, connection) = (name.clone(), line.1);
        self.say(name, AgentEvent::Heartbeat { worker, connection });
        // The channel acknowledges it, as long as it has the connection.
        if self.open.contains(&connection) {
            let sent_at = self.now;
            self.send_down(name, |line| AgentStep::Acked(line, sent_at), connection);
        }
        self.tell_results(name);
        self.later(every, Happening::Agent(name.clone(), AgentStep::Beats(line)));
        if self.fault("connection cut", 20) {
            self.hang_up(name);
        } else if self.fault("agent restarts", 8) {
            self.process_restarts(name, false);
        } else if self.fault("machine reboots", 6) {
            self.process_restarts(name, true);
        } else if self.fault("thief calls", 1) {
            self.thief_calls(name);
        }
    }

    fn process_restarts(&mut self, name: &WorkerName, with_machine: bool) {
        self.hang_up(name);
        let keeps_files = self.random(2) == 0;
        if with_machine {
            self.all_runs_end(name, "the machine was rebooted");
        }
        let Some(agent) = self.agents.get_mut(name) else { return };
        agent.epoch += 1;
        agent.is_bootstrapping = false;
        if with_machine {
            agent.boot += 1;
            if !keeps_files {
                agent.spools.clear();
                agent.runs.clear();
            }
        }
        let epoch = agent.epoch;
        let again = 2000 + self.random(30_000);
        self.later(again, Happening::Agent(name.clone(), AgentStep::Calls(epoch)));
    }

    fn thief_calls(&mut self, name: &WorkerName) {
        self.last_connection += 1;
        let connection = ConnectionId(self.last_connection);
        let reply = self.reply_to(Waiter::Agent(name.clone(), connection));
        let hello = AgentHello {
            proof: Proof::Password,
            public_key: b"thief".to_vec(),
            epoch: 1,
            instance_claim: String::new(),
            boot_id: "elsewhere".to_owned(),
            version: "1".to_owned(),
        };
        let worker = name.clone();
        let hello = AgentEvent::Hello { reply, worker, connection, hello };
        self.tell_master(10, Event::Agent(hello));
    }

    pub(crate) fn agent_leaves(&mut self, name: &WorkerName, sentence: String) {
        let Some(agent) = self.agents.get_mut(name) else { return };
        agent.runs.clear();
        agent.spools.clear();
        let launch = agent.launch.clone();
        self.say(name, AgentEvent::Leaving { worker: name.clone(), sentence });
        if let Some(agent) = self.agents.get_mut(name) {
            agent.is_off = true;
        }
        let takes = 2000 + self.random(20_000);
        self.later(takes, Happening::Cloud(CloudStep::Ends(launch, None)));
    }

    pub(crate) fn agent_bootstraps(&mut self, name: &WorkerName) {
        let hangs = self.fault("bootstrap hangs", 40);
        let takes = 3000 + self.random(60_000);
        let Some(agent) = self.agents.get_mut(name) else { return };
        if agent.is_bootstrapping {
            return;
        }
        agent.is_bootstrapping = true;
        let ends = AgentStep::BootstrapEnds(agent.epoch);
        if !hangs {
            self.later(takes, Happening::Agent(name.clone(), ends));
        }
    }

    fn bootstrap_ends(&mut self, name: &WorkerName) {
        let fails = self.fault("bootstrap fails", 80);
        let Some(agent) = self.agents.get_mut(name) else { return };
        agent.is_bootstrapping = false;
        agent.is_bootstrapped = !fails;
        let Some((_, connection)) = agent.line.filter(|_| agent.is_welcome) else { return };
        let outcome = StepOutcome::Exited(i32::from(fails));
        let (worker, tail) = (name.clone(), "no such package".to_owned());
        self.say(name, AgentEvent::BootstrapFinished { worker, connection, outcome, tail });
    }
}
