//! Why a pool launches nothing, and what lets it launch again: somebody who asks for it, a permission
//! that is back, machines that can be listed again, or word that this ledger is the newest.

use std::time::Duration;

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Action;
use crate::master::domain::decision::Record;
use crate::master::domain::entities::Resumes;
use crate::master::domain::event::LaunchFailure;
use crate::master::domain::launches;
use crate::master::domain::refusals::Refusals;
use crate::master::domain::timers::Timer;
use crate::model::ids::InstanceId;
use crate::model::ids::PoolName;
use crate::model::ids::WorkerName;
use crate::model::status::WorkerStatus;

/// A pool that was refused asks this often whether it may launch again.
const PROBE_EVERY: Duration = Duration::from_secs(5 * 60);

/// But no less often, where probes say that it may and launches that it may not.
const PROBE_EVERY_MAX: Duration = Duration::from_secs(60 * 60);

/// A pool whose machines could not be listed for this long is blind: what it launches now it could not
/// find again, and what it ends may go on.
const BLIND_AFTER: Duration = Duration::from_secs(15 * 60);

impl Coordinator {
    pub(super) fn pause(&mut self, name: &PoolName, why: String) {
        self.pause_until(name, why, Resumes::WhenAsked);
    }

    /// The same, without anybody having asked for it: so somebody is told, once.
    pub(super) fn pause_itself(&mut self, name: &PoolName, why: String, resumes: Resumes) {
        if self.pools.get(name).is_some_and(|pool| pool.state.paused.is_none()) {
            self.mail_paused(name, &why);
            self.perform(Action::Alarm(format!("ALARM: pool \"{name}\" has paused itself: {why}")));
        }
        let why = match resumes {
            Resumes::WhenAsked => format!("{why}; `busybee pool resume {name}` when it is mended"),
            Resumes::WhenPermitted | Resumes::WhenListed | Resumes::WhenConfirmed => why,
        };
        self.pause_until(name, why, resumes);
    }

    /// The same, where more than a person's word lets it launch again. What only a person ends is not
    /// replaced by what ends by itself, and doubt about the ledger by nothing.
    pub(super) fn pause_until(&mut self, name: &PoolName, why: String, resumes: Resumes) {
        let Some(pool) = self.pools.get_mut(name) else { return };
        let stays = match pool.state.resumes {
            _ if pool.state.paused.is_none() => false,
            Resumes::WhenConfirmed => true,
            Resumes::WhenAsked => matches!(resumes, Resumes::WhenPermitted | Resumes::WhenListed),
            Resumes::WhenPermitted | Resumes::WhenListed => false,
        };
        if stays {
            return;
        }
        pool.state.paused = Some(why);
        pool.state.resumes = resumes;
        let state = pool.state.clone();
        self.remember(Record::Pool(state));
        self.unsettled.insert(name.clone());
        self.take_up_pause(name);
    }

    /// What is to be done about a pool's pause, at its beginning and after a start.
    pub(super) fn take_up_pause(&mut self, name: &PoolName) {
        let Some(pool) = self.pools.get(name).filter(|pool| pool.state.paused.is_some()) else {
            return;
        };
        match pool.state.resumes {
            Resumes::WhenPermitted => {
                let times = 1 << pool.refusals.probes_in_vain.min(8);
                let every = PROBE_EVERY.saturating_mul(times).min(PROBE_EVERY_MAX);
                self.timers.set(Timer::Probe(name.clone()), self.now + every);
            }
            Resumes::WhenAsked | Resumes::WhenListed | Resumes::WhenConfirmed => {}
        }
    }

    /// Somebody asked for it, or what it waited for is there.
    pub(super) fn resume(&mut self, name: &PoolName) {
        if self.is_unconfirmed(name) {
            // Whatever is there is this ledger's: what it has no row for is ended.
            self.count_on_from(self.newest_row_seen);
        }
        self.timers.clear(&Timer::Launch(name.clone()));
        self.timers.clear(&Timer::Probe(name.clone()));
        let Some(pool) = self.pools.get_mut(name) else { return };
        pool.state.paused = None;
        pool.state.resumes = Resumes::WhenAsked;
        pool.state.failures = 0;
        pool.refusals = Refusals::default();
        pool.cooling.clear();
        pool.keeping.try_again();
        let (state, launches) = (pool.state.clone(), pool.launches());
        self.remember(Record::Pool(state));
        self.unsettled.insert(name.clone());
        if launches {
            self.list_soon(name);
        }
    }

