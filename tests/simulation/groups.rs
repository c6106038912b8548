//! Laws of concurrency groups: nobody runs who is not next, and who waits is told the name of somebody who is
//! before it.

use std::collections::BTreeMap;

use busybee::master::domain::decision::Record;
use busybee::master::domain::entities::Build;
use busybee::master::domain::entities::Job;
use busybee::model::ids::BuildId;
use busybee::model::ids::JobId;
use busybee::model::status::JobStatus;

use crate::disk::Disk;
use crate::world::World;

/// Rows as they are in the middle of a commit.
struct Moment<'d> {
    disk: &'d Disk,
    builds: BTreeMap<BuildId, &'d Build>,
    jobs: BTreeMap<JobId, &'d Job>,
}

impl<'d> Moment<'d> {
    fn build(&self, id: BuildId) -> Option<&'d Build> {
        self.builds.get(&id).copied().or_else(|| self.disk.builds.get(&id))
    }

    fn job(&self, id: JobId) -> Option<&'d Job> {
        self.jobs.get(&id).copied().or_else(|| self.disk.jobs.get(&id))
    }

    /// Every build that is not over.
    fn open_builds(&self) -> impl Iterator<Item = &'d Build> {
        let new = self.builds.keys().filter(|id| !self.disk.builds.contains_key(id));
        let ids = self.disk.builds.keys().chain(new);
        ids.filter_map(|id| self.build(*id)).filter(|build| !build.status.is_final())
    }

    fn open_jobs(&self) -> impl Iterator<Item = &'d Job> {
        let new = self.jobs.keys().filter(|id| !self.disk.jobs.contains_key(id));
        let ids = self.disk.jobs.keys().chain(new);
        ids.filter_map(|id| self.job(*id)).filter(|job| !job.status.is_final())
    }

    /// The turn of a build has come: too few are before it.
    fn build_comes(&self, build: &Build) {
        let Some(group) = &build.concurrency else { return };
        let same = self.open_builds().filter(|other| {
            let name = other.concurrency.as_ref().map(|other| &other.group);
            other.project == build.project && name == Some(&group.group) && other.id != build.id
        });
        let ahead = same.filter(|other| other.has_turn || other.id < build.id);
        assert!(ahead.count() < group.limit as usize, "it is not the turn of {build:?}");
    }

    /// The turn of a job has come.
    fn job_comes(&self, job: &Job) {
        let Some(group) = &job.spec.concurrency else { return };
        let build = self.build(job.build).expect("a job has its build");
        assert!(build.has_turn, "{job:?} comes before its build");
        let ahead = self.open_jobs().filter(|other| {
            let name = other.spec.concurrency.as_ref().map(|other| &other.group);
            let its_build = self.build(other.build).expect("a job has its build");
            let is_before = other.status != JobStatus::Waiting
                || (other.build < job.build && its_build.has_turn);
            let is_same = its_build.project == build.project && name == Some(&group.group);
            is_same && other.id != job.id && is_before
        });
        assert!(ahead.count() < group.limit as usize, "it is not the turn of {job:?}");
    }
}

/// In each commit, one change after another.
pub(crate) fn turns_are_kept(disk: &Disk, records: &[Record]) {
    let mut moment = Moment { disk, builds: BTreeMap::new(), jobs: BTreeMap::new() };
    for record in records {
        match record {
            Record::Build(build) => {
                let had_turn = moment.build(build.id).is_some_and(|old| old.has_turn);
                if build.has_turn && !had_turn {
                    moment.build_comes(build);
                }
                moment.builds.insert(build.id, build);
            }
            Record::Job(job) => {
                let old = moment.job(job.id);
                if job.status == JobStatus::Queued
                    && old.is_some_and(|old| old.status == JobStatus::Waiting)
                {
                    moment.job_comes(job);
                }
                moment.jobs.insert(job.id, job);
            }
            _ => {}
        }
    }
}

impl World {
    /// A row is about to be written over the one before.
    pub(crate) fn turn_changes(&mut self, record: &Record) {
        let Record::Job(new) = record else { return };
        let old = self.disk.jobs.get(&new.id).and_then(|old| old.reason.as_deref());
        let Some(why) = new.reason.as_deref().filter(|why| Some(*why) != old) else { return };
        let names = [
            (" comes first", "waited for a turn"),
            (" took its place", "gave way"),
            ("left out", "left out"),
        ];
        // Who is left out is told who comes first as well.
        if let Some((_, name)) = names.iter().rev().find(|(words, _)| why.contains(words)) {
            *self.counts.entry(name).or_default() += 1;
        }
    }
}

/// Whoever is said to come first is not over.
pub(crate) fn who_is_before_is_there(disk: &Disk) {
    for job in disk.jobs.values().filter(|job| job.status == JobStatus::Waiting) {
        let Some((before, _)) =
            job.reason.as_deref().and_then(|why| why.split_once(" comes first"))
        else {
            continue;
        };
        let build = disk.builds.get(&job.build).expect("a job has its build");
        let number = before.rsplit(' ').next().and_then(|number| number.parse::<u64>().ok());
        let mut others = disk.builds.values().filter(|other| other.project == build.project);
        let other = others.find(|other| Some(other.number.0) == number);
        assert!(other.is_some_and(|other| !other.status.is_final()), "{job:?}: {other:?} is over");
    }
}

/// Whether a job ended for others of its group.
pub(crate) fn gave_way(build: &Build, job: &Job) -> bool {
    let has_group = build.concurrency.is_some() || job.spec.concurrency.is_some();
    let says_so =
        |why: &str| why.contains("took its place in group") || why.starts_with("left out: ");
    has_group && job.reason.as_deref().is_some_and(says_so)
}
