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
use crate::master::domain::decision::Urgency;
use crate::master::domain::entities::Instance;
use crate::master::domain::event::EndCause;
use crate::master::domain::stopping::Keeping;
use crate::master::domain::timers::Timer;
use crate::model::ids::CloudId;
use crate::model::ids::InstanceId;
use crate::model::ids::WorkerName;
use crate::model::status::InstanceStatus;
use crate::model::time::Timestamp;

/// A machine that was told to end is asked again after this, until it has.
const TERMINATE_AGAIN: Duration = Duration::from_secs(30);

/// One that has not ended by then is made to: a shutdown that hangs does so for good.
const FORCE_AFTER: Duration = Duration::from_secs(10 * 60);

/// An instance, with what lives only in memory.
#[derive(Debug)]
pub(super) struct LiveInstance {
    pub(super) instance: Instance,
    /// In how many complete listings in a row it was missing.
    pub(super) misses: u32,
    /// How often its launch was made without word of what came of it.
    pub(super) tries: u32,
    /// Whether nothing on it is trusted any more: it is not given time to shut down.
    pub(super) is_distrusted: bool,
    /// Whether its provisioner will not end it, and a person was told.
    pub(super) is_end_refused: bool,
}

impl LiveInstance {
    pub(super) fn new(instance: Instance) -> LiveInstance {
        let (is_distrusted, is_end_refused) = (false, false);
        LiveInstance { instance, misses: 0, tries: 0, is_distrusted, is_end_refused }
    }
}

impl Coordinator {
    /// How long the last machines took, of those that a store still tells of.
    pub(super) fn take_up_boots(&mut self, ended: &[Instance], present: &[Instance]) {
        let ready = ended.iter().chain(present).filter_map(|row| Some((row.ready_at?, row)));
        let mut ready: Vec<(Timestamp, &Instance)> = ready.collect();
        ready.sort_by_key(|(at, row)| (*at, row.id));
        for (at, row) in ready {
            if let Some(pool) = self.pools.get_mut(&row.pool) {
                pool.note_boot(at.since(row.requested_at));
            }
        }
    }

    pub(super) fn take_up_instance(&mut self, instance: Instance) {
        self.spending.priced(&instance);
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
            InstanceStatus::Pending | InstanceStatus::Running if instance.request.is_some() => {
                self.timers.set(Timer::Equip(instance.id), self.now);
            }
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
        let before = live.instance.status;
        change(&mut live.instance, self.now);
        let instance = live.instance.clone();
        if instance.status != before {
            // Whether it counts, or what it costs, is another matter now.
            self.unsettled.insert(instance.pool.clone());
        }
        if let Some(pool) = self.pools.get_mut(&instance.pool) {
            match (before.may_run(), instance.status.may_run()) {
                (true, false) => pool.alive = pool.alive.saturating_sub(1),
                (false, true) => pool.alive += 1,
                (true, true) | (false, false) => {}
            }
        }
        if instance.status.is_final() {
            self.note_ended(&instance);
            self.turn_day();
            self.spending.instance_ended(&instance);
            self.instances.remove(&id);
            for timer in
                [Timer::Terminate, Timer::Settle, Timer::Equip, Timer::Stop, Timer::StoppedTooLong]
            {
                self.timers.clear(&timer(id));
            }
        }
        self.remember(Record::Instance(instance));
    }

