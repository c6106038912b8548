//! The store, faked: records folded into rows, and what of them is not over given back.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use busybee::master::domain::budget::Scope;
use busybee::master::domain::decision::Record;
use busybee::master::domain::entities::Attempt;
use busybee::master::domain::entities::AttemptState;
use busybee::master::domain::entities::Build;
use busybee::master::domain::entities::Change;
use busybee::master::domain::entities::Instance;
use busybee::master::domain::entities::Job;
use busybee::master::domain::entities::PoolState;
use busybee::master::domain::entities::ProjectDay;
use busybee::master::domain::entities::Worker;
use busybee::master::domain::forecast::JobTime;
use busybee::master::domain::forecast::PoolForecast;
use busybee::master::domain::snapshot::LastIds;
use busybee::master::domain::snapshot::Snapshot;
use busybee::model::attempt::AttemptRef;
use busybee::model::ids::AttemptId;
use busybee::model::ids::BuildId;
use busybee::model::ids::BuildNumber;
use busybee::model::ids::ChangeId;
use busybee::model::ids::Commit;
use busybee::model::ids::InstanceId;
use busybee::model::ids::JobId;
use busybee::model::ids::JobName;
use busybee::model::ids::PoolName;
use busybee::model::ids::ProjectName;
use busybee::model::ids::RefName;
use busybee::model::ids::WorkerName;
use busybee::model::status::JobStatus;
use busybee::model::status::WorkerStatus;

/// Every row there ever was.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) refs: BTreeMap<(ProjectName, RefName), Commit>,
    pub(crate) baselines: BTreeSet<ProjectName>,
    pub(crate) changes: BTreeMap<ChangeId, Change>,
    pub(crate) builds: BTreeMap<BuildId, Build>,
    pub(crate) jobs: BTreeMap<JobId, Job>,
    pub(crate) attempts: BTreeMap<AttemptId, Attempt>,
    pub(crate) workers: BTreeMap<WorkerName, Worker>,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    pub(crate) pools: BTreeMap<PoolName, PoolState>,
    pub(crate) project_days: BTreeMap<(ProjectName, u64), ProjectDay>,
    pub(crate) budgets_told: BTreeMap<Scope, u64>,
    pub(crate) job_times: BTreeMap<(ProjectName, JobName), JobTime>,
    pub(crate) pool_forecasts: BTreeMap<PoolName, PoolForecast>,
    pub(crate) last_change: u64,
}

impl Disk {
    /// Writes one row over the one of the same identity.
    pub(crate) fn write(&mut self, record: Record) {
        match record {
            Record::Ref(project, name, Some(commit)) => {
                self.refs.insert((project, name), commit);
            }
            Record::Ref(project, name, None) => {
                self.refs.remove(&(project, name));
            }
            Record::Baseline(project) => {
                self.baselines.insert(project);
            }
            Record::Change(change) => {
                self.last_change = self.last_change.max(change.id.0);
                self.changes.insert(change.id, change);
            }
            Record::ChangeDone(id) => {
                self.changes.remove(&id);
            }
            Record::Build(build) => {
                self.builds.insert(build.id, build);
            }
            Record::Job(job) => {
                self.jobs.insert(job.id, job);
            }
            Record::Attempt(attempt) => {
                self.attempts.insert(attempt.id.attempt, attempt);
            }
            Record::Step(_) => {}
            Record::Worker(worker) => {
                self.workers.insert(worker.name.clone(), worker);
            }
            Record::Instance(instance) => {
                self.instances.insert(instance.id, instance);
            }
            Record::Pool(pool) => {
                self.pools.insert(pool.name.clone(), pool);
            }
            Record::ProjectDay(day) => {
                self.project_days.insert((day.project.clone(), day.day), day);
            }
            Record::BudgetTold(scope, day) => {
                self.budgets_told.insert(scope, day);
            }
            Record::PoolForecast(pool) => {
                self.pool_forecasts.insert(pool.name.clone(), pool);
            }
            Record::JobTime(time) => {
                self.job_times.insert((time.project.clone(), time.job.clone()), time);
            }
            Record::JobTimeForgotten(project, job) => {
                self.job_times.remove(&(project, job));
            }
        }
    }

