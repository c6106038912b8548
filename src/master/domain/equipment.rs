//! What an instance gets beside what its launch makes: an address and volumes that were there before it
//! and stay when it is gone.
//!
//! A pool has so many of them, one set for each *seat*; an instance takes the lowest free seat with its
//! launch and keeps it until its end. What it gets stands in the launch's request, which its row keeps
//! until all of it is there: `Equip` is performed then, and again until it has worked. Before that the
//! worker is given nothing to do, not even its bootstrap script: that may want the volumes.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Action;
use crate::master::domain::decision::ToAgent;
use crate::master::domain::entities::Instance;
use crate::master::domain::event::LaunchFailure;
use crate::master::domain::timers::Timer;
use crate::master::domain::workers;
use crate::model::backoff::Backoff;
use crate::model::ids::InstanceId;
use crate::model::ids::PoolName;
use crate::model::ids::WorkerName;
use crate::model::status::InstanceStatus;
use crate::model::status::WorkerStatus;

/// Between two looks at an instance that is not up yet, or at a volume that is still on its way.
const EQUIP: Backoff = match Backoff::new(Duration::from_secs(3), Duration::from_secs(15)) {
    Some(backoff) => backoff,
    None => unreachable!(),
};

/// What is not there by then will not come: a volume lets go of an instance that ends within a minute.
const EQUIP_MAX: Duration = Duration::from_secs(10 * 60);

/// Why a worker that has called is not ready yet.
pub(super) const WAITS_FOR_EQUIPMENT: &str = "it waits for its address and volumes";

impl Instance {
    /// Whether something that belongs to it is not there yet.
    fn is_unequipped(&self) -> bool {
        let is_up = match self.status {
            InstanceStatus::Pending | InstanceStatus::Running => true,
            InstanceStatus::Requested
            | InstanceStatus::Stopping
            | InstanceStatus::Stopped
            | InstanceStatus::Terminating
            | InstanceStatus::Terminated
            | InstanceStatus::Failed => false,
        };
        is_up && self.seat.is_some() && self.request.is_some()
    }
}

impl Coordinator {
    /// The seat of the pool's next instance; an error where every seat is taken.
    pub(super) fn free_seat(&self, pool: &PoolName) -> Result<Option<u32>, ()> {
        let seats = self.pools.get(pool).map_or(0, |pool| pool.settings.seats);
        if seats == 0 {
            return Ok(None);
        }
        let rows = self.instances.values().map(|live| &live.instance);
        let taken: BTreeSet<u32> =
            rows.filter(|row| &row.pool == pool).filter_map(|row| row.seat).collect();
        (0..seats).find(|seat| !taken.contains(seat)).map(Some).ok_or(())
    }

    /// Asks for what belongs to an instance to be there, if it is not.
    pub(super) fn equip(&mut self, id: InstanceId) {
        let Some(live) = self.instances.get(&id) else { return };
        let row = &live.instance;
        if !row.is_unequipped() {
            return;
        }
        let (Some(cloud_id), Some(request)) = (row.cloud_id.clone(), row.request.clone()) else {
            return;
        };
        let (launch, pool) = (row.launch.clone(), row.pool.clone());
        self.perform(Action::Equip { instance: id, launch, pool, cloud_id, request });
    }

    pub(super) fn instance_equipped(&mut self, id: InstanceId) {
        let Some(live) = self.instances.get(&id) else { return };
        if !live.instance.is_unequipped() {
            return;
        }
        let worker = live.instance.worker.clone();
        self.timers.clear(&Timer::Equip(id));
        self.change_instance(id, |row, _| row.request = None);
        let Some(live) = self.workers.get(&worker) else { return };
        let has_called = live.connection.is_some() && live.is_known;
        if has_called && live.worker.status == WorkerStatus::Starting {
            self.begin_worker(&worker, false);
        }
    }

    pub(super) fn equip_failed(&mut self, id: InstanceId, why: &str, failure: LaunchFailure) {
        let random = self.dice.roll();
        let Some(live) = self.instances.get_mut(&id) else { return };
        let row = &live.instance;
        if !row.is_unequipped() {
            return;
        }
        let since = row.accepted_at.unwrap_or(row.requested_at);
        if failure == LaunchFailure::Unsettled && since + EQUIP_MAX > self.now {
            let delay = EQUIP.delay(live.tries, random);
            live.tries = live.tries.saturating_add(1);
            return self.timers.set(Timer::Equip(id), self.now + delay);
        }
        let (worker, pool) = (row.worker.clone(), row.pool.clone());
        let is_awaited =
            self.workers.get(&worker).is_some_and(|live| workers::is_coming(&live.worker));
        self.end_worker(&worker, why);
        self.terminate(id, why);
        match failure {
            LaunchFailure::Denied => self.denied(&pool, why),
            LaunchFailure::Invalid => self.must_be_looked_at(&pool, why),
            LaunchFailure::Capacity
            | LaunchFailure::PlaceFull
            | LaunchFailure::Unsupported
            | LaunchFailure::NoSuchPlace
            | LaunchFailure::SpotQuota
            | LaunchFailure::Quota
            | LaunchFailure::Limit
            | LaunchFailure::ImageGone
            | LaunchFailure::DiedAtOnce
            | LaunchFailure::Unsettled
            | LaunchFailure::Other => self.launch_went_wrong(&pool, why),
        }
        if is_awaited {
            self.mail_missing(&pool, &worker, why);
        }
    }

