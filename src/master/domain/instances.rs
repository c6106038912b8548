//! An instance's life: requested → pending → running → terminating → terminated, or failed.
//!
//! Each launch is a row of the ledger before it is a call to a provisioner, and a row ends only when
//! the provisioner says so.

use std::time::Duration;

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Action;
use crate::master::domain::decision::Record;
use crate::master::domain::entities::Enrolment;
use crate::master::domain::entities::Instance;
use crate::master::domain::entities::Worker;
use crate::master::domain::pool;
use crate::master::domain::timers::Timer;
use crate::model::ids::CloudId;
use crate::model::ids::InstanceId;
use crate::model::ids::LaunchId;
use crate::model::ids::PoolName;
use crate::model::ids::WorkerName;
use crate::model::status::InstanceStatus;
use crate::model::status::WorkerStatus;
use crate::model::time::Timestamp;

/// A machine that was told to end is asked again after this, until it has.
const TERMINATE_AGAIN: Duration = Duration::from_secs(30);

/// An instance, with what lives only in memory.
#[derive(Debug)]
pub(super) struct LiveInstance {
    pub(super) instance: Instance,
    /// In how many complete listings in a row it was missing.
    pub(super) misses: u32,
}

impl Coordinator {
    pub(super) fn take_up_instance(&mut self, instance: Instance) {
        if let Some(pool) = self.pools.get_mut(&instance.pool) {
            pool.alive += 1;
        }
        if instance.status == InstanceStatus::Terminating {
            self.timers.set(Timer::Terminate(instance.id), self.now);
        }
        self.instances.insert(instance.id, LiveInstance { instance, misses: 0 });
    }

    /// Asks for a machine, and makes the worker that will run on it.
    pub(super) fn launch(&mut self, pool: &PoolName, why: String) {
        self.last_ids.instance += 1;
        let id = InstanceId(self.last_ids.instance);
        let launch = LaunchId(format!("{:016x}{:016x}", self.dice.roll(), self.dice.roll()));
        let name = self.fresh_name(pool);
        let Some(known) = self.pools.get_mut(pool) else { return };
        known.alive += 1;
        let expires_at = Some(self.now + known.settings.boot_timeout);
        let instance = Instance {
            id,
            launch: launch.clone(),
            pool: pool.clone(),
            worker: name.clone(),
            status: InstanceStatus::Requested,
            cloud_id: None,
            why_started: why,
            why_ended: None,
            requested_at: self.now,
            accepted_at: None,
            running_at: None,
            contact_at: None,
            ready_at: None,
            ending_at: None,
            ended_at: None,
        };
        let worker = Worker {
            instance: Some(id),
            ..self.fresh_worker(name.clone(), pool.clone(), launch.clone(), expires_at)
        };
        self.remember(Record::Instance(instance.clone()));
        self.remember(Record::Worker(worker.clone()));
        self.instances.insert(id, LiveInstance { instance, misses: 0 });
        self.take_up_worker(worker);
        let pool = pool.clone();
        self.perform(Action::Launch { instance: id, launch, pool, worker: name });
    }

    pub(super) fn fresh_worker(
        &self,
        name: WorkerName,
        pool: PoolName,
        launch: LaunchId,
        expires_at: Option<Timestamp>,
    ) -> Worker {
        Worker {
            name,
            pool,
            launch,
            instance: None,
            status: WorkerStatus::Starting,
            reason: None,
            enrolment: Enrolment::Unused { expires_at },
            boot_id: None,
            bootstrapped: false,
            project: None,
            jobs_given: 0,
            attempt: None,
            draining: false,
            created_at: self.now,
            idle_since: None,
            ended_at: None,
        }
    }

    /// A name that no worker has. Gone ones are in the store alone, so chance must do: 2^40 names.
    fn fresh_name(&mut self, pool: &PoolName) -> WorkerName {
        loop {
            let name = WorkerName(format!("{pool}-{:010x}", self.dice.roll() >> 24));
            if !self.workers.contains_key(&name) {
                return name;
            }
        }
    }

