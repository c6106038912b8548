//! The store of the simulated master: records folded into rows, and what a start reads of them.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use busybee::master::domain::decision::Record;
use busybee::master::domain::entities::Attempt;
use busybee::master::domain::entities::AttemptState;
use busybee::master::domain::entities::Build;
use busybee::master::domain::entities::Change;
use busybee::master::domain::entities::Instance;
use busybee::master::domain::entities::Job;
use busybee::master::domain::entities::PoolState;
use busybee::master::domain::entities::Worker;
use busybee::master::domain::event::LoadedBuild;
use busybee::master::domain::snapshot::Snapshot;
use busybee::model::ids::AttemptId;
use busybee::model::ids::BuildId;
use busybee::model::ids::BuildNumber;
use busybee::model::ids::ChangeId;
use busybee::model::ids::Commit;
use busybee::model::ids::InstanceId;
use busybee::model::ids::JobId;
use busybee::model::ids::PoolName;
use busybee::model::ids::ProjectName;
use busybee::model::ids::RefName;
use busybee::model::ids::WorkerName;
use busybee::model::status::WorkerStatus;

/// Everything that was ever committed.
#[derive(Default)]
pub(crate) struct Disk {
    refs: BTreeMap<(ProjectName, RefName), Commit>,
    baselines: BTreeSet<ProjectName>,
    pub(crate) changes: BTreeMap<ChangeId, Change>,
    pub(crate) builds: BTreeMap<BuildId, Build>,
    pub(crate) jobs: BTreeMap<JobId, Job>,
    pub(crate) attempts: BTreeMap<AttemptId, Attempt>,
    pub(crate) workers: BTreeMap<WorkerName, Worker>,
    pub(crate) instances: BTreeMap<InstanceId, Instance>,
    pub(crate) pools: BTreeMap<PoolName, PoolState>,
    last_change: u64,
}

impl Disk {
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
            Record::ChangeDone(change) => {
                self.changes.remove(&change);
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
        }
    }

    /// What a master reads when it starts.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let builds: Vec<Build> =
            self.builds.values().filter(|build| !build.status.is_final()).cloned().collect();
        let is_active = |job: &&Job| builds.iter().any(|build| build.id == job.build);
        let is_open = |attempt: &&Attempt| {
            matches!(attempt.state, AttemptState::Assigned | AttemptState::Started)
        };
        let mut snapshot = Snapshot {
            refs: self.refs.clone(),
            baselines: self.baselines.iter().cloned().collect(),
            changes: self.changes.values().cloned().collect(),
            jobs: self.jobs.values().filter(is_active).cloned().collect(),
            attempts: self.attempts.values().filter(is_open).cloned().collect(),
            builds: builds.clone(),
            workers: self
                .workers
                .values()
                .filter(|it| it.status != WorkerStatus::Gone)
                .cloned()
                .collect(),
            instances: self
                .instances
                .values()
                .filter(|it| !it.status.is_final())
                .cloned()
                .collect(),
            pools: self.pools.values().cloned().collect(),
            ..Snapshot::default()
        };
        for build in self.builds.values() {
            let last = snapshot.last_numbers.entry(build.project.clone()).or_insert(BuildNumber(0));
            *last = (*last).max(build.number);
        }
        let last = |id: Option<u64>| id.unwrap_or(0);
        snapshot.last_ids.build = last(self.builds.keys().last().map(|id| id.0));
        snapshot.last_ids.job = last(self.jobs.keys().last().map(|id| id.0));
        snapshot.last_ids.attempt = last(self.attempts.keys().last().map(|id| id.0));
        snapshot.last_ids.instance = last(self.instances.keys().last().map(|id| id.0));
        snapshot.last_ids.change = self.last_change;
        snapshot
    }

    /// A finished build, to be retried.
    pub(crate) fn load_build(
        &self,
        project: &ProjectName,
        number: BuildNumber,
    ) -> Option<Box<LoadedBuild>> {
        let mut builds = self.builds.values();
        let build = builds.find(|it| &it.project == project && it.number == number)?.clone();
        let jobs = self.jobs.values().filter(|job| job.build == build.id).cloned().collect();
        Some(Box::new(LoadedBuild { build, jobs }))
    }
}
