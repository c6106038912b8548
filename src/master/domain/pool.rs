//! A pool as the coordinator holds it: its settings, what is remembered, who is idle, who waits.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::master::domain::entities::PoolState;
use crate::master::domain::settings::PoolSettings;
use crate::master::domain::settings::ProvisionerKind;
use crate::model::backoff::Backoff;
use crate::model::ids::JobId;
use crate::model::ids::ProjectName;
use crate::model::ids::WorkerName;
use crate::model::time::Timestamp;

/// Launches that may end before their worker is ready, in a row, until the pool pauses itself:
/// a broken script or image must not start machines all night.
pub(super) const FAILURES_MAX: u32 = 3;

/// How long a pool waits after a failed launch.
pub(super) const LAUNCH_BACKOFF: Backoff =
    match Backoff::new(Duration::from_secs(5), Duration::from_secs(5 * 60)) {
        Some(backoff) => backoff,
        None => unreachable!(),
    };

/// A candidate for which there was no room is left alone this long, and twice as long each time.
const COOL_FIRST: Duration = Duration::from_secs(3 * 60);

/// But never longer: capacity comes back within minutes, mostly.
const COOL_MAX: Duration = Duration::from_secs(30 * 60);

/// A candidate that does not exist where it was asked for is not going to within the hour.
const COOL_FOR_LONG: Duration = Duration::from_secs(24 * 3600);

/// A pool whose account may not have more waits this long; the end of a machine does not change that
/// for certain.
pub(super) const QUOTA_HOLD: Duration = Duration::from_secs(10 * 60);

/// A pool.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) settings: PoolSettings,
    pub(super) state: PoolState,
    /// Workers that are ready and without a job, by the project they are bound to.
    pub(super) idle: BTreeMap<Option<ProjectName>, BTreeSet<WorkerName>>,
    /// Jobs that wait and could run here, oldest first.
    pub(super) queue: BTreeSet<(Timestamp, JobId)>,
    /// Those of them for which this pool starts machines: a job that several pools could run is only
    /// the first one's.
    pub(super) homed: BTreeSet<JobId>,
    /// Workers whose machine was asked for and that are not ready.
    pub(super) coming: BTreeSet<WorkerName>,
    /// Instances of which a machine may be there.
    pub(super) alive: u32,
    /// Why the last launch went wrong; forgotten by a start of the master, and by a success.
    pub(super) last_failure: Option<String>,
    /// Candidates that were refused, and are left alone for a while. Forgotten by a start of the
    /// master.
    pub(super) cooling: BTreeMap<u32, Cooling>,
    /// What its waiting jobs were last told.
    pub(super) told: Option<String>,
}

/// A candidate that was refused.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cooling {
    /// Until when it is left alone.
    pub(super) until: Timestamp,
    /// How often in a row it was refused.
    pub(super) refusals: u32,
}

impl Pool {
    pub(super) fn new(settings: PoolSettings) -> Pool {
        let state = PoolState { name: settings.name.clone(), paused: None, failures: 0 };
        Pool {
            settings,
            state,
            idle: BTreeMap::new(),
            queue: BTreeSet::new(),
            homed: BTreeSet::new(),
            coming: BTreeSet::new(),
            alive: 0,
            last_failure: None,
            cooling: BTreeMap::new(),
            told: None,
        }
    }

    /// Whether machines are started for it.
    pub(super) fn launches(&self) -> bool {
        match self.settings.provisioner {
            ProvisionerKind::Ec2 | ProvisionerKind::Local => true,
            ProvisionerKind::None => false,
        }
    }

    /// The most preferred candidate that is not left alone just now.
    pub(super) fn candidate(&self, now: Timestamp) -> Option<u32> {
        let count = u32::try_from(self.settings.candidates.len().max(1)).unwrap_or(u32::MAX);
        let is_cooling =
            |index: &u32| self.cooling.get(index).is_some_and(|cooling| cooling.until > now);
        (0..count).find(|index| !is_cooling(index))
    }

