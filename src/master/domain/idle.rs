//! Workers that are ready and without a job: who gets the next one, and who ends when none comes.
//!
//! A job goes to the worker that idles least, so that what is too much idles on and ends. Of several that
//! idle for the same jobs the i-th waits only for the i-th part of `idle_timeout` (`autoscaler::patience`):
//! after a burst most of them go soon, and one stays for the whole time.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::master::domain::autoscaler;
use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::pool::Pool;
use crate::master::domain::settings::ProvisionerKind;
use crate::master::domain::timers::Timer;
use crate::model::ids::PoolName;
use crate::model::ids::ProjectName;
use crate::model::ids::WorkerName;
use crate::model::time::Timestamp;

/// EC2 bills at least this much of each start: who ends a machine earlier saves nothing (EC2 user guide,
/// "On-Demand Instances": Linux by the second).
const BILLED_AT_LEAST: Duration = Duration::from_secs(60);

/// The idle workers of a pool.
#[derive(Debug, Default)]
pub(super) struct IdleWorkers {
    /// By the project that they are bound to, longest idle first.
    bound: BTreeMap<Option<ProjectName>, BTreeSet<(Timestamp, WorkerName)>>,
    /// Where each of them stands in there.
    places: BTreeMap<WorkerName, (Option<ProjectName>, Timestamp)>,
}

impl IdleWorkers {
    pub(super) fn set(
        &mut self,
        name: &WorkerName,
        project: Option<&ProjectName>,
        since: Timestamp,
    ) {
        self.unset(name);
        self.places.insert(name.clone(), (project.cloned(), since));
        self.bound.entry(project.cloned()).or_default().insert((since, name.clone()));
    }

