//! What comes from agents: greetings, inventories, and word about attempts.
//!
//! The channel has checked the proofs; what they entitle to is decided here.

use crate::master::domain::absence;
use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Action;
use crate::master::domain::decision::Answer;
use crate::master::domain::decision::RefusalKind;
use crate::master::domain::decision::ReplyId;
use crate::master::domain::decision::ToAgent;
use crate::master::domain::decision::Welcome;
use crate::master::domain::entities::AttemptState;
use crate::master::domain::entities::Enrolment;
use crate::master::domain::entities::Worker;
use crate::master::domain::event::AgentEvent;
use crate::master::domain::event::AgentHello;
use crate::master::domain::event::InventoryItem;
use crate::master::domain::event::Proof;
use crate::master::domain::timers::Timer;
use crate::master::domain::workers;
use crate::model::attempt::AttemptRef;
use crate::model::ids::ConnectionId;
use crate::model::ids::WorkerName;
use crate::model::status::InstanceStatus;
use crate::model::status::WorkerFate;
use crate::model::status::WorkerStatus;
use crate::model::step::StepOutcome;

/// One text for every greeting that leads nowhere: nothing is to be learned from it.
pub(super) const UNKNOWN_WORKER: &str = "this worker is not known, or its agent is another";

/// What a greeting comes to.
enum Verdict {
    Accept,
    CallAgain,
    Refuse,
    /// Two keys came with a valid password: one of them is a thief's.
    Alarm,
}

