//! What must hold after every commit, and what must be so in the end.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use busybee::master::domain::decision::Record;
use busybee::master::domain::entities::AttemptState;
use busybee::master::domain::entities::Change;
use busybee::master::domain::entities::Job;
use busybee::master::domain::settings::ProvisionerKind;
use busybee::master::domain::settings::Settings;
use busybee::model::attempt::AttemptOutcome;
use busybee::model::attempt::AttemptRef;
use busybee::model::attempt::LogOwner;
use busybee::model::ids::BuildId;
use busybee::model::ids::ChangeId;
use busybee::model::ids::PoolName;
use busybee::model::ids::ProjectName;
use busybee::model::ids::WorkerName;
use busybee::model::status::InstanceStatus;
use busybee::model::status::JobStatus;
use busybee::model::status::WorkerStatus;
use busybee::model::time::Timestamp;

use crate::cloud::Cloud;
use crate::disk::Disk;
use crate::disk::is_open;
use crate::foresight;
use crate::groups;
use crate::hosts::Host;
use crate::people::People;
use crate::reasons;
use crate::world::World;

/// What the laws must remember themselves.
#[derive(Debug, Default)]
pub(crate) struct Laws {
    /// What really came of an attempt, and where.
    truth: BTreeMap<AttemptRef, (WorkerName, AttemptOutcome)>,
    changes_seen: BTreeMap<ChangeId, Change>,
    builds_seen: BTreeSet<BuildId>,
    numbers: BTreeMap<ProjectName, u64>,
    /// What steps printed.
    printed: BTreeMap<LogOwner, Vec<u8>>,
}

impl Laws {
    /// The agent's own knowledge of an end.
    pub(crate) fn attempt_ended(
        &mut self,
        worker: &WorkerName,
        attempt: AttemptRef,
        outcome: &AttemptOutcome,
    ) {
        self.truth.insert(attempt, (worker.clone(), outcome.clone()));
    }

    pub(crate) fn printed(&mut self, owner: LogOwner, bytes: &[u8]) {
        self.printed.entry(owner).or_default().extend_from_slice(bytes);
    }

    pub(crate) fn length_printed(&self, owner: LogOwner) -> usize {
        self.printed.get(&owner).map_or(0, Vec::len)
    }

    /// The master's log is what was printed, from its first byte on: nothing twice, nothing left out.
    pub(crate) fn log_is_true(&self, owner: LogOwner, log: &[u8]) {
        let printed = self.printed.get(&owner).map_or(&[][..], Vec::as_slice);
        assert!(printed.starts_with(log), "the log of {owner:?} is not what its step printed");
    }

    pub(crate) fn machine_started(&self, settings: &Settings, cloud: &Cloud, pool: &PoolName) {
        let alive = cloud.machines.values().filter(|m| m.may_run() && m.pool == *pool).count();
        let max = settings.pools.iter().find(|known| known.name == *pool).map(|p| p.max_instances);
        assert!(alive <= max.unwrap_or(0) as usize, "pool {pool} has {alive} machines of {max:?}");
    }

    /// An attempt begins to run on an agent: no other of its job runs, unless somebody called it off.
    pub(crate) fn attempt_starts(
        &self,
        settings: &Settings,
        disk: &Disk,
        hosts: &BTreeMap<WorkerName, Host>,
        on: &WorkerName,
        attempt: AttemptRef,
    ) {
        let given = disk.attempts.get(&attempt.attempt);
        let given = given.unwrap_or_else(|| panic!("{on} runs {attempt:?}, which is on no disk"));
        let others = disk.attempts.values().filter(|other| {
            let is_called_off = other.cancelling
                || matches!(other.state, AttemptState::Failed | AttemptState::Cancelled);
            other.job == given.job && other.id != attempt && !is_called_off
        });
        for other in others {
            for (name, host) in hosts {
                assert!(
                    !host.supervisors.contains_key(&other.id),
                    "{on} starts {attempt:?} while {name} still runs {:?} of the same job",
                    other.id
                );
            }
        }
        let host = hosts.get(on).expect("who runs it is there");
        assert_eq!(host.supervisors.len(), 1, "{on} runs one at a time: {:?}", host.supervisors);
        let pool = settings.pools.iter().find(|pool| pool.name == host.pool);
        let is_shared = pool.is_some_and(|pool| pool.shared);
        assert!(is_shared || host.projects.len() < 2, "{on} serves {:?}", host.projects);
    }