    pub(super) fn unset(&mut self, name: &WorkerName) {
        let Some((project, since)) = self.places.remove(name) else { return };
        if let Some(group) = self.bound.get_mut(&project) {
            group.remove(&(since, name.clone()));
            if group.is_empty() {
                self.bound.remove(&project);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// How many are bound to this project; nothing: to none.
    pub(super) fn len_of(&self, project: Option<&ProjectName>) -> usize {
        self.bound.get(&project.cloned()).map_or(0, BTreeSet::len)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &WorkerName> {
        self.places.keys()
    }

    /// Whose job is wanted: one that knows the project, a fresh one, or, where workers are shared, any; of
    /// those that fit.
    pub(super) fn for_project(
        &self,
        project: &ProjectName,
        shared: bool,
        fits: impl Fn(&WorkerName) -> bool,
    ) -> Option<WorkerName> {
        let newest = |key: &Option<ProjectName>| {
            let group = self.bound.get(key)?.iter().rev();
            group.map(|(_, name)| name).find(|name| fits(name)).cloned()
        };
        newest(&Some(project.clone())).or_else(|| newest(&None)).or_else(|| {
            let fitting = self.bound.values().flatten().filter(|(_, name)| fits(name));
            fitting.max().filter(|_| shared).map(|(_, name)| name.clone())
        })
    }

    /// The one that idles longest, whatever it is bound to.
    pub(super) fn longest(&self) -> Option<WorkerName> {
        let first = self.bound.values().filter_map(BTreeSet::first).min();
        first.map(|(_, name)| name.clone())
    }

    /// Who ends next if no job comes, and when: of each group the longest idle one, with all of its group
    /// beside it; `kept` of the pool do not end at all.
    fn next_to_end(&self, idle_timeout: Duration, kept: usize) -> Option<(Timestamp, WorkerName)> {
        let spare = self.len().saturating_sub(kept);
        if spare == 0 {
            return None;
        }
        let ends = self.bound.values().filter_map(|group| {
            let (since, name) = group.first()?;
            let beside = group.len().min(spare);
            Some((*since + autoscaler::patience(idle_timeout, beside), name.clone()))
        });
        ends.min()
    }
}

impl Coordinator {
    /// Ends those that have idled for long enough as things stand now, or sets the time at which the next
    /// of a pool's idle workers ends.
    pub(super) fn plan_idle_end(&mut self, name: &PoolName) {
        let ends_at = self.next_idle_end(name).map(|(at, _)| at);
        // Who is kept for a job that is foreseen is looked at again when that is late.
        let look_at = self.wanted_soon(name).1;
        match ends_at.into_iter().chain(look_at).min() {
            // What it was kept for is not foreseen any more.
            Some(at) if at <= self.now => self.end_idle(name),
            Some(at) => self.timers.set(Timer::Idle(name.clone()), at),
            None => self.timers.clear(&Timer::Idle(name.clone())),
        }
    }

    fn next_idle_end(&self, name: &PoolName) -> Option<(Timestamp, WorkerName)> {
        let pool = self.pools.get(name).filter(|pool| pool.launches())?;
        if self.is_unconfirmed(name) {
            return None; // Nothing is ended just now.
        }
        let settings = &pool.settings;
        let kept = settings.min_idle as usize + self.wanted_soon(name).0;
        let (at, worker) = pool.idle.next_to_end(settings.idle_timeout, kept)?;
        Some((at.max(self.paid_until(pool, &worker)), worker))
    }

    /// Until when a machine is paid for already, since its launch or its last start.
    fn paid_until(&self, pool: &Pool, worker: &WorkerName) -> Timestamp {
        let instance = self.workers.get(worker).and_then(|live| live.worker.instance);
        let row = instance.and_then(|id| self.instances.get(&id)).map(|live| &live.instance);
        let run = row.and_then(|row| row.runs.last());
        let begun = run.map(|run| run.started_at.unwrap_or(run.asked_at));
        match (pool.settings.provisioner, begun) {
            (ProvisionerKind::Ec2, Some(begun)) => begun + BILLED_AT_LEAST,
            _ => Timestamp(0),
        }
    }

    /// Ends those of a pool that have idled for long enough.
    pub(super) fn end_idle(&mut self, name: &PoolName) {
        while let Some((at, worker)) = self.next_idle_end(name) {
            if at > self.now {
                break;
            }
            self.idle_timed_out(&worker);
            // Whatever becomes of it: it idles no more, so this has an end.
            if let Some(pool) = self.pools.get_mut(name) {
                pool.idle.unset(&worker);
            }
        }
        self.unsettled.insert(name.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::domain::decision::Action;
    use crate::master::domain::event::Proof;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::master::domain::settings::PoolSettings;
    use crate::model::attempt::AttemptOutcome;
    use crate::model::ids::ConnectionId;

    /// Three workers that have just ended a job each, a second apart.
    fn after_a_burst(pool: PoolSettings) -> (Rig, Vec<(WorkerName, ConnectionId)>) {
        let mut rig = Rig::new(vec![pool]);
        rig.build("app", ["a", "b", "c"].iter().map(|name| rig::job(name, &[])).collect());
        let mut working = Vec::new();
        for (instance, _, worker) in rig.launches() {
            rig.accept(instance);
            let connection = rig.connect(&worker, rig::hello(Proof::Password), &[]);
            working.push((worker, connection, rig.given()));
        }
        let mut idle = Vec::new();
        for (worker, connection, attempt) in working {
            rig.wait(1);
            rig.finish(&worker, attempt, AttemptOutcome::Passed);
            idle.push((worker, connection));
        }
        (rig, idle)
    }

    /// How many machines have ended, at each look.
    fn ended(rig: &mut Rig, idle: &[(WorkerName, ConnectionId)], seconds: &[u64]) -> Vec<usize> {
        let beats: Vec<_> = idle.iter().map(|(worker, at)| (worker, *at)).collect();
        let mut count = 0;
        let looks = seconds.iter().map(|seconds| {
            let done = rig.wait_beating(*seconds, &beats);
            count += done.iter().filter(|done| matches!(done, Action::Terminate { .. })).count();
            count
        });
        // The machines are told again to end: none does here.
        looks.collect()
    }

    #[test]
    fn of_many_that_idle_after_a_burst_all_but_one_end_early() {
        let (mut rig, idle) = after_a_burst(rig::pool("linux"));
        for (seconds, expected) in [(90, 0), (20, 1)] {
            assert_eq!(ended(&mut rig, &idle, &[seconds]), [expected], "a third of 300 s");
        }
        let first = &idle[0].0;
        assert_eq!(
            rig.worker(first).reason.as_deref(),
            Some("idle"),
            "the longest idle went first"
        );
        rig.wait_beating(30, &[(&idle[1].0, idle[1].1), (&idle[2].0, idle[2].1)]);
        rig.wait_beating(30, &[(&idle[1].0, idle[1].1), (&idle[2].0, idle[2].1)]);
        let is_there = |rig: &Rig, name: &WorkerName| rig.worker(name).ended_at.is_none();
        assert!(!is_there(&rig, &idle[1].0), "a half of 300 s");
        assert!(is_there(&rig, &idle[2].0));
        rig.wait_beating(120, &[(&idle[2].0, idle[2].1)]);
        assert!(is_there(&rig, &idle[2].0));
        rig.wait_beating(20, &[(&idle[2].0, idle[2].1)]);
        assert!(!is_there(&rig, &idle[2].0), "the last one has the whole time");
    }

    #[test]
    fn the_next_job_goes_to_the_worker_that_idles_least() {
        let (mut rig, idle) = after_a_burst(rig::pool("linux"));
        rig.build("app", vec![rig::job("next", &[])]);
        assert_eq!(rig.job("next").worker.as_ref(), Some(&idle[2].0));
    }

    #[test]
    fn workers_of_one_project_are_no_spares_of_another_s() {
        let (mut rig, idle) = after_a_burst(PoolSettings { shared: false, ..rig::pool("linux") });
        let mut it = IdleWorkers::default();
        let (app, lib) = ("app".into(), "lib".into());
        it.set(&idle[0].0, Some(&app), Timestamp(0));
        it.set(&idle[1].0, Some(&lib), Timestamp(0));
        let ten = Duration::from_secs(600);
        assert_eq!(it.next_to_end(ten, 0).map(|(at, _)| at), Some(Timestamp(600_000)));
        it.set(&idle[2].0, Some(&lib), Timestamp(5));
        assert_eq!(it.next_to_end(ten, 0), Some((Timestamp(300_000), idle[1].0.clone())));
        assert_eq!(it.next_to_end(ten, 2).map(|(at, _)| at), Some(Timestamp(600_000)));
        assert_eq!(it.next_to_end(ten, 3), None);
        assert_eq!(ended(&mut rig, &idle, &[90, 20]), [0, 1]);
    }

    #[test]
    fn a_machine_of_ec2_is_not_ended_before_its_first_minute_is_over() {
        let pool = PoolSettings {
            provisioner: ProvisionerKind::Ec2,
            idle_timeout: Duration::ZERO,
            ..rig::pool("linux")
        };
        let mut rig = Rig::new(vec![pool]);
        rig.build("app", vec![rig::job("a", &[])]);
        let (instance, worker, connection) = rig.arrive();
        let attempt = rig.given();
        rig.wait(10);
        rig.finish(&worker, attempt, AttemptOutcome::Passed);
        assert!(!rig::ends(&rig.wait_beating(40, &[(&worker, connection)]), instance));
        assert!(rig::ends(&rig.wait_beating(20, &[(&worker, connection)]), instance));
    }
}