    /// Changes a row of the ledger and remembers it; one that has ended leaves memory.
    pub(super) fn change_instance(
        &mut self,
        id: InstanceId,
        change: impl FnOnce(&mut Instance, Timestamp),
    ) {
        let Some(live) = self.instances.get_mut(&id) else { return };
        change(&mut live.instance, self.now);
        let instance = live.instance.clone();
        if instance.status.is_final() {
            self.instances.remove(&id);
            self.timers.clear(&Timer::Terminate(id));
            if let Some(pool) = self.pools.get_mut(&instance.pool) {
                pool.alive = pool.alive.saturating_sub(1);
                self.unsettled.insert(instance.pool.clone());
            }
        }
        self.remember(Record::Instance(instance));
    }

    pub(super) fn instance_accepted(&mut self, id: InstanceId, cloud_id: CloudId) {
        self.change_instance(id, |instance, now| {
            instance.cloud_id = Some(cloud_id);
            instance.accepted_at = instance.accepted_at.or(Some(now));
            if instance.status == InstanceStatus::Requested {
                instance.status = InstanceStatus::Pending;
            }
        });
        // It was given up while the provisioner was asked: now there is something to end.
        let live = self.instances.get(&id);
        if live.is_some_and(|live| live.instance.status == InstanceStatus::Terminating) {
            self.terminate_again(id);
        }
    }

    pub(super) fn launch_failed(&mut self, id: InstanceId, why: &str, needs_a_person: bool) {
        let Some(live) = self.instances.get(&id) else { return };
        if live.instance.status != InstanceStatus::Requested {
            return;
        }
        let (pool, worker) = (live.instance.pool.clone(), live.instance.worker.clone());
        self.change_instance(id, |instance, now| {
            instance.status = InstanceStatus::Failed;
            instance.why_ended = Some(why.to_owned());
            instance.ended_at = Some(now);
        });
        self.worker_gone(&worker, why);
        self.launch_went_wrong(&pool, why);
        if needs_a_person {
            self.pause(&pool, why.to_owned());
        }
    }

    /// A launch ended before its worker was ready: wait a little, and after too many pause.
    pub(super) fn launch_went_wrong(&mut self, name: &PoolName, why: &str) {
        let random = self.dice.roll();
        let Some(pool) = self.pools.get_mut(name) else { return };
        if !pool.launches() {
            // A machine of somebody's own: nothing is launched in its place, so nothing is paused.
            pool.last_failure = Some(why.to_owned());
            self.unsettled.insert(name.clone());
            return;
        }
        let delay = pool::LAUNCH_BACKOFF.delay(pool.state.failures, random);
        pool.state.failures += 1;
        pool.last_failure = Some(why.to_owned());
        let failures = pool.state.failures;
        let state = pool.state.clone();
        self.timers.set(Timer::Launch(name.clone()), self.now + delay);
        self.remember(Record::Pool(state));
        if failures >= pool::FAILURES_MAX {
            self.pause(name, format!("{failures} launches in a row went wrong; the last: {why}"));
        }
        self.unsettled.insert(name.clone());
    }

    pub(super) fn launch_succeeded(&mut self, name: &PoolName) {
        let Some(pool) = self.pools.get_mut(name) else { return };
        pool.last_failure = None;
        if pool.state.failures > 0 {
            pool.state.failures = 0;
            let state = pool.state.clone();
            self.remember(Record::Pool(state));
        }
    }

    pub(super) fn pause(&mut self, name: &PoolName, why: String) {
        let Some(pool) = self.pools.get_mut(name) else { return };
        pool.state.paused = Some(why);
        let state = pool.state.clone();
        self.remember(Record::Pool(state));
        self.unsettled.insert(name.clone());
    }

    /// Decides to end a machine. Asked again until the provisioner confirms.
    pub(super) fn terminate(&mut self, id: InstanceId, why: &str) {
        let Some(live) = self.instances.get(&id) else { return };
        if live.instance.status == InstanceStatus::Terminating {
            return;
        }
        self.change_instance(id, |instance, now| {
            instance.status = InstanceStatus::Terminating;
            instance.why_ended = Some(why.to_owned());
            instance.ending_at = Some(now);
        });
        self.terminate_again(id);
    }

    pub(super) fn terminate_again(&mut self, id: InstanceId) {
        let Some(live) = self.instances.get(&id) else { return };
        let instance = &live.instance;
        let action = Action::Terminate {
            instance: Some(id),
            launch: instance.launch.clone(),
            pool: instance.pool.clone(),
            cloud_id: instance.cloud_id.clone(),
        };
        self.timers.set(Timer::Terminate(id), self.now + TERMINATE_AGAIN);
        self.perform(action);
    }

