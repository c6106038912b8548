//! What the store gives back after a start: everything that is not over, and where counting goes on.

use std::collections::BTreeMap;

use crate::master::domain::budget::Scope;
use crate::master::domain::entities::Attempt;
use crate::master::domain::entities::Build;
use crate::master::domain::entities::Change;
use crate::master::domain::entities::Instance;
use crate::master::domain::entities::Job;
use crate::master::domain::entities::PoolState;
use crate::master::domain::entities::ProjectDay;
use crate::master::domain::entities::StepRun;
use crate::master::domain::entities::Worker;
use crate::master::domain::forecast::JobTime;
use crate::master::domain::forecast::PoolForecast;
use crate::model::ids::BuildNumber;
use crate::model::ids::Commit;
use crate::model::ids::ProjectName;
use crate::model::ids::RefName;

/// All the domain needs to go on.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Where each ref was last seen.
    pub refs: BTreeMap<(ProjectName, RefName), Commit>,
    /// The projects that have a baseline.
    pub baselines: Vec<ProjectName>,
    /// Changes that have not become builds.
    pub changes: Vec<Change>,
    /// Builds that are not final.
    pub builds: Vec<Build>,
    /// All jobs of those builds.
    pub jobs: Vec<Job>,
    /// The newest attempt of each job that has one, where it is not over.
    pub attempts: Vec<Attempt>,
    /// The steps of those attempts.
    pub steps: Vec<StepRun>,
    /// Workers that are not gone.
    pub workers: Vec<Worker>,
    /// Instances whose status is not final.
    pub instances: Vec<Instance>,
    /// What is remembered of pools.
    pub pools: Vec<PoolState>,
    /// Instances that have ended within the last two days, at least.
    pub ended_instances: Vec<Instance>,
    /// What projects have cost today, at least.
    pub project_days: Vec<ProjectDay>,
    /// On which day somebody was last told that a budget is spent.
    pub budgets_told: BTreeMap<Scope, u64>,
    /// How long jobs took.
    pub job_times: Vec<JobTime>,
    /// What was learned of pools.
    pub pool_forecasts: Vec<PoolForecast>,
    /// The highest number given to a build, per project.
    pub last_numbers: BTreeMap<ProjectName, BuildNumber>,
    /// The highest ids ever given.
    pub last_ids: LastIds,
}

/// The highest ids ever given; 0 where none was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LastIds {
    /// Of builds.
    pub build: u64,
    /// Of jobs.
    pub job: u64,
    /// Of attempts.
    pub attempt: u64,
    /// Of instances.
    pub instance: u64,
    /// Of changes.
    pub change: u64,
}