    pub(super) fn instance_accepted(&mut self, id: InstanceId, cloud_id: CloudId) {
        self.timers.clear(&Timer::Settle(id));
        self.change_instance(id, |instance, now| {
            if instance.seat.is_none() {
                instance.request = None;
            }
            instance.cloud_id = Some(cloud_id);
            instance.accepted_at = instance.accepted_at.or(Some(now));
            if instance.status == InstanceStatus::Requested {
                instance.status = InstanceStatus::Pending;
            }
        });
        let row = self.instances.get(&id).map(|live| &live.instance);
        let taken = row.map(|row| (row.pool.clone(), row.is_started_again()));
        if let Some((pool, is_start)) = taken
            && let Some(known) = self.pools.get_mut(&pool)
        {
            if is_start {
                known.keeping = Keeping::default();
            }
            known.refusals.is_image_renewed = false;
            self.unsettled.insert(pool.clone());
            self.list_soon(&pool);
        }
        self.equip(id);
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
        let console_for = live.instance.is_silent().then(|| live.instance.worker.clone());
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

    pub(super) fn ask_to_end(&mut self, id: InstanceId, console_for: Option<WorkerName>) {
        let Some(live) = self.instances.get(&id) else { return };
        let instance = &live.instance;
        self.timers.set(Timer::Terminate(id), self.now + TERMINATE_AGAIN);
        if self.is_unconfirmed(&instance.pool) {
            return;
        }
        let asked_for = self.now.since(instance.ending_at.unwrap_or(self.now));
        let urgency = match live.is_distrusted {
            _ if asked_for >= FORCE_AFTER => Urgency::Forced,
            true => Urgency::AtOnce,
            false => Urgency::Orderly,
        };
        let action = Action::Terminate {
            instance: Some(id),
            launch: instance.launch.clone(),
            pool: instance.pool.clone(),
            cloud_id: instance.cloud_id.clone(),
            console_for,
            urgency,
        };
        let pool = instance.pool.clone();
        self.list_soon(&pool);
        self.perform(action);
    }

    /// It stays in the ledger, is counted, and is asked for again; a person must look.
    pub(super) fn end_refused(&mut self, id: InstanceId, why: &str) {
        let Some(live) = self.instances.get_mut(&id) else { return };
        let is_ending = live.instance.status == InstanceStatus::Terminating;
        if !is_ending || std::mem::replace(&mut live.is_end_refused, true) {
            return;
        }
        let what = live.instance.cloud_id.as_ref().map_or(String::new(), ToString::to_string);
        let pool = live.instance.pool.clone();
        self.perform(Action::Alarm(format!(
            "ALARM: machine {what} of pool \"{pool}\" cannot be ended, and costs money: {why}"
        )));
        self.change_instance(id, |instance, _| {
            let ended = instance.why_ended.take().unwrap_or_default();
            instance.why_ended = Some(format!("{ended}; its end was refused at first: {why}"));
        });
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
        self.instance_ended_by(id, why, EndCause::Unknown);
    }

    /// The same, where it is known who or what ended it.
    pub(super) fn instance_ended_by(&mut self, id: InstanceId, why: Option<&str>, cause: EndCause) {
        let Some(live) = self.instances.get(&id) else { return };
        let row = live.instance.clone();
        let worker = live.instance.worker.clone();
        let pool = live.instance.pool.clone();
        let was_asked = live.instance.status == InstanceStatus::Terminating;
        let was_ready = live.instance.ready_at.is_some();
        let was_accepted = live.instance.accepted_at.is_some();
        let (candidate, has_called) = (live.instance.candidate, live.instance.contact_at.is_some());
        if live.instance.is_silent()
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
            (None, false) if cause == EndCause::ByHand => {
                "somebody ended it: by hand, or with another program".to_owned()
            }
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
        if was_accepted {
            self.room_in_quota();
        }
        if !was_asked && !was_ready {
            self.launch_ended(&pool, candidate, has_called, &why, cause);
            self.mail_missing(&pool, &worker, &why);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::master::domain::decision::Action;
    use crate::master::domain::decision::ToAgent;
    use crate::master::domain::decision::Urgency;
    use crate::master::domain::event::AgentHello;
    use crate::master::domain::event::EndCause;
    use crate::master::domain::event::Event;
    use crate::master::domain::event::Machine;
    use crate::master::domain::event::MachineState;
    use crate::master::domain::event::Proof;
    use crate::master::domain::event::Request;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::master::domain::settings::PoolSettings;
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

    fn urgencies(actions: &[Action]) -> Vec<Urgency> {
        let asked = actions.iter().filter_map(|action| match action {
            Action::Terminate { urgency, .. } => Some(*urgency),
            _ => None,
        });
        asked.collect()
    }

    #[test]
    fn a_machine_that_does_not_end_is_forced_to_after_10_minutes() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (_, worker, _) = rig.arrive();
        rig.ask(Request::StopWorker(worker));
        assert_eq!(urgencies(&rig.done), [Urgency::Orderly]);
        assert!(urgencies(&rig.wait(599)).iter().all(|urgency| *urgency == Urgency::Orderly));
        assert_eq!(urgencies(&rig.wait(30)), [Urgency::Forced]);
    }

    #[test]
    fn a_machine_that_is_not_trusted_is_given_no_time() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        let (instance, worker, _) = rig.arrive();
        let thief = AgentHello { public_key: b"another".to_vec(), ..rig::hello(Proof::Password) };
        rig.greet(&worker, thief);
        assert_eq!(urgencies(&rig.done), [Urgency::AtOnce]);
        let why = rig.row(instance).why_ended;
        assert_eq!(why.as_deref(), Some("two agents knew its password"));
    }

    #[test]
    fn a_machine_that_may_not_be_ended_is_an_alarm_and_still_counts() {
        let pool = PoolSettings { max_instances: 1, ..rig::pool("linux") };
        let mut rig = Rig::new(vec![pool]);
        rig.build("app", vec![rig::job("test", &[]), rig::job("next", &[])]);
        let (instance, worker, _) = rig.arrive();
        rig.ask(Request::StopWorker(worker));
        let mut alarms = 0;
        for _ in 0..3 {
            let sentence = "EC2 refused TerminateInstances: OperationNotPermitted".to_owned();
            rig.say(Event::EndRefused { instance, sentence });
            alarms += rig.done.iter().filter(|a| matches!(a, Action::Alarm(_))).count();
            assert!(rig.launches().is_empty(), "it is there, and counts");
            assert!(rig::ends(&rig.wait(30), instance), "and it is asked for again");
        }
        assert_eq!(alarms, 1, "somebody is told, once");
        rig.say(Event::InstanceEnded { instance, sentence: None });
        let why = rig.row(instance).why_ended.expect("its row says why");
        assert!(why.contains("somebody stopped it; its end was refused at first: EC2"), "{why}");
        assert_eq!(rig.launches().len(), 1);
    }

    #[test]
    fn a_machine_that_somebody_stopped_is_ended_and_its_row_says_so() {
        for (cause, reason, expected) in [
            (EndCause::ByHand, None, "it was stopped, and not by us"),
            (
                EndCause::Retired,
                Some("EC2 ended it: Server.ScheduledStop".to_owned()),
                "it was stopped, and not by us: EC2 ended it: Server.ScheduledStop",
            ),
        ] {
            let mut rig = Rig::new(vec![rig::pool("linux")]);
            rig.build("app", vec![rig::job("test", &[])]);
            let (instance, _, _) = rig.arrive();
            let running = rig::machine("i-1", &rig.launch_of(instance));
            let machine = Machine { state: MachineState::Stopped, reason, cause, ..running };
            rig.wait(1);
            let asked_at = rig.now;
            rig.say(Event::CloudListed { pool: "linux".into(), asked_at, machines: vec![machine] });
            assert!(rig.ends(instance));
            assert_eq!(rig.row(instance).why_ended.as_deref(), Some(expected));
        }
    }
}