    /// The machine is gone: the row ends, and so does the worker, with what it had.
    pub(super) fn instance_ended(&mut self, id: InstanceId, why: Option<&str>) {
        let Some(live) = self.instances.get(&id) else { return };
        let worker = live.instance.worker.clone();
        let pool = live.instance.pool.clone();
        let was_asked = live.instance.status == InstanceStatus::Terminating;
        let was_ready = live.instance.ready_at.is_some();
        let why = match (why, was_asked) {
            (Some(why), _) => why.to_owned(),
            (None, true) => "ended as asked".to_owned(),
            (None, false) => "the machine ended by itself".to_owned(),
        };
        self.change_instance(id, |instance, now| {
            instance.status = InstanceStatus::Terminated;
            instance.why_ended = instance.why_ended.take().or_else(|| Some(why.clone()));
            instance.ended_at = Some(now);
        });
        self.worker_gone(&worker, &why);
        if !was_asked && !was_ready {
            self.launch_went_wrong(&pool, &why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::domain::event::Event;
    use crate::master::domain::event::Request;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::model::status::JobStatus;

    fn fail(rig: &mut Rig, needs_a_person: bool) {
        let (instance, _, _) = rig.launches().pop().expect("a machine was asked for");
        let sentence = "no capacity".to_owned();
        rig.say(Event::LaunchFailed { instance, sentence, needs_a_person });
    }

    /// Waits until the pool launches again.
    fn launched_again(rig: &mut Rig) {
        for _ in 0..600 {
            rig.done = rig.wait(1);
            if !rig.launches().is_empty() {
                return;
            }
        }
        panic!("nothing was launched again");
    }

    #[test]
    fn three_launches_in_a_row_that_go_wrong_pause_the_pool_until_somebody_resumes_it() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        fail(&mut rig, false);
        assert!(rig.launches().is_empty(), "not at once");
        assert!(rig.reason("test").contains("no capacity"));
        launched_again(&mut rig);
        fail(&mut rig, false);
        launched_again(&mut rig);
        fail(&mut rig, false);
        rig.done = rig.wait(7200);
        assert!(rig.launches().is_empty());
        assert!(
            rig.reason("test").contains("is paused: 3 launches in a row"),
            "{}",
            rig.reason("test")
        );
        assert_eq!(rig.status("test"), JobStatus::Queued, "the job itself is never failed for it");
        rig.ask(Request::ResumePool("linux".into()));
        assert_eq!(rig.launches().len(), 1);
    }

    #[test]
    fn what_only_a_person_can_mend_pauses_the_pool_at_once() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        fail(&mut rig, true);
        rig.done = rig.wait(7200);
        assert!(rig.launches().is_empty());
    }

    #[test]
    fn a_worker_that_became_ready_begins_the_count_of_failures_anew() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        fail(&mut rig, false);
        launched_again(&mut rig);
        rig.arrive();
        let state = rig.written.iter().rev().find_map(|record| match record {
            Record::Pool(state) => Some(state.failures),
            _ => None,
        });
        assert_eq!(state, Some(0));
    }

    #[test]
    fn never_more_machines_are_asked_for_than_the_pool_may_have() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        let names = ["a", "b", "c", "d", "e"];
        rig.build("app", names.iter().map(|name| rig::job(name, &[])).collect());
        assert_eq!(rig.launches().len(), 3);
        let (first, _, worker) = rig.launches()[0].clone();
        rig.accept(first);
        rig.ask(Request::StopWorker(worker));
        assert!(rig.launches().is_empty(), "what is being ended is there still");
        rig.say(Event::InstanceEnded { instance: first, sentence: None });
        assert_eq!(rig.launches().len(), 1);
    }

    #[test]
    fn a_machine_that_was_told_to_end_is_told_again_until_it_has() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (instance, worker, _) = rig.arrive();
        rig.ask(Request::StopWorker(worker));
        assert!(rig.ends(instance));
        assert!(rig::ends(&rig.wait(30), instance));
        rig.say(Event::InstanceEnded { instance, sentence: None });
        assert!(!rig::ends(&rig.wait(300), instance));
    }
}