    fn is_paused_until(&self, name: &PoolName, resumes: Resumes) -> bool {
        let state = self.pools.get(name).map(|pool| &pool.state);
        state.is_some_and(|state| state.paused.is_some() && state.resumes == resumes)
    }

    /// Whether not even launches that were decided on are to be sent: nothing could find what they start.
    pub(super) fn is_blind(&self, name: &PoolName) -> bool {
        self.is_unconfirmed(name) || self.is_paused_until(name, Resumes::WhenListed)
    }

    /// Whether nobody has said yet that what is remembered of a pool's machines is the newest there is.
    pub(super) fn is_unconfirmed(&self, name: &PoolName) -> bool {
        self.is_paused_until(name, Resumes::WhenConfirmed)
    }

    /// Asks whether a pool may launch again.
    pub(super) fn probe(&mut self, name: &PoolName) {
        if !self.is_paused_until(name, Resumes::WhenPermitted) {
            return;
        }
        let Some(pool) = self.pools.get(name) else { return };
        let expires_at = self.now + pool.settings.max_lifetime + launches::EXPIRY_MARGIN;
        let launch = self.fresh_launch(InstanceId(0));
        let worker = self.fresh_name(name);
        self.perform(Action::Probe { pool: name.clone(), launch, worker, expires_at });
        self.take_up_pause(name);
    }

    /// A dry run was answered: it was permitted, or not, or nobody knows and it is asked again.
    pub(super) fn probed(&mut self, name: &PoolName, failure: Option<LaunchFailure>) {
        let is_permitted = match failure {
            Some(LaunchFailure::Denied | LaunchFailure::Unsettled) => false,
            // What it meets beside permission, a launch is to find out.
            None
            | Some(
                LaunchFailure::Capacity
                | LaunchFailure::PlaceFull
                | LaunchFailure::Unsupported
                | LaunchFailure::NoSuchPlace
                | LaunchFailure::SpotQuota
                | LaunchFailure::Quota
                | LaunchFailure::Limit
                | LaunchFailure::Invalid
                | LaunchFailure::ImageGone
                | LaunchFailure::DiedAtOnce
                | LaunchFailure::Other,
            ) => true,
        };
        if !is_permitted || !self.is_paused_until(name, Resumes::WhenPermitted) {
            return;
        }
        let in_vain = self.pools.get(name).map_or(0, |pool| pool.refusals.probes_in_vain);
        self.resume(name);
        if let Some(pool) = self.pools.get_mut(name) {
            // Forgotten as soon as a worker is ready.
            pool.refusals.probes_in_vain = in_vain.saturating_add(1);
        }
    }

    /// A pool's machines were listed completely.
    pub(super) fn listed(&mut self, name: &PoolName) {
        let now = self.now;
        let Some(pool) = self.pools.get_mut(name) else { return };
        pool.listed_at = now;
        if self.is_paused_until(name, Resumes::WhenListed) {
            self.resume(name);
        }
    }

    pub(super) fn cloud_unlisted(&mut self, name: &PoolName, why: String) {
        self.plan_listing(name);
        self.look_whether_blind(name, &why);
    }

    /// Stops launching when nothing was listed for long, tells a person, and lets idle workers go by
    /// themselves: what is not seen cannot be ended for certain. Jobs that run go on.
    fn look_whether_blind(&mut self, name: &PoolName, why: &str) {
        let Some(pool) = self.pools.get(name).filter(|pool| pool.launches()) else { return };
        if self.now.since(pool.listed_at.max(self.loaded_at)) < BLIND_AFTER {
            return;
        }
        if !self.is_paused_until(name, Resumes::WhenListed) {
            let minutes = BLIND_AFTER.as_secs() / 60;
            let why = format!("its machines could not be listed for {minutes} min: {why}");
            self.pause_itself(name, why, Resumes::WhenListed);
        }
        let idle = self.workers.values().filter(|live| {
            let worker = &live.worker;
            &worker.pool == name && worker.status == WorkerStatus::Idle && worker.instance.is_some()
        });
        let idle: Vec<WorkerName> = idle.map(|live| live.worker.name.clone()).collect();
        for worker in idle {
            self.end_worker(&worker, "idle, and its machine cannot be listed");
        }
    }