    /// Every change of rows is one that the laws allow.
    pub(crate) fn before_commit(&mut self, disk: &Disk, records: &[Record], people: &People) {
        let mut moved = BTreeSet::new();
        let mut seen = BTreeSet::new();
        let is_baseline = records.iter().any(|record| matches!(record, Record::Baseline(_)));
        for record in records {
            match record {
                Record::Job(job) => self.job_changes(disk, records, people, job),
                Record::Build(build) if self.builds_seen.insert(build.id) => {
                    let last = self.numbers.entry(build.project.clone()).or_default();
                    assert_eq!(
                        build.number.0,
                        *last + 1,
                        "numbers of {} have no gaps",
                        build.project
                    );
                    *last += 1;
                }
                Record::Ref(project, name, Some(commit)) => {
                    moved.insert((project.clone(), name.clone(), commit.clone()));
                }
                Record::Change(change) => {
                    let old = self.changes_seen.insert(change.id, change.clone());
                    assert!(old.is_none_or(|old| old == *change), "change ids are not used twice");
                    let key = (&change.project, &change.ref_name, &change.commit);
                    seen.insert((key.0.clone(), key.1.clone(), key.2.clone()));
                }
                Record::Attempt(attempt) => {
                    if let Some(old) = disk.attempts.get(&attempt.id.attempt) {
                        assert_eq!(old.id, attempt.id, "an attempt keeps its fence");
                        assert_eq!(old.job, attempt.job, "and its job");
                        assert!(is_open(old) || old == attempt, "what is over stays: {attempt:?}");
                    }
                }
                _ => {}
            }
        }
        groups::turns_are_kept(disk, records);
        assert!(is_baseline || moved == seen, "every push is remembered as a change: {moved:?}");
    }

    fn job_changes(&self, disk: &Disk, records: &[Record], people: &People, job: &Job) {
        let old = disk.jobs.get(&job.id);
        if let Some(old) = old {
            assert!(old.fence <= job.fence, "a fence never falls: {job:?}");
            if old.fence < job.fence {
                self.job_given(disk, records, job);
            }
        }
        if old.is_some_and(|old| old.status == job.status && old.attempt == job.attempt) {
            return;
        }
        let attempt = job.attempt.and_then(|id| newest(disk, records, id));
        let truth = attempt.as_ref().and_then(|attempt| {
            let (worker, outcome) = self.truth.get(&attempt.id)?;
            (*worker == attempt.worker).then_some(outcome)
        });
        match job.status {
            JobStatus::Passed => {
                assert_eq!(truth, Some(&AttemptOutcome::Passed), "nobody passed {job:?}");
            }
            JobStatus::Failed => {
                let is_overdue =
                    job.reason.as_deref().is_some_and(|why| why.contains("out of time"));
                let is_true = truth == Some(&AttemptOutcome::Failed);
                assert!(
                    is_true || (is_overdue && truth != Some(&AttemptOutcome::Passed)),
                    "{truth:?}, and yet {job:?}"
                );
            }
            JobStatus::Cancelled => {
                let new = records.iter().find_map(|record| match record {
                    Record::Build(build) if build.id == job.build => Some(build),
                    _ => None,
                });
                let build = new.or_else(|| disk.builds.get(&job.build));
                let build = build.expect("a job has its build");
                let key = (build.project.clone(), build.number);
                let is_wanted = people.cancelled.contains(&key) || groups::gave_way(build, job);
                assert!(is_wanted, "nobody cancelled {job:?}");
                assert!(job.reason.is_some(), "nobody says why {job:?} was cancelled");
            }
            JobStatus::Infra | JobStatus::Skipped => {
                assert!(job.reason.is_some(), "a reason is given for {job:?}");
            }
            JobStatus::Waiting | JobStatus::Queued | JobStatus::Running => {}
        }
    }

    /// A job is given out: all that it needs has passed.
    fn job_given(&self, disk: &Disk, records: &[Record], job: &Job) {
        for needed in &job.spec.needs {
            let siblings = disk.jobs.values().filter(|other| other.build == job.build);
            let mut siblings = siblings.filter(|other| other.spec.name == *needed);
            let needed = siblings.next().expect("what is needed exists");
            let newer = records.iter().rev().find_map(|record| match record {
                Record::Job(other) if other.id == needed.id => Some(other),
                _ => None,
            });
            let status = newer.unwrap_or(needed).status;
            assert_eq!(status, JobStatus::Passed, "{} needs {}", job.spec.name, needed.spec.name);
        }
    }

    pub(crate) fn after_commit(&self, disk: &Disk, records: &[Record], now: Timestamp) {
        foresight::ahead_is_true(disk);
        reasons::are_true(disk, records, now);
    }

