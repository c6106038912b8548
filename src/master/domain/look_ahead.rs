//! Looking ahead: a machine is started for a job that will wait, when the durations seen so far say that
//! it will be wanted about when it is ready.
//!
//! Only where the pool says `look_ahead`. At most one machine is started ahead for each job, never beyond
//! `max_instances`, and one that serves nothing ends like any other that idles. What came of it is counted.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::time::Duration;

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Record;
use crate::master::domain::entities::Job;
use crate::master::domain::forecast;
use crate::master::domain::forecast::Estimate;
use crate::master::domain::forecast::JobTime;
use crate::master::domain::forecast::Outlook;
use crate::master::domain::forecast::PoolForecast;
use crate::master::domain::settings::Settings;
use crate::master::domain::snapshot::Snapshot;
use crate::master::domain::timers::Timer;
use crate::model::ids::BuildId;
use crate::model::ids::InstanceId;
use crate::model::ids::JobId;
use crate::model::ids::JobName;
use crate::model::ids::PoolName;
use crate::model::ids::ProjectName;
use crate::model::ids::WorkerName;
use crate::model::status::JobStatus;
use crate::model::status::WorkerFate;
use crate::model::time::Timestamp;

/// A job that is late by this and by its own usual time is not forecast any more: nothing is known of it.
const LATE_MAX: Duration = Duration::from_secs(60);

/// What was learned, and what follows from it for the jobs that wait for others.
#[derive(Debug, Default)]
pub(super) struct LookAhead {
    /// Whether any pool wants it: else nothing is learned either.
    pub(super) is_wanted: bool,
    pub(super) times: BTreeMap<(ProjectName, JobName), JobTime>,
    pools: BTreeMap<PoolName, PoolForecast>,
    /// How long stopped machines take to come back, in milliseconds. Forgotten by a start of the master.
    starts: BTreeMap<PoolName, Estimate>,
    /// Jobs that wait for others, by the pool that will start machines for them.
    soon: BTreeMap<PoolName, BTreeMap<JobId, Soon>>,
    /// Those of them for which a machine was started already.
    provided: BTreeSet<JobId>,
}

/// When a job will probably be queued.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Soon {
    project: ProjectName,
    at: Timestamp,
    /// After this the forecast was wrong.
    until: Timestamp,
}

/// What is started ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ahead {
    /// A stopped machine where one can serve, else a new one.
    StoppedFirst,
    /// A new one, where those that are stopped are too few.
    BesideStopped,
}

impl LookAhead {
    pub(super) fn load(settings: &Settings, snapshot: &mut Snapshot) -> LookAhead {
        let times = std::mem::take(&mut snapshot.job_times).into_iter();
        let pools = std::mem::take(&mut snapshot.pool_forecasts).into_iter();
        LookAhead {
            is_wanted: settings.pools.iter().any(|pool| pool.look_ahead),
            times: times.map(|time| ((time.project.clone(), time.job.clone()), time)).collect(),
            pools: pools.map(|pool| (pool.name.clone(), pool)).collect(),
            ..LookAhead::default()
        }
    }

    pub(super) fn pool(&mut self, name: &PoolName) -> &mut PoolForecast {
        self.pools.entry(name.clone()).or_insert_with(|| PoolForecast::new(name.clone()))
    }

    pub(super) fn learn_start(&mut self, pool: &PoolName, took: Duration) {
        let estimate = self.starts.entry(pool.clone()).or_default();
        *estimate = estimate.with(forecast::ms(took));
    }

    fn passes_in(&self, project: &ProjectName, job: &JobName) -> Option<Duration> {
        self.times.get(&(project.clone(), job.clone()))?.passes_in()
    }

    /// What is foreseen for a pool and true until now.
    fn soon_in(&self, pool: &PoolName, now: Timestamp) -> impl Iterator<Item = (&JobId, &Soon)> {
        self.soon.get(pool).into_iter().flatten().filter(move |(_, soon)| soon.until >= now)
    }
}

impl Coordinator {
    /// A worker is given a job: if its machine was started ahead, that was right.
    pub(super) fn ahead_serves(&mut self, name: &WorkerName) {
        self.settle_ahead(name, |pool| pool.hits += 1);
    }

    /// A worker is gone. One that was ready and served nothing was started in vain; one that never became
    /// ready says nothing of the forecast.
    pub(super) fn ahead_is_gone(&mut self, name: &WorkerName) {
        let was_ready = self.workers.get(name).is_some_and(|live| live.worker.bootstrapped);
        self.settle_ahead(name, |pool| pool.misses += u64::from(was_ready));
    }