impl Coordinator {
    pub(super) fn agent(&mut self, event: AgentEvent) {
        match event {
            AgentEvent::Hello { reply, worker, connection, hello } => {
                self.hello(reply, &worker, connection, hello);
            }
            AgentEvent::Inventory { worker, connection, bootstrapped, attempts } => {
                if self.is_current(&worker, connection) {
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
            AgentEvent::Leaving { worker, sentence } => self.leaving(&worker, &sentence),
        }
    }

    fn is_current(&self, worker: &WorkerName, connection: ConnectionId) -> bool {
        self.workers.get(worker).is_some_and(|live| live.connection == Some(connection))
    }

    fn hello(
        &mut self,
        reply: ReplyId,
        name: &WorkerName,
        connection: ConnectionId,
        hello: AgentHello,
    ) {
        match self.judge(name, &hello) {
            Verdict::Accept => self.welcome(reply, name, connection, hello),
            Verdict::CallAgain => {
                let sentence = "the launch is not settled yet".to_owned();
                self.answer(reply, Answer::CallAgain(sentence));
            }
            Verdict::Refuse => {
                self.refuse(reply, RefusalKind::NotFound, UNKNOWN_WORKER.to_owned());
            }
            Verdict::Alarm => {
                self.refuse(reply, RefusalKind::NotFound, UNKNOWN_WORKER.to_owned());
                self.alarm(name);
            }
        }
    }

    fn judge(&self, name: &WorkerName, hello: &AgentHello) -> Verdict {
        let Some(live) = self.workers.get(name) else { return Verdict::Refuse };
        let worker = &live.worker;
        if worker.fate == WorkerFate::Ends {
            return Verdict::Refuse;
        }
        if let Some(instance) = worker.instance {
            match self.instances.get(&instance).map(|live| live.instance.status) {
                Some(InstanceStatus::Requested) => return Verdict::CallAgain,
                Some(InstanceStatus::Pending | InstanceStatus::Running) => {}
                Some(_) | None => return Verdict::Refuse,
            }
        }
        if self.calls_from_elsewhere(worker, hello) {
            return Verdict::Alarm;
        }
        match (&worker.enrolment, hello.proof) {
            (Enrolment::Unused { expires_at }, Proof::Password) => match expires_at {
                Some(at) if *at <= self.now => Verdict::Refuse,
                Some(_) | None => Verdict::Accept,
            },
            (Enrolment::Unused { .. }, Proof::Key) | (Enrolment::Alarmed, _) => Verdict::Refuse,
            (Enrolment::Bound { public_key, instance_claim, epoch }, proof) => {
                let is_same = *public_key == hello.public_key;
                match proof {
                    // The same key again: the first answer was lost on its way.
                    Proof::Password if is_same && *instance_claim == hello.instance_claim => {
                        Verdict::Accept
                    }
                    Proof::Password => Verdict::Alarm,
                    Proof::Key if is_same && *epoch <= hello.epoch => Verdict::Accept,
                    Proof::Key => Verdict::Refuse,
                }
            }
        }
    }

    /// Whether a proof that is right comes from another machine than the one that was started: somebody
    /// has carried its password, or its disk, away. What does not say where it is proves nothing.
    fn calls_from_elsewhere(&self, worker: &Worker, hello: &AgentHello) -> bool {
        let started = worker.instance.and_then(|instance| self.instances.get(&instance));
        let started = started.and_then(|live| live.instance.cloud_id.as_ref());
        match (started, worker.enrolment == Enrolment::Alarmed) {
            (Some(id), false) => !hello.instance_claim.is_empty() && *id.0 != *hello.instance_claim,
            (None, _) | (_, true) => false,
        }
    }

    fn welcome(
        &mut self,
        reply: ReplyId,
        name: &WorkerName,
        connection: ConnectionId,
        hello: AgentHello,
    ) {
        let Some(live) = self.workers.get_mut(name) else { return };
        let older = live.connection.replace(connection);
        live.is_known = false;
        live.seen_at = self.now;
        let has_rebooted = live.worker.boot_id.as_ref().is_some_and(|id| *id != hello.boot_id);
        let is_new = !matches!(live.worker.enrolment, Enrolment::Bound { .. });
        let instance = live.worker.instance;
        if let Some(older) = older {
            let sentence = "the same agent has called again".to_owned();
            self.perform(Action::Disconnect { connection: older, sentence });
        }
        self.timers.clear(&Timer::Lost(name.clone()));
        self.timers.clear(&Timer::LeaseOver(name.clone()));
        let silence = self.now + absence::SILENCE_BUSY;
        self.timers.set(Timer::Silence(name.clone()), silence);
        if has_rebooted {
            self.attempt_vanished(name, "the machine was rebooted");
        }
        self.change_worker(name, |worker, _| {
            let highest = match &worker.enrolment {
                Enrolment::Bound { epoch, .. } => *epoch,
                Enrolment::Unused { .. } | Enrolment::Alarmed => 0,
            };
            worker.boot_id = Some(hello.boot_id);
            worker.enrolment = Enrolment::Bound {
                public_key: hello.public_key,
                instance_claim: hello.instance_claim,
                epoch: hello.epoch.max(highest),
            };
            if worker.status == WorkerStatus::Lost {
                worker.status = match worker.attempt {
                    Some(_) if worker.fate == WorkerFate::Drains => WorkerStatus::Draining,
                    Some(_) => WorkerStatus::Busy,
                    None if worker.bootstrapped => WorkerStatus::Idle,
                    None => WorkerStatus::Starting,
                };
                worker.reason = None;
            }
        });
        if let Some(instance) = instance.filter(|_| is_new) {
            self.change_instance(instance, |instance, now| {
                instance.contact_at = instance.contact_at.or(Some(now));
                instance.running_at = instance.running_at.or(Some(now));
                instance.status = InstanceStatus::Running;
            });
        }
        let Some(pool) = self.pool_of(name) else {
            // Its reboot ended the attempt, and with that the worker: it was drained or used up.
            return self.refuse(reply, RefusalKind::NotFound, UNKNOWN_WORKER.to_owned());
        };
        let (lease, life) = (pool.settings.lease, pool.settings.max_lifetime);
        let created = self.workers.get(name).map(|live| live.worker.created_at);
        let lifetime_ends_at = instance.and(created).map(|at| at + life);
        self.answer(reply, Answer::Welcome(Welcome { lease, lifetime_ends_at }));
    }

    fn alarm(&mut self, name: &WorkerName) {
        let sentence = format!(
            "ALARM: two agents know the password of worker {name}; it is ended, and what it built \
             is not to be trusted"
        );
        self.perform(Action::Alarm(sentence));
        self.change_worker(name, |worker, _| worker.enrolment = Enrolment::Alarmed);
        let connection = self.workers.get(name).and_then(|live| live.connection);
        self.end_worker(name, "two agents knew its password");
        if let Some(connection) = connection {
            let sentence = "this worker was given up".to_owned();
            self.perform(Action::Disconnect { connection, sentence });
        }
    }

    fn inventory(&mut self, name: &WorkerName, bootstrapped: bool, items: &[InventoryItem]) {
        let Some(live) = self.workers.get_mut(name) else { return };
        live.is_known = true;
        live.seen_at = self.now;
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
        let has_script = self.pool_of(name).is_some_and(|pool| pool.settings.has_bootstrap);
        match live.worker.status {
            WorkerStatus::Starting | WorkerStatus::Bootstrapping if has_script && !bootstrapped => {
                self.change_worker(name, |worker, _| worker.status = WorkerStatus::Bootstrapping);
                self.watch_bootstrap(name);
                self.tell(name, ToAgent::Bootstrap);
            }
            WorkerStatus::Starting | WorkerStatus::Bootstrapping => self.worker_ready(name),
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
            self.attempt_broke(attempt.attempt, &format!("worker {name} left: {sentence}"));
        }
        let Some(live) = self.workers.get(name) else { return };
        if has_instance {
            let unready = workers::is_coming(&live.worker).then(|| live.worker.pool.clone());
            self.end_worker(name, sentence);
            if let Some(pool) = unready {
                self.launch_went_wrong(&pool, &format!("its agent left: {sentence}"));
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
    use crate::master::domain::event::Request;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::master::domain::settings::PoolSettings;
    use crate::master::domain::settings::ProvisionerKind;
    use crate::model::attempt::AttemptOutcome;
    use crate::model::status::JobStatus;

    fn scripted() -> PoolSettings {
        PoolSettings { has_bootstrap: true, ..rig::pool("linux") }
    }

    fn is_refused(answer: &Answer) -> bool {
        matches!(answer, Answer::Refused(refusal) if refusal.sentence == UNKNOWN_WORKER)
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
    fn a_second_key_with_the_valid_password_raises_the_alarm_and_ends_the_worker() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (instance, worker, _) = rig.arrive();
        let thief = AgentHello { public_key: b"another".to_vec(), ..rig::hello(Proof::Password) };
        assert!(is_refused(&rig.greet(&worker, thief).1));
        assert!(rig.done.iter().any(|action| matches!(action, Action::Alarm(_))));
        assert!(rig.ends(instance));
        assert!(is_refused(&rig.greet(&worker, rig::hello(Proof::Key)).1), "nor may the first");
    }

    #[test]
    fn a_password_or_key_that_was_carried_to_another_instance_raises_the_alarm() {
        for carried in [Proof::Password, Proof::Key] {
            let mut rig = Rig::new(vec![scripted()]);
            rig.build("app", vec![rig::job("test", &[])]);
            let (instance, _, worker) = rig.launches()[0].clone();
            rig.accept(instance);
            let at = |claim: &str, proof| AgentHello {
                instance_claim: claim.to_owned(),
                ..rig::hello(proof)
            };
            if carried == Proof::Key {
                rig.connect(&worker, at(&format!("i-{instance}"), Proof::Password), &[]);
            }
            let (_, answer) = rig.greet(&worker, at("i-elsewhere", carried));
            assert!(is_refused(&answer), "{answer:?}");
            assert!(rig.done.iter().any(|action| matches!(action, Action::Alarm(_))));
            assert!(rig.ends(instance));
        }
    }

    #[test]
    fn the_same_key_with_the_password_is_only_a_lost_answer() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (_, worker, _) = rig.arrive();
        let (_, answer) = rig.greet(&worker, rig::hello(Proof::Password));
        assert!(matches!(answer, Answer::Welcome(_)));
    }

    #[test]
    fn an_agent_resumes_by_its_key_and_goes_on_with_what_it_has() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (_, worker, connection) = rig.arrive();
        let attempt = rig.given();
        rig.start(&worker, attempt);
        rig.agent(AgentEvent::Disconnected { worker: worker.clone(), connection });
        rig.wait(60);
        rig.connect(&worker, rig::hello(Proof::Key), &[(attempt, false)]);
        assert_eq!(rig.given(), attempt, "it is told again, secrets included");
        rig.finish(&worker, attempt, AttemptOutcome::Passed);
        assert_eq!(rig.status("test"), JobStatus::Passed);
        assert_eq!(rig.job("test").attempts, 1);
    }

    #[test]
    fn a_lower_epoch_and_another_key_are_refused() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (_, worker, _) = rig.arrive();
        let older = AgentHello { epoch: 4, ..rig::hello(Proof::Key) };
        assert!(is_refused(&rig.greet(&worker, older).1));
        let other = AgentHello { public_key: b"another".to_vec(), ..rig::hello(Proof::Key) };
        assert!(is_refused(&rig.greet(&worker, other).1));
        assert!(is_refused(&rig.greet(&"nobody".into(), rig::hello(Proof::Password)).1));
    }

    #[test]
    fn a_password_dies_unused_and_waits_while_its_launch_is_not_settled() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (instance, _, worker) = rig.launches()[0].clone();
        let (_, early) = rig.greet(&worker, rig::hello(Proof::Password));
        assert!(matches!(early, Answer::CallAgain(_)));
        rig.accept(instance);
        rig.now = rig.now + std::time::Duration::from_secs(600);
        let (_, late) = rig.greet(&worker, rig::hello(Proof::Password));
        assert!(is_refused(&late));
    }

    #[test]
    fn a_reboot_ends_the_attempt_as_an_infrastructure_failure() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (_, worker, _) = rig.arrive();
        let old = rig.given();
        rig.start(&worker, old);
        let rebooted = AgentHello { boot_id: "boot 2".to_owned(), ..rig::hello(Proof::Key) };
        rig.connect(&worker, rebooted, &[(old, true)]);
        assert!(rig.told().contains(&&ToAgent::Forget(old)));
        assert!(rig.given().fence > old.fence, "the job is given out again");
        assert_eq!(rig.job("test").infra_failures, 1);
    }

    #[test]
    fn a_reboot_that_ends_its_worker_is_answered_too() {
        let mut rig = Rig::new(vec![PoolSettings { jobs_per_instance: 1, ..rig::pool("linux") }]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (instance, worker, _) = rig.arrive();
        let attempt = rig.given();
        rig.start(&worker, attempt);
        let rebooted = AgentHello { boot_id: "boot 2".to_owned(), ..rig::hello(Proof::Key) };
        assert!(is_refused(&rig.greet(&worker, rebooted).1));
        assert!(rig.ends(instance));
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
