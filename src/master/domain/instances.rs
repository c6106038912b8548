//! An instance's life: requested → pending → running → terminating → terminated, or failed; where its pool
//! keeps idle ones, also stopping → stopped → requested again (`stopping.rs`).
//!
//! Each launch is a row of the ledger before it is a call to a provisioner, and a row ends only when
//! the provisioner says so.

use std::time::Duration;

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Action;
use crate::master::domain::decision::Record;
use crate::master::domain::decision::ToAgent;
use crate::master::domain::entities::Instance;
use crate::master::domain::timers::Timer;
use crate::model::ids::CloudId;
use crate::model::ids::InstanceId;
use crate::model::ids::WorkerName;
use crate::model::status::InstanceStatus;
use crate::model::time::Timestamp;

/// A machine that was told to end is asked again after this, until it has.
const TERMINATE_AGAIN: Duration = Duration::from_secs(30);

/// An instance, with what lives only in memory.
#[derive(Debug)]
pub(super) struct LiveInstance {
    pub(super) instance: Instance,
    /// In how many complete listings in a row it was missing.
    pub(super) misses: u32,
    /// How often its launch was made without word of what came of it.
    pub(super) tries: u32,
    /// What its last start was called when it was last seen, and what the one before its present one.
    pub(super) started: (Option<String>, Option<String>),
}

impl LiveInstance {
    pub(super) fn new(instance: Instance) -> LiveInstance {
        LiveInstance { instance, misses: 0, tries: 0, started: (None, None) }
    }
}

impl Coordinator {
    pub(super) fn take_up_instance(&mut self, instance: Instance) {
        if let Some(pool) = self.pools.get_mut(&instance.pool)
            && instance.status.may_run()
        {
            pool.alive += 1;
        }
        let (id, status) = (instance.id, instance.status);
        match status {
            InstanceStatus::Terminating => {
                self.timers.set(Timer::Terminate(instance.id), self.now);
            }
            // The last master may have ended between the row and the call.
            InstanceStatus::Requested => self.timers.set(Timer::Settle(instance.id), self.now),
            _ => {}
        }
        self.instances.insert(id, LiveInstance::new(instance));
        self.take_up_stopped(id, status);
    }

    /// Changes a row of the ledger and remembers it; one that has ended leaves memory.
    pub(super) fn change_instance(
        &mut self,
        id: InstanceId,
        change: impl FnOnce(&mut Instance, Timestamp),
    ) {
        let Some(live) = self.instances.get_mut(&id) else { return };
        let counted = live.instance.status.may_run();
        change(&mut live.instance, self.now);
        let instance = live.instance.clone();
        if let Some(pool) = self.pools.get_mut(&instance.pool)
            && instance.status.may_run() != counted
        {
            pool.alive = if counted { pool.alive.saturating_sub(1) } else { pool.alive + 1 };
            self.unsettled.insert(instance.pool.clone());
        }
        if instance.status.is_final() {
            self.instances.remove(&id);
            for timer in [Timer::Terminate, Timer::Settle, Timer::Stop, Timer::StoppedTooLong] {
                self.timers.clear(&timer(id));
            }
        }
        self.remember(Record::Instance(instance));
    }

    pub(super) fn instance_accepted(&mut self, id: InstanceId, cloud_id: CloudId) {
        self.timers.clear(&Timer::Settle(id));
        self.change_instance(id, |instance, now| {
            instance.request = None;
            instance.cloud_id = Some(cloud_id);
            instance.accepted_at = instance.accepted_at.or(Some(now));
            if instance.status == InstanceStatus::Requested {
                instance.status = InstanceStatus::Pending;
            }
        });
        let live = self.instances.get(&id);
        let taken = live.map(|live| (live.instance.pool.clone(), live.instance.candidate));
        if let Some((pool, candidate)) = taken
            && let Some(known) = self.pools.get_mut(&pool)
        {
            known.cooling.remove(&candidate);
            self.list_soon(&pool);
        }
        // It was given up while the provisioner was asked: now there is something to end.
        let live = self.instances.get(&id);
        if live.is_some_and(|live| live.instance.status == InstanceStatus::Terminating) {
            self.terminate_again(id);
        }
    }