    fn settle_ahead(&mut self, name: &WorkerName, count: impl FnOnce(&mut PoolForecast)) {
        let Some(live) = self.workers.get(name) else { return };
        let Some(pool) = self.look_ahead.pools.get_mut(&live.worker.pool) else { return };
        if pool.ahead.remove(name) {
            count(pool);
            let pool = pool.clone();
            self.remember(Record::PoolForecast(pool));
        }
    }

    /// Foresees when the waiting jobs of a build will be queued. Called whenever one of its jobs starts
    /// or ends.
    pub(super) fn foresee(&mut self, build: BuildId) {
        if !self.look_ahead.is_wanted {
            return;
        }
        self.forget_foreseen(build);
        let jobs = self.jobs_of.get(&build).map(Vec::as_slice).unwrap_or_default();
        let jobs: Vec<&Job> = jobs.iter().filter_map(|id| self.jobs.get(id)).collect();
        if !jobs.iter().any(|job| job.status == JobStatus::Waiting) {
            return;
        }
        let Some(project) = self.builds.get(&build).map(|build| build.project.clone()) else {
            return;
        };
        let mut found = Vec::new();
        for (job, (at, until)) in self.queued_at(&project, &jobs) {
            let Some(pool) = self.pools_for(job).into_iter().next() else { continue };
            if self.pools.get(&pool).is_some_and(|pool| pool.settings.look_ahead) {
                found.push((pool, job.id, Soon { project: project.clone(), at, until }));
            }
        }
        for (pool, job, soon) in found {
            self.unsettled.insert(pool.clone());
            self.look_ahead.soon.entry(pool).or_default().insert(job, soon);
        }
    }

