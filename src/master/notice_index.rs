//! Finds out of which build a record is, so that whoever watches that build can be told.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::master::domain::decision::Record;
use crate::master::domain::entities::Build;
use crate::master::domain::snapshot::Snapshot;
use crate::master::notices::Notice;
use crate::model::ids::AttemptId;
use crate::model::ids::BuildId;
use crate::model::ids::BuildNumber;
use crate::model::ids::JobId;
use crate::model::ids::ProjectName;
use crate::model::status::BuildStatus;

/// Which build each job and attempt that is not over belongs to.
#[derive(Debug, Default)]
pub struct NoticeIndex {
    builds: BTreeMap<BuildId, Known>,
    jobs: BTreeMap<JobId, BuildId>,
    attempts: BTreeMap<AttemptId, JobId>,
    /// What to forget with each build.
    jobs_of: BTreeMap<BuildId, BTreeSet<JobId>>,
    attempts_of: BTreeMap<JobId, BTreeSet<AttemptId>>,
}

/// What a notice says of a build.
#[derive(Debug)]
struct Known {
    project: ProjectName,
    number: BuildNumber,
    status: BuildStatus,
}

impl Known {
    fn of(build: &Build) -> Known {
        let Build { project, number, status, .. } = build;
        Known { project: project.clone(), number: *number, status: *status }
    }

    fn notice(&self) -> Notice {
        let Known { project, number, status } = self;
        Notice::Build { project: project.clone(), number: *number, status: *status }
    }
}

impl NoticeIndex {
    /// What was going on when the master started.
    pub fn load(snapshot: &Snapshot) -> NoticeIndex {
        let mut index = NoticeIndex::default();
        for build in &snapshot.builds {
            index.builds.insert(build.id, Known::of(build));
        }
        for job in &snapshot.jobs {
            index.note_job(job.id, job.build);
        }
        for attempt in &snapshot.attempts {
            index.note_attempt(attempt.id.attempt, attempt.job);
        }
        index
    }

    /// Whom these records concern, each once. Forgets builds that are over.
    pub fn notices_of(&mut self, records: &[Record]) -> Vec<Notice> {
        let (mut builds, mut over, mut fleet) = (BTreeSet::new(), BTreeSet::new(), false);
        for record in records {
            match record {
                Record::Build(build) => {
                    self.builds.insert(build.id, Known::of(build));
                    builds.insert(build.id);
                    note_end(build, &mut over);
                }
                Record::Job(job) => {
                    self.note_job(job.id, job.build);
                    builds.insert(job.build);
                }
                Record::Attempt(attempt) => {
                    self.note_attempt(attempt.id.attempt, attempt.job);
                    builds.extend(self.jobs.get(&attempt.job));
                }
                Record::Step(step) => {
                    let job = self.attempts.get(&step.attempt);
                    builds.extend(job.and_then(|job| self.jobs.get(job)));
                }
                Record::Worker(_)
                | Record::Instance(_)
                | Record::Pool(_)
                | Record::PoolForecast(_) => fleet = true,
                // Nobody watches these.
                Record::ProjectDay(_)
                | Record::BudgetTold(..)
                | Record::Ref(..)
                | Record::Baseline(_)
                | Record::Change(_)
                | Record::ChangeDone(_)
                | Record::JobTime(_)
                | Record::JobTimeForgotten(..) => {}
            }
        }
        let named = builds.iter().filter_map(|id| self.builds.get(id));
        let mut notices: Vec<Notice> = named.map(Known::notice).collect();
        if fleet {
            notices.push(Notice::Fleet);
        }
        self.forget(&over);
        notices
    }

    fn note_job(&mut self, job: JobId, build: BuildId) {
        self.jobs.insert(job, build);
        self.jobs_of.entry(build).or_default().insert(job);
    }

    fn note_attempt(&mut self, attempt: AttemptId, job: JobId) {
        self.attempts.insert(attempt, job);
        self.attempts_of.entry(job).or_default().insert(attempt);
    }

    fn forget(&mut self, over: &BTreeSet<BuildId>) {
        for build in over {
            self.builds.remove(build);
            for job in self.jobs_of.remove(build).unwrap_or_default() {
                self.jobs.remove(&job);
                for attempt in self.attempts_of.remove(&job).unwrap_or_default() {
                    self.attempts.remove(&attempt);
                }
            }
        }
    }
}

/// A build that ended and is taken up again in the same batch is not over.
fn note_end(build: &Build, over: &mut BTreeSet<BuildId>) {
    if build.status.is_final() {
        over.insert(build.id);
    } else {
        over.remove(&build.id);
    }
}
