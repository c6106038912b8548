//! A launch: a candidate is chosen, its request settled and remembered, and then it is sent, until it
//! is known what came of it.
//!
//! One row of the ledger is one try with one idempotency token. A candidate that was refused ends its
//! row, and the next one is a row of its own.

use std::time::Duration;

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Action;
use crate::master::domain::decision::Record;
use crate::master::domain::entities::Enrolment;
use crate::master::domain::entities::Instance;
use crate::master::domain::entities::InstanceRun;
use crate::master::domain::entities::Resumes;
use crate::master::domain::entities::Worker;
use crate::master::domain::event::LaunchFailure;
use crate::master::domain::instances::LiveInstance;
use crate::master::domain::pool;
use crate::master::domain::settings::PoolSettings;
use crate::master::domain::timers::Timer;
use crate::master::domain::wait_reason::LaunchHold;
use crate::model::backoff::Backoff;
use crate::model::ids::InstanceId;
use crate::model::ids::LaunchId;
use crate::model::ids::PoolName;
use crate::model::ids::WorkerName;
use crate::model::money::Money;
use crate::model::status::InstanceStatus;
use crate::model::status::WorkerFate;
use crate::model::status::WorkerStatus;
use crate::model::time::Timestamp;

/// Between two tries of a launch of unknown outcome. The provisioner has tried a few times itself.
const SETTLE: Backoff = match Backoff::new(Duration::from_secs(5), Duration::from_secs(60)) {
    Some(backoff) => backoff,
    None => unreachable!(),
};

/// Nobody can want a machine that is older than it may get by this.
pub(super) const EXPIRY_MARGIN: Duration = Duration::from_secs(10 * 60);

/// While nothing is to be launched at all, open launches are looked at this often.
const BLIND_LOOK: Duration = Duration::from_secs(60);

impl Coordinator {
    /// Asks for a machine, and makes the worker that will run on it.
    pub(super) fn launch(&mut self, pool: &PoolName, why: String) {
        self.last_ids.instance += 1;
        let id = InstanceId(self.last_ids.instance);
        let launch = self.fresh_launch(id);
        let name = self.fresh_name(pool);
        let Ok(seat) = self.free_seat(pool) else { return };
        let Some(candidate) = self.next_candidate(pool) else { return };
        let Some(known) = self.pools.get_mut(pool) else { return };
        known.alive += 1;
        let expires_at = Some(self.now + known.settings.boot_timeout);
        let instance = Instance {
            id,
            launch: launch.clone(),
            pool: pool.clone(),
            worker: name.clone(),
            status: InstanceStatus::Requested,
            candidate,
            seat,
            what: None,
            price_per_hour: None,
            request: None,
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
            runs: vec![InstanceRun::asked(self.now)],
        };
        let worker = Worker {
            instance: Some(id),
            ..self.fresh_worker(name.clone(), pool.clone(), launch.clone(), expires_at)
        };
        self.remember(Record::Instance(instance.clone()));
        self.remember(Record::Worker(worker.clone()));
        self.instances.insert(id, LiveInstance::new(instance));
        self.take_up_worker(worker);
        self.launch_again(id);
    }

    /// Asks for what a row that is not settled needs next: its request, or the machine itself. The
    /// same launch again starts no second machine, so this may be done at any time.
    pub(super) fn launch_again(&mut self, id: InstanceId) {
        let Some(live) = self.instances.get(&id) else { return };
        let row = &live.instance;
        if row.status != InstanceStatus::Requested {
            return;
        }
        if self.is_blind(&row.pool) {
            return self.timers.set(Timer::Settle(id), self.now + BLIND_LOOK);
        }
        let (launch, pool, worker) = (row.launch.clone(), row.pool.clone(), row.worker.clone());
        let action = match (row.cloud_id.clone(), row.request.clone()) {
            (Some(cloud_id), _) => Action::Start { instance: id, launch, pool, cloud_id },
            (None, Some(request)) => Action::Launch { instance: id, launch, pool, worker, request },
            (None, None) => {
                let settings = self.pools.get(&pool).map(|pool| &pool.settings);
                let life = settings.map_or(Duration::ZERO, PoolSettings::longest_life);
                let expires_at = row.requested_at + life + EXPIRY_MARGIN;
                let (candidate, seat) = (row.candidate, row.seat);
                Action::Prepare { instance: id, launch, pool, worker, candidate, seat, expires_at }
            }
        };
        self.perform(action);
    }

