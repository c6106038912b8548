//! A pool as the coordinator holds it: its settings, what is remembered, who is idle, who waits.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::collections::VecDeque;
use std::time::Duration;

use crate::master::domain::candidates::Coolings;
use crate::master::domain::entities::PoolState;
use crate::master::domain::entities::Resumes;
use crate::master::domain::idle::IdleWorkers;
use crate::master::domain::refusals::Refusals;
use crate::master::domain::settings::PoolSettings;
use crate::master::domain::settings::ProvisionerKind;
use crate::master::domain::stopping::Keeping;
use crate::master::domain::wait_reason::LaunchHold;
use crate::master::domain::wait_reason::WaitReason;
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

/// Machines by which it is said how long one usually takes.
const BOOTS_MAX: usize = 9;

/// A pool.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) settings: PoolSettings,
    pub(super) state: PoolState,
    /// Workers that are ready and without a job.
    pub(super) idle: IdleWorkers,
    /// Jobs that wait and could run here, oldest first.
    pub(super) queue: BTreeSet<(Timestamp, JobId)>,
    /// Those of them for which this pool starts machines: a job that several pools could run is only
    /// one's (`homes.rs`).
    pub(super) homed: BTreeSet<JobId>,
    /// The same by who asks: other jobs may wait for other reasons.
    pub(super) askers: BTreeMap<Asker, BTreeSet<JobId>>,
    /// Workers whose machine was asked for and that are not ready.
    pub(super) coming: BTreeSet<WorkerName>,
    /// Instances of which a machine may be there.
    pub(super) alive: u32,
    /// Why the last launch went wrong; forgotten by a start of the master, and by a success.
    pub(super) last_failure: Option<String>,
    /// Candidates that were refused, and are left alone for a while.
    pub(super) cooling: Coolings,
    /// What its refusals have led to so far.
    pub(super) refusals: Refusals,
    /// When its machines were last listed completely.
    pub(super) listed_at: Timestamp,
    /// Why `Timer::Launch` was last set.
    pub(super) hold: Option<LaunchHold>,
    /// Whether machines may be stopped, and started again.
    pub(super) keeping: Keeping,
    /// How long its last machines took, from when they were asked for until they were ready.
    pub(super) boots: VecDeque<Duration>,
    /// What its waiting jobs were last told, and when.
    pub(super) told: BTreeMap<Asker, (WaitReason, Timestamp)>,
}

/// What tells the jobs that wait for a pool apart, as far as workers go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Asker {
    /// Whose job it is; nothing: its workers serve every project.
    pub(super) project: Option<ProjectName>,
    /// Whether it has lost an attempt to spot, and the pool has any.
    pub(super) avoids_spot: bool,
}

impl Pool {
    pub(super) fn new(settings: PoolSettings) -> Pool {
        let (name, resumes) = (settings.name.clone(), Resumes::WhenAsked);
        let state = PoolState { name, paused: None, resumes, failures: 0 };
        Pool {
            settings,
            state,
            idle: IdleWorkers::default(),
            queue: BTreeSet::new(),
            homed: BTreeSet::new(),
            askers: BTreeMap::new(),
            coming: BTreeSet::new(),
            alive: 0,
            last_failure: None,
            cooling: Coolings::default(),
            refusals: Refusals::default(),
            listed_at: Timestamp(0),
            hold: None,
            keeping: Keeping::default(),
            boots: VecDeque::new(),
            told: BTreeMap::new(),
        }
    }

    fn asker(&self, project: &ProjectName, avoids_spot: bool) -> Asker {
        let settings = &self.settings;
        let has_spot = settings.candidates.iter().any(|candidate| candidate.is_spot);
        let project = (!settings.shared).then(|| project.clone());
        Asker { project, avoids_spot: avoids_spot && has_spot }
    }

    /// From now on this pool starts machines for the job.
    pub(super) fn take_in(&mut self, job: JobId, project: &ProjectName, avoids_spot: bool) {
        self.homed.insert(job);
        self.askers.entry(self.asker(project, avoids_spot)).or_default().insert(job);
    }

    /// It does not any more, if it did.
    pub(super) fn let_go(&mut self, job: JobId, project: &ProjectName) {
        if !self.homed.remove(&job) {
            return;
        }
        for avoids_spot in [false, true] {
            let asker = self.asker(project, avoids_spot);
            let Some(jobs) = self.askers.get_mut(&asker) else { continue };
            jobs.remove(&job);
            if jobs.is_empty() {
                self.askers.remove(&asker);
                self.told.remove(&asker);
            }
        }
    }

    /// Whether machines are started for it.
    pub(super) fn launches(&self) -> bool {
        match self.settings.provisioner {
            ProvisionerKind::Ec2 | ProvisionerKind::Local => true,
            ProvisionerKind::None => false,
        }
    }

    /// How many ways there are to ask for a machine.
    pub(super) fn n_candidates(&self) -> u32 {
        u32::try_from(self.settings.candidates.len().max(1)).unwrap_or(u32::MAX)
    }

    /// The most preferred candidate that is not left alone just now.
    pub(super) fn candidate(&self, now: Timestamp) -> Option<u32> {
        self.cooling.first_free(self.n_candidates(), now)
    }

    /// The same of those that are not on spot.
    pub(super) fn on_demand_candidate(&self, now: Timestamp) -> Option<u32> {
        (0..self.n_candidates())
            .find(|index| !self.settings.is_spot(*index) && self.cooling.is_free(*index, now))
    }

    /// When the first of the candidates that are left alone may be tried again.
    pub(super) fn cool_until(&self) -> Option<Timestamp> {
        self.cooling.until()
    }

    /// Its candidates, for people.
    pub(super) fn candidate_names(&self) -> Vec<String> {
        self.settings.candidates.iter().map(|candidate| candidate.name.clone()).collect()
    }

    /// A machine became ready after so long.
    pub(super) fn note_boot(&mut self, took: Duration) {
        self.boots.push_back(took);
        if self.boots.len() > BOOTS_MAX {
            self.boots.pop_front();
        }
    }

    /// The median of the last.
    pub(super) fn usual_boot(&self) -> Option<Duration> {
        let mut boots: Vec<Duration> = self.boots.iter().copied().collect();
        boots.sort_unstable();
        boots.get(boots.len() / 2).copied()
    }

    pub(super) fn n_idle(&self) -> usize {
        self.idle.len()
    }

    /// An idle worker for a job of this project, of those that fit.
    pub(super) fn idle_worker_for(
        &self,
        project: &ProjectName,
        fits: impl Fn(&WorkerName) -> bool,
    ) -> Option<WorkerName> {
        self.idle.for_project(project, self.settings.shared, fits)
    }

    /// Idle workers that a job of any project could have.
    pub(super) fn n_free(&self) -> usize {
        if self.settings.shared {
            return self.idle.len();
        }
        self.idle.len_of(None)
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