    /// What a new master is given: terminal things have left.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let builds: Vec<Build> =
            self.builds.values().filter(|build| !build.status.is_final()).cloned().collect();
        let active: BTreeSet<BuildId> = builds.iter().map(|build| build.id).collect();
        let jobs: Vec<Job> =
            self.jobs.values().filter(|job| active.contains(&job.build)).cloned().collect();
        let newest = jobs.iter().filter_map(|job| self.attempts.get(&job.attempt?));
        let attempts = newest.filter(|attempt| is_open(attempt)).cloned().collect();
        let workers = self.workers.values();
        let instances = self.instances.values();
        let mut last_numbers: BTreeMap<ProjectName, BuildNumber> = BTreeMap::new();
        for build in self.builds.values() {
            let last = last_numbers.entry(build.project.clone()).or_insert(build.number);
            *last = (*last).max(build.number);
        }
        let last = |id: Option<u64>| id.unwrap_or(0);
        Snapshot {
            refs: self.refs.clone(),
            baselines: self.baselines.iter().cloned().collect(),
            changes: self.changes.values().cloned().collect(),
            builds,
            jobs,
            attempts,
            steps: Vec::new(),
            workers: workers.filter(|w| w.status != WorkerStatus::Gone).cloned().collect(),
            instances: instances.filter(|i| !i.status.is_final()).cloned().collect(),
            pools: self.pools.values().cloned().collect(),
            ended_instances: self
                .instances
                .values()
                .filter(|i| i.ended_at.is_some())
                .cloned()
                .collect(),
            project_days: self.project_days.values().cloned().collect(),
            budgets_told: self.budgets_told.clone(),
            job_times: self.job_times.values().cloned().collect(),
            pool_forecasts: self.pool_forecasts.values().cloned().collect(),
            last_numbers,
            last_ids: LastIds {
                build: last(self.builds.keys().next_back().map(|id| id.0)),
                job: last(self.jobs.keys().next_back().map(|id| id.0)),
                attempt: last(self.attempts.keys().next_back().map(|id| id.0)),
                instance: last(self.instances.keys().next_back().map(|id| id.0)),
                change: self.last_change,
            },
        }
    }

    /// `ReassignForgotten`: what waits to be given out again seems to be given out still.
    pub(crate) fn forget_to_reassign(&self, snapshot: &mut Snapshot) {
        let waits = snapshot.jobs.iter().filter(|job| job.status == JobStatus::Queued);
        let old = waits.filter_map(|job| self.attempts.get(&job.attempt?)).cloned();
        let old = old.filter(|attempt| !is_open(attempt));
        snapshot.attempts.extend(old);
    }

    /// The newest attempt at the job of this one, and whose it is.
    pub(crate) fn newest_of(&self, attempt: AttemptRef) -> Option<(WorkerName, AttemptRef)> {
        let job = self.jobs.get(&self.attempts.get(&attempt.attempt)?.job)?;
        let newest = self.attempts.get(&job.attempt?)?;
        Some((newest.worker.clone(), newest.id))
    }

    /// A build's jobs, in order.
    pub(crate) fn jobs_of(&self, build: BuildId) -> Vec<Job> {
        self.jobs.values().filter(|job| job.build == build).cloned().collect()
    }
}

/// Whether an attempt is not over.
pub(crate) fn is_open(attempt: &Attempt) -> bool {
    matches!(attempt.state, AttemptState::Assigned | AttemptState::Started)
}

/// `LineForgotten`: nobody waits for a turn.
pub(crate) fn forget_lines(snapshot: &mut Snapshot) {
    snapshot.builds.iter_mut().for_each(|build| build.has_turn = true);
}

/// `AssignmentsForgotten`: what was given to workers is not known any more.
pub(crate) fn forget_assignments(snapshot: &mut Snapshot) {
    for attempt in std::mem::take(&mut snapshot.attempts) {
        for worker in &mut snapshot.workers {
            worker.attempt = worker.attempt.filter(|given| *given != attempt.id);
        }
        for job in snapshot.jobs.iter_mut().filter(|job| job.id == attempt.job) {
            job.status = JobStatus::Queued;
        }
    }
}