    pub(super) fn launch_prepared(
        &mut self,
        id: InstanceId,
        request: String,
        what: String,
        price_per_hour: Option<Money>,
    ) {
        let Some(live) = self.instances.get(&id) else { return };
        if live.instance.status != InstanceStatus::Requested || live.instance.request.is_some() {
            return;
        }
        self.change_instance(id, |row, _| {
            row.request = Some(request);
            row.what = Some(what);
            row.price_per_hour = price_per_hour;
        });
        if let Some(row) = self.instances.get(&id).map(|live| &live.instance) {
            self.spending.priced(row);
            self.unsettled.insert(row.pool.clone());
        }
        self.launch_again(id);
    }

    pub(super) fn launch_failed(&mut self, id: InstanceId, why: &str, failure: LaunchFailure) {
        let Some(live) = self.instances.get_mut(&id) else { return };
        let (status, candidate) = (live.instance.status, live.instance.candidate);
        let (pool, worker) = (live.instance.pool.clone(), live.instance.worker.clone());
        if failure == LaunchFailure::Unsettled {
            if status == InstanceStatus::Requested {
                self.unsettled_launch(id, why);
            }
            return;
        }
        match status {
            InstanceStatus::Requested if live.instance.cloud_id.is_some() => {
                return self.start_failed(id, why, failure);
            }
            InstanceStatus::Requested => {}
            // It was given up meanwhile, and now it is known that nothing was ever there.
            InstanceStatus::Terminating if live.instance.cloud_id.is_none() => {
                return self.instance_ended(id, Some(why));
            }
            _ => return,
        }
        self.change_instance(id, |row, now| {
            row.status = InstanceStatus::Failed;
            row.why_ended = Some(why.to_owned());
            row.ended_at = Some(now);
            row.run_ends(now);
        });
        self.worker_gone(&worker, why);
        self.launch_refused(&pool, candidate, why, failure);
    }

    /// The outcome is unknown: the same request again, and no other candidate before it is.
    fn unsettled_launch(&mut self, id: InstanceId, why: &str) {
        let random = self.dice.roll();
        let Some(live) = self.instances.get_mut(&id) else { return };
        let delay = SETTLE.delay(live.tries, random);
        live.tries = live.tries.saturating_add(1);
        let pool = live.instance.pool.clone();
        self.timers.set(Timer::Settle(id), self.now + delay);
        self.note_failure(&pool, why);
    }

    pub(super) fn note_failure(&mut self, name: &PoolName, why: &str) {
        if let Some(pool) = self.pools.get_mut(name) {
            pool.last_failure = Some(why.to_owned());
            self.unsettled.insert(name.clone());
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
        self.hold_until(name, LaunchHold::Failure, self.now + delay);
        self.remember(Record::Pool(state));
        if failures >= pool::FAILURES_MAX {
            let why = format!("{failures} launches in a row went wrong; the last: {why}");
            self.pause_itself(name, why, Resumes::WhenAsked);
        }
        self.unsettled.insert(name.clone());
    }

    pub(super) fn launch_succeeded(&mut self, name: &PoolName) {
        let Some(pool) = self.pools.get_mut(name) else { return };
        pool.last_failure = None;
        pool.refusals.is_ready();
        if pool.state.failures > 0 {
            pool.state.failures = 0;
            let state = pool.state.clone();
            self.remember(Record::Pool(state));
        }
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
            fate: WorkerFate::Serves,
            taken_at: None,
            notice: None,
            created_at: self.now,
            idle_since: None,
            ended_at: None,
        }
    }

