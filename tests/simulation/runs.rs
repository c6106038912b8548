//! What the fake agents do with the attempts they are given: run, reject, hang, cancel, and tell.

use busybee::master::domain::decision::ToAgent;
use busybee::master::domain::event::AgentEvent;
use busybee::master::domain::event::StepResult;
use busybee::model::attempt::AttemptOutcome;
use busybee::model::attempt::AttemptRef;
use busybee::model::attempt::AttemptSpec;
use busybee::model::ids::WorkerName;
use busybee::model::step::StepOutcome;

use crate::agents::AgentStep;
use crate::agents::Run;
use crate::world::Happening;
use crate::world::World;

impl World {
    pub(crate) fn agent_told(&mut self, name: &WorkerName, message: ToAgent) {
        match message {
            ToAgent::Bootstrap => self.agent_bootstraps(name),
            ToAgent::Run(spec) => self.agent_runs(name, &spec),
            ToAgent::Cancel(attempt) => {
                let Some(agent) = self.agents.get_mut(name) else { return };
                if !agent.runs.contains_key(&attempt) {
                    agent.tombstones.insert(attempt);
                } else if !self.fault("cancel ignored", 50) {
                    let takes = 500 + self.random(30_000);
                    let ends = AgentStep::RunEnds(attempt, AttemptOutcome::Cancelled);
                    self.later(takes, Happening::Agent(name.clone(), ends));
                }
            }
            ToAgent::Forget(attempt) => {
                if let Some(agent) = self.agents.get_mut(name) {
                    agent.spools.remove(&attempt);
                    agent.runs.remove(&attempt);
                }
            }
            ToAgent::Drain => {}
            ToAgent::Shutdown { sentence } => {
                if !self.fault("shutdown ignored", 100) {
                    self.agent_leaves(name, sentence);
                }
            }
        }
    }

    fn agent_runs(&mut self, name: &WorkerName, spec: &AttemptSpec) {
        let attempt = spec.id;
        let rejects = self.fault("attempt rejected", 10);
        let Some(agent) = self.agents.get_mut(name) else { return };
        let worker = name.clone();
        if agent.runs.contains_key(&attempt) {
            return self.say(name, AgentEvent::AttemptAccepted(worker, attempt));
        }
        if agent.tombstones.contains(&attempt) {
            return self.run_ends(name, attempt, AttemptOutcome::Cancelled);
        }
        if rejects {
            let sentence = "the disk is full".to_owned();
            return self.say(name, AgentEvent::AttemptRejected { worker, attempt, sentence });
        }
        assert!(!agent.is_busy(), "{name} has {:?} and is given {attempt:?}", agent.runs);
        agent.projects.insert(spec.project.clone());
        agent.runs.insert(attempt, Run::Running);
        self.laws.attempt_starts(&self.settings, &self.disk, &self.agents, name, attempt);
        let step = 1;
        self.say(name, AgentEvent::AttemptAccepted(worker.clone(), attempt));
        let started_at = self.now;
        self.say(name, AgentEvent::StepStarted { worker, attempt, step, started_at });
        self.later(100, Happening::Agent(name.clone(), AgentStep::Prints(attempt)));
        let outcome = match self.random(20) {
            0..=14 => AttemptOutcome::Passed,
            15..=17 => AttemptOutcome::Failed,
            _ if self.faults => AttemptOutcome::Infra("the disk is full".to_owned()),
            _ => AttemptOutcome::Passed,
        };
        if !self.fault("attempt hangs", 20) {
            let takes = 2000 + self.random(240_000);
            let ends = AgentStep::RunEnds(attempt, outcome);
            self.later(takes, Happening::Agent(name.clone(), ends));
        }
    }

    pub(crate) fn all_runs_end(&mut self, name: &WorkerName, why: &str) {
        let Some(agent) = self.agents.get(name) else { return };
        let running = agent.runs.iter().filter(|(_, run)| **run == Run::Running);
        let running: Vec<AttemptRef> = running.map(|(attempt, _)| *attempt).collect();
        for attempt in running {
            self.run_ends(name, attempt, AttemptOutcome::Infra(why.to_owned()));
        }
    }

    pub(crate) fn run_ends(
        &mut self,
        name: &WorkerName,
        attempt: AttemptRef,
        outcome: AttemptOutcome,
    ) {
        self.laws.attempt_ended(name, attempt, &outcome);
        let Some(agent) = self.agents.get_mut(name) else { return };
        agent.runs.insert(attempt, Run::Done(outcome.clone()));
        if agent.is_welcome {
            self.tell_result(name, attempt, outcome);
        }
    }

    /// Results are told until the master has them, so it hears of many twice.
    pub(crate) fn tell_results(&mut self, name: &WorkerName) {
        let Some(agent) = self.agents.get(name) else { return };
        let done = agent.runs.iter().filter_map(|(attempt, run)| match run {
            Run::Done(outcome) => Some((*attempt, outcome.clone())),
            Run::Running => None,
        });
        let done: Vec<(AttemptRef, AttemptOutcome)> = done.collect();
        for (attempt, outcome) in done {
            self.tell_result(name, attempt, outcome);
        }
    }

    fn tell_result(&mut self, name: &WorkerName, attempt: AttemptRef, outcome: AttemptOutcome) {
        let result = StepResult {
            step: 1,
            outcome: StepOutcome::Exited(i32::from(outcome != AttemptOutcome::Passed)),
            started_at: self.now,
            duration_ms: 1,
            log_bytes: 7,
            log_incomplete: false,
        };
        let worker = name.clone();
        self.say(name, AgentEvent::StepFinished { worker: worker.clone(), attempt, result });
        self.say(name, AgentEvent::AttemptFinished { worker, attempt, outcome });
    }
}