    /// The same of those that are not on spot.
    pub(super) fn on_demand_candidate(&self, now: Timestamp) -> Option<u32> {
        let count = u32::try_from(self.settings.candidates.len().max(1)).unwrap_or(u32::MAX);
        let is_cooling =
            |index: &u32| self.cooling.get(index).is_some_and(|cooling| cooling.until > now);
        (0..count).find(|index| !self.settings.is_spot(*index) && !is_cooling(index))
    }

    /// Leaves a candidate alone.
    pub(super) fn cool(&mut self, candidate: u32, now: Timestamp, is_for_long: bool) {
        let cooling = self.cooling.entry(candidate);
        let cooling = cooling.or_insert(Cooling { until: now, refusals: 0 });
        let time = match is_for_long {
            true => COOL_FOR_LONG,
            false => COOL_FIRST.saturating_mul(1 << cooling.refusals.min(8)).min(COOL_MAX),
        };
        cooling.refusals += 1;
        cooling.until = now + time;
    }

    /// Whether every candidate is left alone, and for longer than lack of room would ask for.
    pub(super) fn all_cool_for_long(&self, now: Timestamp) -> bool {
        self.candidate(now + COOL_MAX).is_none()
    }

    /// When the first of the candidates that are left alone may be tried again.
    pub(super) fn cool_until(&self) -> Option<Timestamp> {
        self.cooling.values().map(|cooling| cooling.until).min()
    }

    pub(super) fn n_idle(&self) -> usize {
        self.idle.values().map(BTreeSet::len).sum()
    }

    pub(super) fn set_idle(&mut self, worker: &WorkerName, project: Option<&ProjectName>) {
        self.idle.entry(project.cloned()).or_default().insert(worker.clone());
    }

    pub(super) fn unset_idle(&mut self, worker: &WorkerName) {
        self.idle.retain(|_, workers| {
            workers.remove(worker);
            !workers.is_empty()
        });
    }

    /// An idle worker for a job of this project: one that knows it, a fresh one, or, where workers
    /// are shared, any.
    pub(super) fn idle_worker_for(
        &self,
        project: &ProjectName,
        fits: impl Fn(&WorkerName) -> bool,
    ) -> Option<WorkerName> {
        let first =
            |key: &Option<ProjectName>| self.idle.get(key)?.iter().find(|name| fits(name)).cloned();
        first(&Some(project.clone())).or_else(|| first(&None)).or_else(|| {
            let any = self.idle.values().flatten().find(|name| fits(name));
            any.filter(|_| self.settings.shared).cloned()
        })
    }

    /// Idle workers that a job of any project could have.
    pub(super) fn n_free(&self) -> usize {
        if self.settings.shared {
            return self.n_idle();
        }
        self.idle.get(&None).map_or(0, BTreeSet::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::model::attempt::AttemptOutcome;

    #[test]
    fn idle_workers_end_after_the_idle_timeout_but_for_those_that_are_kept() {
        let mut rig = Rig::new(vec![PoolSettings { min_idle: 1, ..rig::pool("linux") }]);
        let (kept, one, at_one) = rig.arrive();
        rig.build("app", vec![rig::job("a", &[]), rig::job("b", &[])]);
        let first = rig.given();
        let (other, two, at_two) = rig.arrive();
        let second = rig.given();
        rig.finish(&one, first, AttemptOutcome::Passed);
        rig.finish(&two, second, AttemptOutcome::Passed);
        let done = rig.wait_beating(1200, &[(&one, at_one), (&two, at_two)]);
        let ended = [kept, other].iter().filter(|id| rig::ends(&done, **id)).count();
        assert_eq!(ended, 1, "one of two is kept");
    }

    #[test]
    fn an_idle_timeout_of_nothing_ends_workers_at_once_and_turns_no_timer_in_a_circle() {
        let zero = PoolSettings { idle_timeout: Duration::ZERO, ..rig::pool("linux") };
        let mut rig = Rig::new(vec![PoolSettings { min_idle: 1, ..zero }]);
        let (instance, worker, connection) = rig.arrive();
        let done = rig.wait_beating(120, &[(&worker, connection)]);
        assert!(!rig::ends(&done, instance), "it is kept");
    }
}
