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
        let jobs = jobs.iter().filter_map(|id| self.jobs.get(id));
        let jobs: Vec<&Job> = jobs.filter(|job| !self.is_behind_others(job)).collect();
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
mod tests;
