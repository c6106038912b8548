//! What comes from agents: inventories, word about bootstrap scripts and attempts, farewells.

use std::time::Duration;

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::ToAgent;
use crate::master::domain::entities::AttemptState;
use crate::master::domain::event::AgentEvent;
use crate::master::domain::event::InventoryItem;
use crate::master::domain::workers;
use crate::model::attempt::AttemptRef;
use crate::model::ids::ConnectionId;
use crate::model::ids::WorkerName;
use crate::model::status::WorkerFate;
use crate::model::status::WorkerStatus;
use crate::model::step::StepOutcome;

impl Coordinator {
    pub(super) fn agent(&mut self, event: AgentEvent) {
        match event {
            AgentEvent::Hello { reply, worker, connection, hello } => {
                self.hello(reply, &worker, connection, hello);
            }
            AgentEvent::Inventory { worker, connection, bootstrapped, attempts, up } => {
                if self.is_current(&worker, connection) {
                    self.came_up(&worker, up);
                    self.inventory(&worker, bootstrapped, &attempts);
                }
            }
            AgentEvent::Heartbeat { worker, connection } => {
                if self.is_current(&worker, connection)
                    && let Some(live) = self.workers.get_mut(&worker)
                {
                    live.seen_at = self.now;
                }
            }
            AgentEvent::BootstrapFinished { worker, connection, outcome, tail } => {
                if self.is_current(&worker, connection) {
                    self.bootstrap_finished(&worker, &outcome, &tail);
                }
            }
            AgentEvent::AttemptAccepted(worker, attempt) => self.attempt_started(&worker, attempt),
            AgentEvent::AttemptRejected { worker, attempt, sentence } => {
                self.attempt_rejected(&worker, attempt, &sentence);
            }
            AgentEvent::StepStarted { worker, attempt, step, started_at } => {
                self.step_started(&worker, attempt, step, started_at);
            }
            AgentEvent::StepFinished { worker, attempt, result } => {
                self.step_finished(&worker, attempt, result);
            }
            AgentEvent::AttemptFinished { worker, attempt, outcome } => {
                self.attempt_finished(&worker, attempt, outcome);
            }
            AgentEvent::Disconnected { worker, connection } => {
                if self.is_current(&worker, connection) {
                    self.connection_lost(&worker);
                }
            }
            AgentEvent::Noticed { worker, connection, sentence } => {
                if self.is_current(&worker, connection) {
                    self.noticed(&worker, sentence);
                }
            }
            AgentEvent::Interrupted { worker, connection, ends_in, sentence } => {
                if self.is_current(&worker, connection) {
                    self.interrupted(&worker, ends_in, &sentence);
                }
            }
            AgentEvent::Leaving { worker, sentence } => self.leaving(&worker, &sentence),
        }
    }

    fn is_current(&self, worker: &WorkerName, connection: ConnectionId) -> bool {
        self.workers.get(worker).is_some_and(|live| live.connection == Some(connection))
    }

    /// Its machine has been up for so long, by its own clock.
    fn came_up(&mut self, name: &WorkerName, up: Duration) {
        let instance = self.workers.get(name).and_then(|live| live.worker.instance);
        let run = instance.and_then(|id| self.instances.get(&id)?.instance.runs.last());
        let Some(started_at) = run.and_then(|run| run.started_at) else { return };
        let since = self.now - up;
        if let Some(id) = instance.filter(|_| !up.is_zero() && since < started_at) {
            self.change_instance(id, |instance, _| instance.run_begins(since));
        }
    }

    fn inventory(&mut self, name: &WorkerName, bootstrapped: bool, items: &[InventoryItem]) {
        let Some(live) = self.workers.get_mut(name) else { return };
        live.is_known = true;
        live.seen_at = self.now;
        if live.worker.fate == WorkerFate::Rests {
            return; // Its machine goes down just now.
        }
        let present = live.worker.attempt;
        self.say_here(name);
        for item in items {
            match present {
                // Idempotent, and it carries the secrets that the agent does not keep.
                Some(present) if present == item.attempt => self.adopt(*item),
                Some(_) | None => self.tell(name, ToAgent::Forget(item.attempt)),
            }
        }
        if let Some(present) = present
            && !items.iter().any(|item| item.attempt == present)
        {
            self.attempt_vanished(name, "its agent no longer has it");
        }
        let Some(live) = self.workers.get(name) else { return };
        match live.worker.status {
            WorkerStatus::Starting if self.lacks_equipment(name) => self.wait_for_equipment(name),
            WorkerStatus::Starting | WorkerStatus::Bootstrapping => {
                self.begin_worker(name, bootstrapped);
            }
            // Into the pool's idle set again, now that it is known to have nothing.
            WorkerStatus::Idle => self.free_worker(name),
            WorkerStatus::Draining if live.worker.attempt.is_none() => self.free_worker(name),
            WorkerStatus::Draining => self.tell(name, ToAgent::Drain),
            WorkerStatus::Busy | WorkerStatus::Lost | WorkerStatus::Gone => {}
        }
    }

    fn adopt(&mut self, item: InventoryItem) {
        let Some(attempt) = self.attempts.get(&item.attempt.attempt) else { return };
        let (worker, cancelling) = (attempt.worker.clone(), attempt.cancelling);
        self.attempt_started(&worker, item.attempt);
        if !cancelling {
            self.watch_attempt(item.attempt.attempt);
        }
        if item.finished {
            return; // Its results follow by themselves.
        }
        self.tell_to_run(item.attempt.attempt);
        if cancelling {
            self.tell(&worker, ToAgent::Cancel(item.attempt));
        }
    }

