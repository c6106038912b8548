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

/// Which build each job and attempt that is not over belongs to.
#[derive(Debug, Default)]
pub(crate) struct NoticeIndex {
    builds: BTreeMap<BuildId, (ProjectName, BuildNumber)>,
    jobs: BTreeMap<JobId, BuildId>,
    attempts: BTreeMap<AttemptId, JobId>,
}

impl NoticeIndex {
    /// What was going on when the master started.
    pub(crate) fn load(snapshot: &Snapshot) -> NoticeIndex {
        let mut index = NoticeIndex::default();
        for build in &snapshot.builds {
            index.builds.insert(build.id, (build.project.clone(), build.number));
        }
        index.jobs.extend(snapshot.jobs.iter().map(|job| (job.id, job.build)));
        index.attempts.extend(snapshot.attempts.iter().map(|try_| (try_.id.attempt, try_.job)));
        index
    }

    /// Whom these records concern, each once. Forgets builds that are over.
    pub(crate) fn notices_of(&mut self, records: &[Record]) -> Vec<Notice> {
        let (mut builds, mut over, mut fleet) = (BTreeSet::new(), BTreeSet::new(), false);
        for record in records {
            match record {
                Record::Build(build) => {
                    self.builds.insert(build.id, (build.project.clone(), build.number));
                    builds.insert(build.id);
                    note_end(build, &mut over);
                }
                Record::Job(job) => {
                    self.jobs.insert(job.id, job.build);
                    builds.insert(job.build);
                }
                Record::Attempt(attempt) => {
                    self.attempts.insert(attempt.id.attempt, attempt.job);
                    builds.extend(self.jobs.get(&attempt.job));
                }
                Record::Step(step) => {
                    let job = self.attempts.get(&step.attempt);
                    builds.extend(job.and_then(|job| self.jobs.get(job)));
                }
                Record::Worker(_) | Record::Instance(_) | Record::Pool(_) => fleet = true,
                // Nobody watches these.
                Record::Ref(..)
                | Record::Baseline(_)
                | Record::Change(_)
                | Record::ChangeDone(_) => {}
            }
        }
        let named = builds.iter().filter_map(|id| self.builds.get(id));
        let mut notices: Vec<Notice> =
            named.map(|(project, number)| Notice::Build(project.clone(), *number)).collect();
        if fleet {
            notices.push(Notice::Fleet);
        }
        self.forget(&over);
        notices
    }

    fn forget(&mut self, over: &BTreeSet<BuildId>) {
        if over.is_empty() {
            return;
        }
        self.builds.retain(|id, _| !over.contains(id));
        self.jobs.retain(|_, build| !over.contains(build));
        let jobs = &self.jobs;
        self.attempts.retain(|_, job| jobs.contains_key(job));
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
