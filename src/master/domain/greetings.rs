//! Who calls: whether a greeting is accepted, and what it changes.
//!
//! The channel has checked the proof; what it entitles to is decided here.

use crate::master::domain::absence;
use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Action;
use crate::master::domain::decision::Answer;
use crate::master::domain::decision::RefusalKind;
use crate::master::domain::decision::ReplyId;
use crate::master::domain::decision::Welcome;
use crate::master::domain::entities::Enrolment;
use crate::master::domain::entities::Worker;
use crate::master::domain::event::AgentHello;
use crate::master::domain::event::Proof;
use crate::master::domain::mail::Recipients;
use crate::master::domain::timers::Timer;
use crate::model::ids::ConnectionId;
use crate::model::ids::WorkerName;
use crate::model::status::InstanceStatus;
use crate::model::status::WorkerFate;
use crate::model::status::WorkerStatus;

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
    pub(super) fn hello(
        &mut self,
        reply: ReplyId,
        name: &WorkerName,
        connection: ConnectionId,
        hello: AgentHello,
    ) {
        match self.judge(name, &hello) {
            Verdict::Accept => self.welcome(reply, name, connection, hello),
            Verdict::CallAgain => {
                let sentence = "its machine is not settled yet".to_owned();
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
                // Refused for good, its agent would end a machine that is to be kept.
                Some(
                    InstanceStatus::Requested | InstanceStatus::Stopping | InstanceStatus::Stopped,
                ) => return Verdict::CallAgain,
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
            self.attempt_rebooted(name);
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
        let row = instance.and_then(|id| self.instances.get(&id)).map(|live| &live.instance);
        let is_news = is_new || row.is_some_and(|row| row.status == InstanceStatus::Pending);
        if let Some(instance) = instance.filter(|_| is_news) {
            self.change_instance(instance, |instance, now| {
                instance.run_begins(now);
                instance.contact_at = instance.contact_at.or(Some(now));
                instance.status = InstanceStatus::Running;
            });
            self.launch_lives(instance);
        }
        let Some(pool) = self.pool_of(name) else {
            // Its reboot ended the attempt, and with that the worker: it was drained or used up.
            return self.refuse(reply, RefusalKind::NotFound, UNKNOWN_WORKER.to_owned());
        };
        let lease = pool.settings.lease;
        self.answer(reply, Answer::Welcome(Welcome { lease }));
    }

    fn alarm(&mut self, name: &WorkerName) {
        let sentence = format!(
            "ALARM: two agents know the password of worker {name}; it is ended, and what it built \
             is not to be trusted"
        );
        self.mail(Recipients::Admins, format!("two agents know worker {name}"), sentence.clone());
        self.perform(Action::Alarm(sentence));
        self.change_worker(name, |worker, _| worker.enrolment = Enrolment::Alarmed);
        let connection = self.workers.get(name).and_then(|live| live.connection);
        let instance = self.workers.get(name).and_then(|live| live.worker.instance);
        if let Some(live) = instance.and_then(|id| self.instances.get_mut(&id)) {
            live.is_distrusted = true;
        }
        self.end_worker(name, "two agents knew its password");
        if let Some(connection) = connection {
            let sentence = "this worker was given up".to_owned();
            self.perform(Action::Disconnect { connection, sentence });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::domain::decision::ToAgent;
    use crate::master::domain::event::AgentEvent;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::master::domain::settings::PoolSettings;
    use crate::model::attempt::AttemptOutcome;
    use crate::model::status::JobStatus;
    fn scripted() -> PoolSettings {
        PoolSettings { has_bootstrap: true, ..rig::pool("linux") }
    }

    fn is_refused(answer: &Answer) -> bool {
        matches!(answer, Answer::Refused(refusal) if refusal.sentence == UNKNOWN_WORKER)
    }

    #[test]
    fn a_second_key_with_the_valid_password_raises_the_alarm_and_ends_the_worker() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (instance, worker, _) = rig.arrive();
        let thief = AgentHello { public_key: b"another".to_vec(), ..rig::hello(Proof::Password) };
        assert!(is_refused(&rig.greet(&worker, thief).1));
        assert!(rig.done.iter().any(|action| matches!(action, Action::Alarm(_))));
        assert!(rig.done.iter().any(|action| matches!(action, Action::Mail { .. })));
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

    // Found by the simulation: the log of its first run was mixed with that of its second.
    #[test]
    fn an_attempt_that_may_have_begun_before_a_reboot_is_not_begun_again() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (_, worker, _) = rig.arrive();
        let old = rig.given();
        let rebooted = AgentHello { boot_id: "boot 2".to_owned(), ..rig::hello(Proof::Key) };
        rig.connect(&worker, rebooted, &[]);
        assert!(rig.given().attempt > old.attempt);
        assert_eq!(rig.job("test").infra_failures, 0, "it has not said that it began");
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
}