    /// Decides to end a machine. Asked again until the provisioner confirms.
    pub(super) fn terminate(&mut self, id: InstanceId, why: &str) {
        let Some(live) = self.instances.get(&id) else { return };
        if live.instance.status == InstanceStatus::Terminating {
            return;
        }
        let is_unasked = live.instance.request.is_none() && live.instance.cloud_id.is_none();
        if live.instance.status == InstanceStatus::Requested && is_unasked {
            // Nothing was asked for yet, and now nothing will be.
            return self.change_instance(id, |instance, now| {
                instance.status = InstanceStatus::Failed;
                instance.why_ended = Some(why.to_owned());
                instance.ended_at = Some(now);
                instance.run_ends(now);
            });
        }
        let is_silent = live.instance.contact_at.is_none();
        let console_for = is_silent.then(|| live.instance.worker.clone());
        self.change_instance(id, |instance, now| {
            instance.status = InstanceStatus::Terminating;
            instance.why_ended = Some(why.to_owned());
            instance.ending_at = Some(now);
        });
        self.ask_to_end(id, console_for);
    }

    pub(super) fn terminate_again(&mut self, id: InstanceId) {
        self.ask_to_end(id, None);
    }

    fn ask_to_end(&mut self, id: InstanceId, console_for: Option<WorkerName>) {
        let Some(live) = self.instances.get(&id) else { return };
        let instance = &live.instance;
        let action = Action::Terminate {
            instance: Some(id),
            launch: instance.launch.clone(),
            pool: instance.pool.clone(),
            cloud_id: instance.cloud_id.clone(),
            console_for,
        };
        let pool = instance.pool.clone();
        self.list_soon(&pool);
        self.timers.set(Timer::Terminate(id), self.now + TERMINATE_AGAIN);
        self.perform(action);
    }

    /// Whoever still speaks for a machine that is gone is what is left of one, or another that was
    /// restored from it: its job is another's now.
    fn hang_up_on_gone(&mut self, worker: &WorkerName, why: &str) {
        let connection = self.workers.get(worker).and_then(|live| live.connection);
        let Some(connection) = connection else { return };
        let sentence = format!("this machine is gone: {why}");
        self.tell(worker, ToAgent::Shutdown { sentence: sentence.clone() });
        self.perform(Action::Disconnect { connection, sentence });
    }

    /// The machine is gone: the row ends, and so does the worker, with what it had.
    pub(super) fn instance_ended(&mut self, id: InstanceId, why: Option<&str>) {
        let Some(live) = self.instances.get(&id) else { return };
        let row = live.instance.clone();
        let worker = live.instance.worker.clone();
        let pool = live.instance.pool.clone();
        let was_asked = live.instance.status == InstanceStatus::Terminating;
        let was_ready = live.instance.ready_at.is_some();
        if live.instance.contact_at.is_none()
            && !was_asked
            && let Some(cloud_id) = live.instance.cloud_id.clone()
        {
            let (pool, worker) = (pool.clone(), worker.clone());
            let launch = live.instance.launch.clone();
            self.perform(Action::KeepConsole { launch, pool, cloud_id, worker });
        }
        let why = match (why, was_asked) {
            (Some(why), _) => why.to_owned(),
            (None, true) => "ended as asked".to_owned(),
            (None, false) => "the machine ended by itself".to_owned(),
        };
        if !was_asked {
            self.note_taken(&row);
        }
        self.change_instance(id, |instance, now| {
            instance.status = InstanceStatus::Terminated;
            instance.why_ended = instance.why_ended.take().or_else(|| Some(why.clone()));
            instance.ended_at = Some(now);
            instance.run_ends(now);
        });
        self.hang_up_on_gone(&worker, &why);
        self.worker_gone(&worker, &why);
        if !was_asked && !was_ready {
            self.launch_went_wrong(&pool, &why);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::master::domain::decision::Action;
    use crate::master::domain::decision::ToAgent;
    use crate::master::domain::event::Event;
    use crate::master::domain::event::Request;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::model::status::JobStatus;

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
    fn who_still_speaks_for_a_machine_that_is_gone_is_told_to_end() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (instance, worker, _) = rig.arrive();
        let attempt = rig.given();
        rig.start(&worker, attempt);
        rig.say(Event::InstanceEnded { instance, sentence: None });
        assert!(matches!(rig.told()[..], [ToAgent::Shutdown { .. }]), "{:?}", rig.told());
        assert!(rig.done.iter().any(|action| matches!(action, Action::Disconnect { .. })));
        assert_eq!(rig.status("test"), JobStatus::Queued);
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