    /// A launch that was never made before. That it tells its row is how a restored copy of the
    /// ledger is noticed.
    pub(super) fn fresh_launch(&mut self, id: InstanceId) -> LaunchId {
        LaunchId(format!("{:016x}{:016x}{:08x}", self.dice.roll(), self.dice.roll(), id.0))
    }

    /// A name that no worker has. Gone ones are in the store alone, so chance must do: 2^40 names.
    pub(super) fn fresh_name(&mut self, pool: &PoolName) -> WorkerName {
        loop {
            let name = WorkerName(format!("{pool}-{:010x}", self.dice.roll() >> 24));
            if !self.workers.contains_key(&name) {
                return name;
            }
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
    use crate::model::ids::CloudId;
    use crate::model::status::JobStatus;

    fn fail(rig: &mut Rig, failure: LaunchFailure) {
        let (instance, _, _) = rig.launches().pop().expect("a machine was asked for");
        let sentence = "no capacity".to_owned();
        rig.say(Event::LaunchFailed { instance, sentence, failure });
    }

    /// Two ways to ask for a machine.
    fn choosy() -> Rig {
        let candidates = vec!["big".into(), "small".into()];
        let mut rig = Rig::new(vec![PoolSettings { candidates, ..rig::pool("linux") }]);
        rig.build("app", vec![rig::job("test", &[])]);
        rig
    }

    /// The candidate that was just chosen.
    fn chosen(rig: &Rig) -> Vec<u32> {
        let prepared = rig.done.iter().filter_map(|action| match action {
            Action::Prepare { candidate, .. } => Some(*candidate),
            _ => None,
        });
        prepared.collect()
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
        fail(&mut rig, LaunchFailure::Other);
        assert!(rig.launches().is_empty(), "not at once");
        assert!(rig.reason("test").contains("no capacity"));
        launched_again(&mut rig);
        fail(&mut rig, LaunchFailure::Other);
        launched_again(&mut rig);
        fail(&mut rig, LaunchFailure::Other);
        rig.done = rig.wait(7200);
        assert!(rig.launches().is_empty());
        let why = rig.reason("test");
        assert!(why.contains("is paused: 3 launches in a row"), "{why}");
        assert!(why.ends_with("; `busybee pool resume linux` when it is mended"), "{why}");
        assert_eq!(rig.status("test"), JobStatus::Queued, "the job itself is never failed for it");
        rig.ask(Request::ResumePool("linux".into()));
        assert_eq!(rig.launches().len(), 1);
    }

    #[test]
    fn what_only_a_person_can_mend_pauses_the_pool_at_once() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        fail(&mut rig, LaunchFailure::Denied);
        rig.done = rig.wait(7200);
        assert!(rig.launches().is_empty());
    }

    #[test]
    fn a_worker_that_became_ready_begins_the_count_of_failures_anew() {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        fail(&mut rig, LaunchFailure::Other);
        launched_again(&mut rig);
        rig.arrive();
        let state = rig.written.iter().rev().find_map(|record| match record {
            Record::Pool(state) => Some(state.failures),
            _ => None,
        });
        assert_eq!(state, Some(0));
    }

    #[test]
    fn a_request_is_remembered_before_it_is_sent() {
        let mut rig = choosy();
        let (instance, _, _) = rig.launches()[0].clone();
        assert_eq!(chosen(&rig), [0]);
        let (request, what) = ("a=1&b=2".to_owned(), "big in here".to_owned());
        rig.say(Event::LaunchPrepared {
            instance,
            request: request.clone(),
            what,
            price_per_hour: None,
        });
        let rows = rig.written.iter().filter_map(|record| match record {
            Record::Instance(row) => row.request.clone(),
            _ => None,
        });
        assert_eq!(rows.max().as_deref(), Some("a=1&b=2"));
        let sent = rig.done.iter().find_map(|action| match action {
            Action::Launch { request, .. } => Some(request.clone()),
            _ => None,
        });
        assert_eq!(sent, Some(request));
    }

    #[test]
    fn without_room_for_one_candidate_the_next_is_tried_at_once_and_costs_the_pool_nothing() {
        let mut rig = choosy();
        fail(&mut rig, LaunchFailure::Capacity);
        assert_eq!(chosen(&rig), [1]);
        fail(&mut rig, LaunchFailure::Capacity);
        assert_eq!(chosen(&rig), [] as [u32; 0], "both are left alone");
        assert!(rig.reason("test").contains("no capacity"), "{}", rig.reason("test"));
        rig.done = rig.wait(3 * 60);
        assert_eq!(chosen(&rig), [0], "and after a while the first is tried again");
        fail(&mut rig, LaunchFailure::Capacity);
        assert_eq!(chosen(&rig), [1], "the first is now left alone for longer");
        let paused = rig.written.iter().any(
            |record| matches!(record, Record::Pool(state) if state.paused.is_some() || state.failures > 0),
        );
        assert!(!paused);
    }

    #[test]
    fn a_launch_of_unknown_outcome_is_made_again_and_never_another_beside_it() {
        let mut rig = choosy();
        let (instance, launch, _) = rig.launches()[0].clone();
        let (request, what) = ("same".to_owned(), "big".to_owned());
        rig.say(Event::LaunchPrepared { instance, request, what, price_per_hour: None });
        fail_settled(&mut rig, instance);
        assert!(rig.launches().is_empty());
        let done = rig.wait(10);
        let again = done.iter().any(|action| {
            matches!(action, Action::Launch { launch: same, request, .. }
                if *same == launch && request == "same")
        });
        assert!(again, "{done:?}");
        assert!(!done.iter().any(|action| matches!(action, Action::Prepare { .. })));
    }

    fn fail_settled(rig: &mut Rig, instance: InstanceId) {
        let sentence = "a time-out".to_owned();
        let failure = LaunchFailure::Unsettled;
        rig.say(Event::LaunchFailed { instance, sentence, failure });
    }

    #[test]
    fn a_master_that_starts_again_makes_open_launches_again() {
        let mut rig = choosy();
        let (instance, _, _) = rig.launches()[0].clone();
        let request = "same".to_owned();
        let what = "big".to_owned();
        rig.say(Event::LaunchPrepared { instance, request, what, price_per_hour: None });
        let mut next = Rig::load(vec![rig::pool("linux")], rig.launched());
        let is_made = next
            .done
            .iter()
            .any(|action| matches!(action, Action::Launch { request, .. } if request == "same"));
        assert!(is_made, "{:?}", next.done);
        let cloud_id = CloudId::from("i-1");
        next.say(Event::InstanceAccepted { instance, cloud_id });
        assert!(next.launches().is_empty(), "it is adopted, and none is started beside it");
    }

    #[test]
    fn candidates_that_do_not_exist_pause_the_pool_when_there_is_no_other() {
        let mut rig = choosy();
        fail(&mut rig, LaunchFailure::Unsupported);
        assert_eq!(chosen(&rig), [1]);
        fail(&mut rig, LaunchFailure::Unsupported);
        assert!(rig.reason("test").contains("none of its candidates exists"));
        rig.ask(Request::ResumePool("linux".into()));
        assert_eq!(chosen(&rig), [0], "somebody has looked");
    }

    #[test]
    fn an_account_that_may_not_have_more_waits_and_is_not_paused() {
        let mut rig = choosy();
        fail(&mut rig, LaunchFailure::Quota);
        assert!(rig.launches().is_empty());
        rig.done = rig.wait(9 * 60);
        assert!(rig.launches().is_empty());
        rig.done = rig.wait(61);
        assert_eq!(rig.launches().len(), 1);
    }

    #[test]
    fn a_launch_that_was_given_up_before_it_was_sent_is_simply_over() {
        let mut rig = choosy();
        let (instance, _, worker) = rig.launches()[0].clone();
        rig.ask(Request::StopWorker(worker));
        assert!(!rig.ends(instance), "there is nothing to end");
        let what = "big".to_owned();
        let request = "late".to_owned();
        rig.say(Event::LaunchPrepared { instance, request, what, price_per_hour: None });
        assert!(!rig.done.iter().any(|action| matches!(action, Action::Launch { .. })));
    }
}