    /// The cloud has machines that a newer ledger than this one launched: it is an old copy, or there
    /// are two masters of one name.
    pub(super) fn doubt_the_ledger(&mut self, sight: &str) {
        let names: Vec<PoolName> = self.pools.keys().cloned().collect();
        for name in names {
            let launches = self.pools.get(&name).is_some_and(|pool| pool.launches());
            if !launches || self.is_unconfirmed(&name) {
                continue;
            }
            self.pause_itself(&name, unconfirmed(&name, sight), Resumes::WhenConfirmed);
        }
    }
}

/// Why a pool neither launches nor ends anything, and what to do.
pub fn unconfirmed(pool: &PoolName, sight: &str) -> String {
    format!(
        "{sight}. Nothing is launched or ended until somebody is sure that no other master runs with \
         this one's id, and says so: busybee pool resume {pool}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::domain::entities::PoolState;
    use crate::master::domain::event::Event;
    use crate::master::domain::event::Proof;
    use crate::master::domain::event::Request;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::master::domain::snapshot::Snapshot;
    use crate::model::attempt::AttemptOutcome;
    use crate::model::status::JobStatus;

    fn waiting() -> Rig {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        rig.build("app", vec![rig::job("test", &[])]);
        rig
    }

    fn denied(rig: &mut Rig) {
        let (instance, _, _) = rig.launches().pop().expect("a machine was asked for");
        let sentence = "EC2 refused RunInstances: UnauthorizedOperation".to_owned();
        let failure = LaunchFailure::Denied;
        rig.say(Event::LaunchFailed { instance, sentence, failure });
    }

    fn probes(actions: &[Action]) -> usize {
        actions.iter().filter(|action| matches!(action, Action::Probe { .. })).count()
    }

    fn probed(rig: &mut Rig, failure: Option<LaunchFailure>) {
        rig.say(Event::Probed { pool: "linux".into(), failure });
    }

    #[test]
    fn a_pool_that_was_denied_asks_every_5_minutes_and_goes_on_when_it_may() {
        let mut rig = waiting();
        denied(&mut rig);
        assert!(rig.reason("test").contains("is paused: EC2 refused RunInstances"));
        assert_eq!(probes(&rig.wait(299)), 0);
        assert_eq!(probes(&rig.wait(1)), 1);
        for failure in [LaunchFailure::Denied, LaunchFailure::Unsettled] {
            probed(&mut rig, Some(failure));
            assert!(rig.launches().is_empty(), "{failure:?} is no permission");
            assert_eq!(probes(&rig.wait(300)), 1, "again");
        }
        probed(&mut rig, None);
        assert_eq!(rig.launches().len(), 1, "the permission is there");
        denied(&mut rig);
        assert_eq!(
            probes(&rig.wait(599)),
            0,
            "a dry run that promises too much is asked less often"
        );
        assert_eq!(probes(&rig.wait(1)), 1);
    }

    #[test]
    fn what_somebody_paused_no_probe_resumes() {
        let mut rig = waiting();
        denied(&mut rig);
        rig.ask(Request::PausePool("linux".into()));
        probed(&mut rig, None);
        assert!(rig.launches().is_empty());
        assert_eq!(probes(&rig.wait(3600)), 0);
    }

    #[test]
    fn a_master_that_starts_again_goes_on_asking() {
        let mut rig = waiting();
        denied(&mut rig);
        let mut next = Rig::load(vec![rig::pool("linux")], rig.launched());
        assert_eq!(probes(&next.wait(300)), 1);
    }

    /// Every listing of so many minutes fails.
    fn unlisted(rig: &mut Rig, minutes: u64) -> Vec<Action> {
        let mut done = Vec::new();
        for _ in 0..minutes {
            done.append(&mut rig.wait(60));
            let sentence = "EC2 did not answer".to_owned();
            rig.say(Event::CloudUnlisted { pool: "linux".into(), sentence });
            done.append(&mut rig.done);
        }
        done
    }

    fn alarms(actions: &[Action]) -> usize {
        actions.iter().filter(|action| matches!(action, Action::Alarm(_))).count()
    }

    #[test]
    fn a_pool_that_cannot_be_listed_for_15_minutes_launches_nothing_and_says_so() {
        let mut rig = waiting();
        let done = unlisted(&mut rig, 14);
        assert_eq!(alarms(&done), 0);
        let done = unlisted(&mut rig, 6);
        assert_eq!(alarms(&done), 1, "somebody is told, once");
        let why = "is paused: its machines could not be listed for 15 min: EC2 did not answer";
        assert!(rig.reason("test").contains(why), "{}", rig.reason("test"));
        rig.done = rig.wait(3600);
        assert!(rig.launches().is_empty());
        let asked_at = rig.now;
        rig.say(Event::CloudListed { pool: "linux".into(), asked_at, machines: Vec::new() });
        assert_eq!(rig.launches().len(), 1, "one complete listing, and it goes on");
    }

    #[test]
    fn what_is_idle_and_cannot_be_listed_is_shut_down_and_what_works_goes_on() {
        let mut rig = waiting();
        let (busy_at, busy, at_busy) = rig.arrive();
        let attempt = rig.given();
        rig.start(&busy, attempt);
        let beats = [(&busy, at_busy)];
        let mut done = Vec::new();
        for _ in 0..16 {
            done.append(&mut rig.wait_beating(60, &beats));
            let sentence = "no".to_owned();
            rig.say(Event::CloudUnlisted { pool: "linux".into(), sentence });
            done.append(&mut rig.done);
        }
        assert!(!rig::ends(&done, busy_at), "its job goes on");
        rig.finish(&busy, attempt, AttemptOutcome::Passed);
        assert_eq!(rig.status("test"), JobStatus::Passed);
        let sentence = "no".to_owned();
        rig.say(Event::CloudUnlisted { pool: "linux".into(), sentence });
        let told = rig.told();
        let is_told = told
            .iter()
            .any(|told| matches!(told, crate::master::domain::decision::ToAgent::Shutdown { .. }));
        assert!(is_told && rig.ends(busy_at), "and then it is told to end");
    }

    /// A ledger with one machine, and a pool of which nobody knows whether that is the newest.
    fn restored() -> (Rig, InstanceId) {
        let mut rig = waiting();
        let (instance, _, _) = rig.launches()[0].clone();
        rig.accept(instance);
        let paused = Some(unconfirmed(&"linux".into(), "this data_dir is a copy"));
        let (name, resumes) = ("linux".into(), Resumes::WhenConfirmed);
        let pools = vec![PoolState { name, paused, resumes, failures: 0 }];
        let snapshot = Snapshot { pools, ..rig.launched() };
        (Rig::load(vec![rig::pool("linux")], snapshot), instance)
    }

    #[test]
    fn a_restored_copy_does_not_let_idle_workers_go_either() {
        let mut rig = waiting();
        let (instance, worker, _) = rig.arrive();
        let attempt = rig.given();
        rig.finish(&worker, attempt, AttemptOutcome::Passed);
        let (name, resumes) = ("linux".into(), Resumes::WhenConfirmed);
        let pools = vec![PoolState { name, paused: Some("a copy".into()), resumes, failures: 0 }];
        let snapshot = Snapshot { pools, ..rig.launched() };
        let mut rig = Rig::load(vec![rig::pool("linux")], snapshot);
        let connection = rig.connect(&worker, rig::hello(Proof::Key), &[]);
        let done = rig.wait_beating(1200, &[(&worker, connection)]);
        assert!(!done.iter().any(|action| matches!(action, Action::Tell { .. })), "{done:?}");
        rig.ask(Request::ResumePool("linux".into()));
        assert!(rig::ends(&rig.wait_beating(310, &[(&worker, connection)]), instance));
    }

    #[test]
    fn a_restored_copy_launches_and_ends_nothing_until_somebody_confirms_it() {
        let (mut rig, instance) = restored();
        rig.build("app", vec![rig::job("again", &[])]);
        let done = rig.wait(2 * 3600);
        let is_quiet = done.iter().all(|action| {
            !matches!(
                action,
                Action::Prepare { .. } | Action::Launch { .. } | Action::Terminate { .. }
            )
        });
        assert!(is_quiet, "{done:?}");
        assert!(
            rig.reason("again").contains("busybee pool resume linux"),
            "{}",
            rig.reason("again")
        );
        rig.ask(Request::PausePool("linux".into()));
        assert!(rig.it.is_unconfirmed(&"linux".into()), "to pause it is not to confirm it");
        rig.ask(Request::ResumePool("linux".into()));
        let mut done = std::mem::take(&mut rig.done);
        done.append(&mut rig.wait(60));
        assert!(rig::ends(&done, instance), "what was to be ended meanwhile is");
        assert!(done.iter().any(|action| matches!(action, Action::Prepare { .. })));
    }
}