    /// Whether a worker that has called must wait for what belongs to its instance.
    pub(super) fn lacks_equipment(&self, name: &WorkerName) -> bool {
        let instance = self.workers.get(name).and_then(|live| live.worker.instance);
        let row = instance.and_then(|id| self.instances.get(&id));
        row.is_some_and(|live| live.instance.is_unequipped())
    }

    /// It has called, so its machine is up: what waits for that can be done at once.
    pub(super) fn wait_for_equipment(&mut self, name: &WorkerName) {
        let instance = self.workers.get(name).and_then(|live| live.worker.instance);
        if let Some(id) = instance
            && self.timers.is_set(&Timer::Equip(id))
        {
            self.timers.set(Timer::Equip(id), self.now);
        }
        self.change_worker(name, |worker, _| {
            worker.reason = Some(WAITS_FOR_EQUIPMENT.to_owned());
        });
    }

    /// A worker that has called, and that nothing keeps from it, becomes ready: by its script, or at
    /// once.
    pub(super) fn begin_worker(&mut self, name: &WorkerName, bootstrapped: bool) {
        let has_script = self.pool_of(name).is_some_and(|pool| pool.settings.has_bootstrap);
        if !has_script || bootstrapped {
            return self.worker_ready(name);
        }
        self.change_worker(name, |worker, _| {
            worker.status = WorkerStatus::Bootstrapping;
            worker.reason = None;
        });
        self.watch_bootstrap(name);
        self.tell(name, ToAgent::Bootstrap);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::master::domain::event::Event;
    use crate::master::domain::event::Proof;
    use crate::master::domain::event::Request;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::master::domain::settings::PoolSettings;
    use crate::model::ids::CloudId;

    /// A pool with two seats, and a script.
    fn seated() -> PoolSettings {
        PoolSettings { seats: 2, max_instances: 2, has_bootstrap: true, ..rig::pool("linux") }
    }

    fn busy() -> Rig {
        let mut rig = Rig::new(vec![seated()]);
        rig.build("app", vec![rig::job("one", &[]), rig::job("two", &[])]);
        rig
    }

    fn seats(actions: &[Action]) -> Vec<Option<u32>> {
        let seats = actions.iter().filter_map(|action| match action {
            Action::Prepare { seat, .. } => Some(*seat),
            _ => None,
        });
        seats.collect()
    }

    fn equips(actions: &[Action]) -> Vec<(InstanceId, CloudId, String)> {
        let equips = actions.iter().filter_map(|action| match action {
            Action::Equip { instance, cloud_id, request, .. } => {
                Some((*instance, cloud_id.clone(), request.clone()))
            }
            _ => None,
        });
        equips.collect()
    }

    fn failed(rig: &mut Rig, instance: InstanceId, failure: LaunchFailure) {
        let sentence = "203.0.113.7 is taken by i-9".to_owned();
        rig.say(Event::EquipFailed { instance, sentence, failure });
    }

    #[test]
    fn no_two_instances_have_one_seat_and_a_seat_is_free_when_its_instance_is_gone() {
        let mut rig = busy();
        assert_eq!(seats(&rig.done), [Some(0), Some(1)]);
        let (first, _, worker) = rig.launches()[0].clone();
        rig.accept(first);
        rig.ask(Request::StopWorker(worker));
        assert_eq!(seats(&rig.done), [], "it holds its address until it is gone");
        rig.say(Event::InstanceEnded { instance: first, sentence: None });
        assert_eq!(seats(&rig.done), [Some(0)]);
    }

    #[test]
    fn a_pool_without_such_things_has_no_seats() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("one", &[])]);
        assert_eq!(seats(&rig.done), [None]);
        let (instance, _, _) = rig.launches()[0].clone();
        rig.accept(instance);
        assert_eq!(equips(&rig.done), []);
    }

    #[test]
    fn a_worker_is_told_nothing_before_what_belongs_to_its_machine_is_there() {
        let mut rig = busy();
        let (instance, _, worker) = rig.launches()[0].clone();
        rig.accept(instance);
        let asked = equips(&rig.done);
        assert_eq!(asked, [(instance, CloudId(format!("i-{instance}")), "request".to_owned())]);
        rig.connect(&worker, rig::hello(Proof::Password), &[]);
        assert_eq!(rig.told().len(), 0, "no script: it may want the volumes");
        assert_eq!(rig.worker(&worker).reason.as_deref(), Some(WAITS_FOR_EQUIPMENT));
        rig.say(Event::InstanceEquipped { instance });
        assert!(matches!(rig.told()[..], [ToAgent::Bootstrap]), "{:?}", rig.told());
        assert_eq!(rig.worker(&worker).reason, None);
        rig.say(Event::InstanceEquipped { instance });
        assert_eq!(rig.told().len(), 0, "once is enough");
    }

    #[test]
    fn one_that_calls_when_all_is_there_begins_at_once() {
        let mut rig = busy();
        let (instance, _, worker) = rig.launches()[0].clone();
        rig.accept(instance);
        rig.say(Event::InstanceEquipped { instance });
        rig.connect(&worker, rig::hello(Proof::Password), &[]);
        assert!(matches!(rig.told()[..], [ToAgent::Bootstrap]), "{:?}", rig.told());
    }

    #[test]
    fn what_is_not_there_yet_is_asked_for_again_and_at_once_when_the_machine_is_heard_of() {
        let mut rig = busy();
        let (instance, _, worker) = rig.launches()[0].clone();
        rig.accept(instance);
        failed(&mut rig, instance, LaunchFailure::Unsettled);
        assert_eq!(equips(&rig.done), []);
        assert_eq!(equips(&rig.wait(3)).len(), 1);
        failed(&mut rig, instance, LaunchFailure::Unsettled);
        rig.connect(&worker, rig::hello(Proof::Password), &[]);
        assert_eq!(equips(&rig.wait(0)).len(), 1);
    }

    #[test]
    fn an_address_that_is_taken_ends_that_launch_and_leaks_nothing() {
        let mut rig = busy();
        let (instance, _, _) = rig.launches()[0].clone();
        rig.accept(instance);
        failed(&mut rig, instance, LaunchFailure::Other);
        assert!(rig.ends(instance));
        assert!(rig.reason("one").contains("is taken by i-9"), "{}", rig.reason("one"));
        assert_eq!(equips(&rig.wait(60)), []);
    }

    #[test]
    fn what_never_comes_is_given_up_after_ten_minutes() {
        let slow = PoolSettings { boot_timeout: Duration::from_secs(3600), ..seated() };
        let mut rig = Rig::new(vec![slow]);
        rig.build("app", vec![rig::job("one", &[])]);
        let (instance, _, _) = rig.launches()[0].clone();
        rig.accept(instance);
        let end = rig.now + EQUIP_MAX;
        while rig.now < end {
            failed(&mut rig, instance, LaunchFailure::Unsettled);
            assert!(!rig.ends(instance));
            rig.wait(15);
        }
        failed(&mut rig, instance, LaunchFailure::Unsettled);
        assert!(rig.ends(instance));
    }

    #[test]
    fn what_a_person_must_mend_pauses_the_pool() {
        for failure in [LaunchFailure::Denied, LaunchFailure::Invalid] {
            let mut rig = busy();
            let (instance, _, _) = rig.launches()[0].clone();
            rig.accept(instance);
            failed(&mut rig, instance, failure);
            assert!(rig.ends(instance));
            rig.say(Event::InstanceEnded { instance, sentence: None });
            assert_eq!(seats(&rig.wait(600)), []);
        }
    }

    /// Whether a dry run was asked for.
    fn probes(actions: &[Action]) -> bool {
        actions.iter().any(|action| matches!(action, Action::Probe { .. }))
    }

    #[test]
    fn a_pool_whose_machines_may_not_have_what_is_theirs_asks_and_goes_on_ever_less_often() {
        let one = PoolSettings { max_instances: 1, ..seated() };
        let mut rig = Rig::new(vec![one]);
        rig.build("app", vec![rig::job("one", &[])]);
        for minutes in [5, 10, 20, 40, 60, 60] {
            let (instance, _, _) = rig.launches()[0].clone();
            rig.accept(instance);
            failed(&mut rig, instance, LaunchFailure::Denied);
            rig.say(Event::InstanceEnded { instance, sentence: None });
            assert!(!probes(&rig.wait(minutes * 60 - 1)), "not before {minutes} min");
            assert!(probes(&rig.wait(1)), "after {minutes} min");
            rig.say(Event::Probed { pool: "linux".into(), failure: None });
        }
    }

    #[test]
    fn a_master_that_starts_again_goes_on_equipping_and_keeps_the_seats() {
        let mut rig = busy();
        let (instance, _, _) = rig.launches()[1].clone();
        rig.accept(instance);
        let mut next = Rig::load(vec![seated()], rig.launched());
        let request = "request".to_owned();
        assert_eq!(equips(&next.done), [(instance, CloudId(format!("i-{instance}")), request)]);
        assert_eq!(seats(&next.done), [Some(0)], "the other launch goes on with its own seat");
        next.say(Event::InstanceEquipped { instance });
        let next = Rig::load(vec![seated()], next.launched());
        assert_eq!(equips(&next.done), [], "what is there is not asked for again");
    }
}