    /// When each job that waits for others will be queued, and until when to believe that; only those of
    /// which all is known.
    fn queued_at<'j>(
        &self,
        project: &ProjectName,
        jobs: &[&'j Job],
    ) -> Vec<(&'j Job, (Timestamp, Timestamp))> {
        let mut passes_at: BTreeMap<&JobName, (Timestamp, Timestamp)> = BTreeMap::new();
        let mut queued_at = Vec::new();
        let mut waiting = Vec::new();
        for job in jobs {
            let usual = self.look_ahead.passes_in(project, &job.spec.name);
            match (job.status, job.started_at, usual) {
                (JobStatus::Passed, _, _) => {
                    passes_at.insert(&job.spec.name, (Timestamp(0), Timestamp(u64::MAX)));
                }
                (JobStatus::Running, Some(started), Some(usual)) => {
                    let at = started + usual;
                    passes_at.insert(&job.spec.name, (at, at + usual + LATE_MAX));
                }
                (JobStatus::Waiting, _, usual) => waiting.push((*job, usual)),
                _ => {}
            }
        }
        // One after another; each round knows one more, or is the last.
        for _ in 0..waiting.len() {
            let before = waiting.len();
            waiting.retain(|(job, usual)| {
                let (job, usual): (&'j Job, Option<Duration>) = (*job, *usual);
                let needs: Option<Vec<_>> =
                    job.spec.needs.iter().map(|name| passes_at.get(name).copied()).collect();
                let Some(needs) = needs else { return true };
                let at = needs.iter().map(|(at, _)| *at).max().unwrap_or(Timestamp(0));
                let until = needs.iter().map(|(_, until)| *until).min().unwrap_or(Timestamp(0));
                if let Some(usual) = usual {
                    passes_at.insert(&job.spec.name, (at + usual, until));
                }
                queued_at.push((job, (at, until)));
                false
            });
            if waiting.len() == before {
                break;
            }
        }
        queued_at
    }

    /// Nothing is foreseen of a build any more.
    pub(super) fn forget_foreseen(&mut self, build: BuildId) {
        for job in self.jobs_of.get(&build).map(Vec::as_slice).unwrap_or_default() {
            for soon in self.look_ahead.soon.values_mut() {
                soon.remove(job);
            }
            let waits = self.jobs.get(job).is_some_and(|known| known.status == JobStatus::Waiting);
            if !waits {
                self.look_ahead.provided.remove(job);
            }
        }
    }

    /// Starts what a pool will need about when it is ready. After everything that is needed now.
    pub(super) fn look_ahead_in(&mut self, name: &PoolName) {
        self.timers.clear(&Timer::LookAhead(name.clone()));
        let Some(pool) = self.pools.get(name).filter(|pool| pool.settings.look_ahead) else {
            return;
        };
        let boot = self.look_ahead.pools.get(name).and_then(|pool| pool.boot_ms.time());
        // What no machine has shown yet is not known.
        let Some(boot) = boot.filter(|_| pool.launches()) else { return };
        let start = self.look_ahead.starts.get(name).and_then(|start| start.time());
        let has_stopped = self.startable(name).next().is_some();
        // A stopped machine is ready sooner than a new one, so its turn comes later.
        if let Some(start) = start.filter(|start| has_stopped && *start < boot) {
            self.start_what_is_due(name, start, Ahead::StoppedFirst);
            self.start_what_is_due(name, boot, Ahead::BesideStopped);
        } else {
            self.start_what_is_due(name, boot, Ahead::StoppedFirst);
        }
    }

    /// Starts what will be missing in the time in which such a machine comes, and sets when to look again.
    fn start_what_is_due(&mut self, name: &PoolName, comes_in: Duration, ahead: Ahead) {
        let counts = self.counts(name);
        let room = counts.max_instances.saturating_sub(counts.alive);
        if room == 0 {
            return;
        }
        let horizon = self.now + comes_in;
        let mut due: Vec<(Timestamp, JobId)> = Vec::new();
        let mut next: Option<Timestamp> = None;
        for (job, soon) in self.look_ahead.soon_in(name, self.now) {
            let is_provided = self.look_ahead.provided.contains(job);
            match soon.at <= horizon {
                // What is late already is not what was foreseen: it is no reason to start more.
                true if !is_provided && soon.at >= self.now => due.push((soon.at, *job)),
                true => {}
                false => next = Some(next.map_or(soon.at, |at| at.min(soon.at))),
            }
        }
        if let Some(at) = next {
            let in_time = self.now + at.since(horizon);
            self.timers.bring_forward(Timer::LookAhead(name.clone()), in_time);
        }
        due.sort();
        let missing = match due.is_empty() {
            true => 0,
            false => {
                let outlooks = self.outlooks(name, horizon, ahead);
                forecast::missing(outlooks, counts.coming + self.fresh(name))
            }
        };
        due.truncate(missing.min(room));
        for (at, job) in due {
            self.start_ahead(name, job, at, ahead);
        }
    }

    /// How many jobs of a pool are foreseen within the time in which a machine comes, or late by a little;
    /// and when the first of them is too late to be waited for. Workers that idle for them are no spares.
    pub(super) fn wanted_soon(&self, name: &PoolName) -> (usize, Option<Timestamp>) {
        let boot = self.look_ahead.pools.get(name).and_then(|pool| pool.boot_ms.time());
        let Some(boot) = boot else { return (0, None) };
        let times = self.look_ahead.soon_in(name, self.now).map(|(_, soon)| soon.at);
        let wanted = times.filter(|at| *at <= self.now + boot && self.now < *at + LATE_MAX);
        let ends: Vec<Timestamp> = wanted.map(|at| at + LATE_MAX).collect();
        (ends.len(), ends.into_iter().min())
    }

    /// Idle workers that a job of any project could have, where they are bound to projects at all.
    fn fresh(&self, name: &PoolName) -> usize {
        let unbound = self.pools.get(name).filter(|pool| !pool.settings.shared);
        unbound.map_or(0, |pool| pool.idle.len_of(None))
    }

    /// What will be wanted and what will be there at the horizon, for each project.
    fn outlooks(&self, name: &PoolName, horizon: Timestamp, ahead: Ahead) -> Vec<Outlook> {
        let Some(pool) = self.pools.get(name) else { return Vec::new() };
        let (shared, limit) = (pool.settings.shared, pool.settings.jobs_per_instance);
        let group = |project: &ProjectName| if shared { None } else { Some(project.clone()) };
        let mut outlooks: BTreeMap<Option<ProjectName>, Outlook> = BTreeMap::new();
        for (_, soon) in self.look_ahead.soon_in(name, self.now) {
            if soon.at <= horizon {
                outlooks.entry(group(&soon.project)).or_default().wanted += 1;
            }
        }
        for job in &pool.homed {
            let build = self.jobs.get(job).and_then(|job| self.builds.get(&job.build));
            if let Some(build) = build {
                outlooks.entry(group(&build.project)).or_default().wanted += 1;
            }
        }
        for (project, outlook) in &mut outlooks {
            outlook.there = match project {
                Some(project) => pool.idle.len_of(Some(project)),
                None => pool.idle.len(),
            };
        }
        let stopped = self.startable(name).filter(|_| ahead == Ahead::BesideStopped);
        for (_, worker) in stopped {
            if let Some(outlook) = outlooks.get_mut(&worker.project.clone().filter(|_| !shared)) {
                outlook.there += 1;
            }
        }
        for live in self.workers.values().filter(|live| &live.worker.pool == name) {
            let worker = &live.worker;
            let is_used_up = limit > 0 && worker.jobs_given >= limit;
            let attempt = worker.attempt.and_then(|given| self.attempts.get(&given.attempt));
            let Some(attempt) = attempt else { continue };
            if is_used_up || worker.fate != WorkerFate::Serves {
                continue;
            }
            let Some(job) = self.jobs.get(&attempt.job) else { continue };
            let Some(build) = self.builds.get(&job.build) else { continue };
            let usual = self.look_ahead.passes_in(&build.project, &job.spec.name);
            let ends_at = usual.map(|usual| attempt.started_at.unwrap_or(self.now) + usual);
            if ends_at.is_some_and(|at| at <= horizon)
                && let Some(outlook) = outlooks.get_mut(&group(&build.project))
            {
                outlook.there += 1;
            }
        }
        outlooks.into_values().collect()
    }

    fn start_ahead(&mut self, name: &PoolName, job: JobId, at: Timestamp, ahead: Ahead) {
        let Some(known) = self.jobs.get(&job) else { return };
        let Some(build) = self.builds.get(&known.build) else { return };
        let in_s = at.since(self.now).as_secs();
        let why = format!(
            "looking ahead: \"{}\" of {} #{} should begin in about {in_s} s",
            known.spec.name, build.project, build.number
        );
        let project = build.project.clone();
        let started = match ahead {
            Ahead::StoppedFirst => self.start_a_stopped_for(name, &project),
            Ahead::BesideStopped => None,
        };
        let Some(worker) = started.or_else(|| self.launch_ahead(name, why)) else { return };
        self.look_ahead.provided.insert(job);
        let pool = self.look_ahead.pool(name);
        pool.ahead.insert(worker);
        let pool = pool.clone();
        self.remember(Record::PoolForecast(pool));
    }

    fn launch_ahead(&mut self, pool: &PoolName, why: String) -> Option<WorkerName> {
        let before = self.last_ids.instance;
        self.launch(pool, why);
        let row = InstanceId(self.last_ids.instance);
        let live = self.instances.get(&row).filter(|_| row.0 != before)?;
        Some(live.instance.worker.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::domain::decision::Action;
    use crate::master::domain::event::Proof;
    use crate::master::domain::forecast::Estimate;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::master::domain::settings::PoolSettings;
    use crate::model::attempt::AttemptOutcome;
    use crate::model::attempt::AttemptRef;
    use crate::model::ids::ConnectionId;
    use crate::model::status::WorkerStatus;

    fn pool() -> PoolSettings {
        PoolSettings { look_ahead: true, ..rig::pool("linux") }
    }

    /// `build` is known to take 300 s and to pass so often, and machines to come in 60 s.
    fn learned(pool: PoolSettings, passes: u64) -> Rig {
        let seen = |mean| Estimate { mean, seen: 4 };
        let mut time = JobTime::new("app".into(), "build".into());
        (time.took_ms, time.passes) = (seen(300_000), seen(passes));
        let mut forecast = PoolForecast::new("linux".into());
        // 60 s with the first machine here, which is there at once.
        forecast.boot_ms = seen(80_000);
        let (job_times, pool_forecasts) = (vec![time], vec![forecast]);
        Rig::load(vec![pool], Snapshot { job_times, pool_forecasts, ..Snapshot::default() })
    }

    /// `build` has just begun; two jobs need it.
    fn building(rig: &mut Rig) -> (WorkerName, ConnectionId, AttemptRef) {
        let needing = |name| rig::job(name, &["build"]);
        rig.build("app", vec![rig::job("build", &[]), needing("a"), needing("b")]);
        let (_, worker, connection) = rig.arrive();
        let attempt = rig.given();
        rig.start(&worker, attempt);
        (worker, connection, attempt)
    }

    fn asked_for(done: &[Action]) -> usize {
        done.iter().filter(|action| matches!(action, Action::Prepare { .. })).count()
    }

    fn forecast(rig: &Rig) -> PoolForecast {
        let found = rig.written.iter().rev().find_map(|record| match record {
            Record::PoolForecast(pool) => Some(pool.clone()),
            _ => None,
        });
        found.expect("something was learned of the pool")
    }

    /// The machine that was started ahead is ready.
    fn arrives_ahead(rig: &mut Rig) -> (WorkerName, ConnectionId) {
        let worker = forecast(rig).ahead.first().cloned().expect("a machine was started ahead");
        let instance = rig.worker(&worker).instance.expect("it has one");
        rig.accept(instance);
        let connection = rig.connect(&worker, rig::hello(Proof::Password), &[]);
        (worker, connection)
    }

    #[test]
    fn a_machine_is_started_so_that_it_is_ready_when_the_next_job_is_queued() {
        let mut rig = learned(pool(), 1000);
        let (worker, connection, attempt) = building(&mut rig);
        assert_eq!(asked_for(&rig.wait_beating(230, &[(&worker, connection)])), 0, "too early");
        let done = rig.wait_beating(20, &[(&worker, connection)]);
        assert_eq!(asked_for(&done), 1, "two jobs will wait, and one worker will be free");
        let (ahead, at_ahead) = arrives_ahead(&mut rig);
        let both = [(&worker, connection), (&ahead, at_ahead)];
        assert_eq!(asked_for(&rig.wait_beating(50, &both)), 0, "once is enough");
        rig.finish(&worker, attempt, AttemptOutcome::Passed);
        assert!(rig.launches().is_empty());
        let mut busy = [rig.job("a").worker, rig.job("b").worker];
        busy.sort();
        let mut expected = [Some(worker), Some(ahead)];
        expected.sort();
        assert_eq!(busy, expected, "nobody waited");
        assert_eq!((forecast(&rig).hits, forecast(&rig).misses), (1, 0));
        assert!(forecast(&rig).ahead.is_empty());
    }

    #[test]
    fn a_machine_that_was_started_in_vain_idles_out_is_counted_and_is_not_started_again() {
        let mut rig = learned(pool(), 1000);
        let (worker, connection, attempt) = building(&mut rig);
        rig.wait_beating(250, &[(&worker, connection)]);
        let (ahead, at_ahead) = arrives_ahead(&mut rig);
        // It takes much longer this time.
        let done = rig.wait_beating(320, &[(&worker, connection), (&ahead, at_ahead)]);
        assert_eq!(rig.worker(&ahead).status, WorkerStatus::Gone);
        assert_eq!((forecast(&rig).hits, forecast(&rig).misses), (0, 1));
        assert_eq!(asked_for(&done), 0, "one machine for one job, at most");
        rig.finish(&worker, attempt, AttemptOutcome::Failed);
        assert!(rig.launches().is_empty());
    }

    #[test]
    fn a_worker_that_will_be_wanted_does_not_end_for_idling_until_that_is_late() {
        let short = PoolSettings { idle_timeout: Duration::from_secs(20), ..pool() };
        let mut rig = learned(short, 1000);
        let (worker, connection, attempt) = building(&mut rig);
        rig.wait_beating(245, &[(&worker, connection)]);
        let (ahead, at_ahead) = arrives_ahead(&mut rig);
        let both = [(&worker, connection), (&ahead, at_ahead)];
        rig.wait_beating(110, &both);
        assert_eq!(rig.worker(&ahead).status, WorkerStatus::Idle, "a minute late is not too late");
        rig.wait_beating(20, &both);
        assert_eq!(rig.worker(&ahead).status, WorkerStatus::Gone);
        rig.finish(&worker, attempt, AttemptOutcome::Passed);
    }

    #[test]
    fn nothing_is_started_ahead_beyond_the_maximum_nor_for_what_mostly_fails_nor_unasked() {
        let off = PoolSettings { look_ahead: false, ..pool() };
        let full = PoolSettings { max_instances: 1, ..pool() };
        for (pool, passes) in [(full, 1000), (pool(), 300), (off, 1000)] {
            let mut rig = learned(pool.clone(), passes);
            let (worker, connection, _) = building(&mut rig);
            let done = rig.wait_beating(400, &[(&worker, connection)]);
            assert_eq!(asked_for(&done), 0, "{pool:?} {passes}");
        }
    }

    #[test]
    fn where_each_job_has_a_machine_of_its_own_the_next_of_a_chain_is_started_ahead() {
        let mut rig = learned(PoolSettings { jobs_per_instance: 1, ..pool() }, 1000);
        let chain = ["build", "a", "b"].windows(2).map(|pair| rig::job(pair[1], &[pair[0]]));
        rig.build("app", [rig::job("build", &[])].into_iter().chain(chain).collect());
        let (_, worker, connection) = rig.arrive();
        let attempt = rig.given();
        rig.start(&worker, attempt);
        let done = rig.wait_beating(250, &[(&worker, connection)]);
        assert_eq!(asked_for(&done), 1, "for a; of b nothing is known, as a never ran");
    }
}