    fn bootstrap_finished(&mut self, name: &WorkerName, outcome: &StepOutcome, tail: &str) {
        let Some(live) = self.workers.get(name) else { return };
        if live.worker.status != WorkerStatus::Bootstrapping {
            return;
        }
        if outcome.passed() {
            return self.worker_ready(name);
        }
        let pool = live.worker.pool.clone();
        let how = match outcome {
            StepOutcome::Exited(code) => format!("ended with {code}"),
            StepOutcome::Signalled(signal) => format!("was ended by signal {signal}"),
            StepOutcome::TimedOut => "ran out of time".to_owned(),
            StepOutcome::OutOfMemory => "ran out of memory".to_owned(),
            StepOutcome::Cancelled | StepOutcome::Skipped => "did not run".to_owned(),
            StepOutcome::Infra(why) => format!("could not be run: {why}"),
        };
        let tail = tail.trim_end();
        let why = match tail.is_empty() {
            true => format!("the bootstrap script {how}"),
            false => format!("the bootstrap script {how}; its last lines:\n{tail}"),
        };
        self.end_worker(name, &why);
        self.launch_went_wrong(&pool, &why);
        self.mail_missing(&pool, name, &why);
    }

    fn attempt_rejected(&mut self, name: &WorkerName, attempt: AttemptRef, sentence: &str) {
        if !self.owned(name, attempt) {
            return;
        }
        self.attempt_broke(attempt.attempt, &format!("worker {name} rejected it: {sentence}"));
        self.end_worker(name, &format!("rejected a job: {sentence}"));
    }

    /// The agent has ended everything it ran, and will not call again.
    fn leaving(&mut self, name: &WorkerName, sentence: &str) {
        let Some(live) = self.workers.get(name) else { return };
        let has_instance = live.worker.instance.is_some();
        if let Some(attempt) = live.worker.attempt
            && let Some(known) = self.attempts.get(&attempt.attempt)
            && known.state == AttemptState::Assigned
        {
            self.attempt_lost(attempt.attempt, &format!("worker {name} left: {sentence}"));
        }
        let Some(live) = self.workers.get(name) else { return };
        if has_instance {
            let unready = workers::is_coming(&live.worker).then(|| live.worker.pool.clone());
            self.end_worker(name, sentence);
            if let Some(pool) = unready {
                let why = format!("its agent left: {sentence}");
                self.launch_went_wrong(&pool, &why);
                self.mail_missing(&pool, name, &why);
            }
        } else {
            self.worker_gone(name, sentence);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::domain::decision::Record;
    use crate::master::domain::entities::PoolState;
    use crate::master::domain::event::Proof;
    use crate::master::domain::event::Request;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::master::domain::settings::PoolSettings;
    use crate::master::domain::settings::ProvisionerKind;
    use crate::model::status::JobStatus;
    fn scripted() -> PoolSettings {
        PoolSettings { has_bootstrap: true, ..rig::pool("linux") }
    }

    #[test]
    fn a_failed_bootstraps_last_lines_stand_in_the_waiting_jobs_reason() {
        let mut rig = Rig::new(vec![scripted()]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (instance, worker, connection) = rig.arrive();
        assert_eq!(rig.told(), [&ToAgent::Bootstrap]);
        let (outcome, tail) = (StepOutcome::Exited(3), "no such package: gcc\n".to_owned());
        rig.agent(AgentEvent::BootstrapFinished { worker, connection, outcome, tail });
        assert!(rig.ends(instance));
        assert!(rig.reason("test").contains("no such package: gcc"), "{}", rig.reason("test"));
        assert_eq!(rig.status("test"), JobStatus::Queued);
    }

    #[test]
    fn an_agent_that_vanishes_during_its_bootstrap_counts_as_a_failed_launch() {
        let mut rig = Rig::new(vec![scripted()]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (_, worker, connection) = rig.arrive();
        rig.agent(AgentEvent::Disconnected { worker, connection });
        rig.wait(181);
        let state = rig.written.iter().rev().find_map(|record| match record {
            Record::Pool(PoolState { failures, .. }) => Some(*failures),
            _ => None,
        });
        assert_eq!(state, Some(1));
    }

    #[test]
    fn a_machine_of_ones_own_that_was_away_before_it_was_ready_runs_its_bootstrap() {
        let own = PoolSettings { provisioner: ProvisionerKind::None, ..scripted() };
        let mut rig = Rig::new(vec![own]);
        rig.ask(Request::AddWorker("mac".into(), "linux".into()));
        let connection = rig.connect(&"mac".into(), rig::hello(Proof::Password), &[]);
        rig.agent(AgentEvent::Disconnected { worker: "mac".into(), connection });
        rig.wait(600);
        rig.connect(&"mac".into(), rig::hello(Proof::Key), &[]);
        assert_eq!(rig.told(), [&ToAgent::Bootstrap]);
    }

    #[test]
    fn a_bootstrap_that_hangs_on_a_machine_of_ones_own_has_an_end_too() {
        let own = PoolSettings { provisioner: ProvisionerKind::None, ..scripted() };
        let mut rig = Rig::new(vec![own]);
        let mac = WorkerName::from("mac");
        rig.ask(Request::AddWorker(mac.clone(), "linux".into()));
        let connection = rig.connect(&mac, rig::hello(Proof::Password), &[]);
        rig.build("app", vec![rig::job("test", &[])]);
        rig.wait_beating(610, &[(&mac, connection)]);
        let why = "its bootstrap script did not end within 600 s";
        assert!(rig.reason("test").contains(why), "{}", rig.reason("test"));
        assert!(!rig.reason("test").contains("paused"));
    }
}