    /// What is too much to look at each time.
    pub(crate) fn now_and_then(&self, disk: &Disk, now: Timestamp) {
        disk.jobs.values().for_each(|job| reasons::is_explained(job, now));
        groups::who_is_before_is_there(disk);
        let mut held = BTreeSet::new();
        for attempt in disk.attempts.values().filter(|attempt| is_open(attempt)) {
            assert!(held.insert(attempt.job), "a job has one open attempt: {attempt:?}");
            let worker = disk.workers.get(&attempt.worker).expect("an attempt has a worker");
            assert_eq!(worker.attempt, Some(attempt.id), "which knows it");
        }
    }
}

fn newest(
    disk: &Disk,
    records: &[Record],
    id: busybee::model::ids::AttemptId,
) -> Option<busybee::master::domain::entities::Attempt> {
    let newer = records.iter().rev().find_map(|record| match record {
        Record::Attempt(attempt) if attempt.id.attempt == id => Some(attempt.clone()),
        _ => None,
    });
    newer.or_else(|| disk.attempts.get(&id).cloned())
}

impl World {
    /// Whether nothing is left to do, and the fleet is at its minimum.
    pub(crate) fn why_not_quiet(&self) -> Option<String> {
        if let Some(build) = self.disk.builds.values().find(|build| !build.status.is_final()) {
            let jobs = self.disk.jobs_of(build.id).into_iter().filter(|job| !job.status.is_final());
            let open: Vec<_> =
                jobs.map(|job| (job.id, job.status, job.attempt, job.worker, job.reason)).collect();
            return Some(format!("build {} is {}: {open:?}", build.id, build.status));
        }
        if let Some(change) = self.disk.changes.values().next() {
            return Some(format!("{change:?} is undecided"));
        }
        for pool in self.settings.pools.iter().filter(|p| p.provisioner != ProvisionerKind::None) {
            let instances = self.disk.instances.values().filter(|i| i.pool == pool.name);
            let open: Vec<_> = instances.filter(|i| !i.status.is_final()).collect();
            let is_ready = |worker: &WorkerName| {
                self.disk.workers.get(worker).is_some_and(|w| w.status == WorkerStatus::Idle)
            };
            let ready = open.iter().filter(|i| is_ready(&i.worker)).count();
            if open.len() != pool.min_idle as usize || ready != open.len() {
                return Some(format!("pool {} has {ready} ready of {open:?}", pool.name));
            }
        }
        for (launch, machine) in self.cloud.machines.iter().filter(|(_, m)| m.is_alive) {
            let row = self.disk.instances.get(&machine.instance);
            if !row.is_some_and(|row| row.launch == *launch && !row.status.is_final()) {
                return Some(format!("{machine:?} lives and has no open row: {row:?}"));
            }
        }
        None
    }

    /// What must be so once everything has come to rest.
    pub(crate) fn laws_at_the_end(&self) {
        for (key, commit) in &self.people.heads {
            assert_eq!(self.disk.refs.get(key), Some(commit), "{key:?} was looked at");
        }
        for change in self.laws.changes_seen.values() {
            let plan = self.people.plans.get(&change.commit).expect("a commit has a plan");
            let builds = self.disk.builds.values().filter(|build| build.commit == change.commit);
            let expected = usize::from(!plan.is_left_out());
            assert_eq!(builds.count(), expected, "{change:?} with {plan:?}");
        }
        for job in self.disk.jobs.values() {
            assert!(job.status.is_final(), "{job:?} is over");
        }
        for attempt in self.disk.attempts.values() {
            assert!(!is_open(attempt), "{attempt:?} is over");
        }
        for worker in self.disk.workers.values() {
            let instance = worker.instance.and_then(|id| self.disk.instances.get(&id));
            let is_ended = instance.is_some_and(|instance| {
                matches!(instance.status, InstanceStatus::Terminated | InstanceStatus::Failed)
            });
            let is_gone = worker.status == WorkerStatus::Gone;
            assert!(is_gone || !is_ended, "{worker:?} outlives its machine");
        }
        for row in self.disk.instances.values().filter(|row| row.status.is_final()) {
            let is_explained = row.why_ended.is_some() && row.ended_at.is_some();
            assert!(is_explained, "the ledger does not say why it ended: {row:?}");
        }
        for launch in self.cloud.machines.keys() {
            let is_known = self.disk.instances.values().any(|row| row.launch == *launch);
            assert!(is_known, "{launch} was a machine, and is in no row");
        }
        self.laws.now_and_then(&self.disk, self.master.now);
        self.laws_of_logs();
        self.laws_of_watchers();
        self.laws_of_time();
        self.laws_of_costs();
    }
}
