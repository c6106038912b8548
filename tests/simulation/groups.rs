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

    /// Who is before a build in its group, each with its limit.
    fn builds_before(&self, build: &Build) -> impl Iterator<Item = (&'d Build, u32)> {
        let group = build.concurrency.as_ref().map(|group| &group.group);
        self.open_builds().filter_map(move |other| {
            let its_group = other.concurrency.as_ref()?;
            let is_same = other.project == build.project && Some(&its_group.group) == group;
            let is_before = other.has_turn || other.id < build.id;
            let is_ahead = is_same && is_before && other.id != build.id;
            is_ahead.then_some((other, its_group.limit))
        })
    }

    /// Who is before a job in its group, each with its limit.
    fn jobs_before(&self, job: &Job) -> impl Iterator<Item = (&'d Build, &'d Job, u32)> {
        let build = self.build(job.build).expect("a job has its build");
        let group = job.spec.concurrency.as_ref().map(|group| &group.group);
        self.open_jobs().filter_map(move |other| {
            let its_group = other.spec.concurrency.as_ref()?;
            let its_build = self.build(other.build).expect("a job has its build");
            let is_same = its_build.project == build.project && Some(&its_group.group) == group;
            let is_before = other.status != JobStatus::Waiting
                || (other.build < job.build && its_build.has_turn);
            let is_ahead = is_same && is_before && other.id != job.id;
            is_ahead.then_some((its_build, other, its_group.limit))
        })
    }

    /// The turn of a build has come: too few are before it.
    fn build_comes(&self, build: &Build) {
        let Some(group) = &build.concurrency else { return };
        let limits: Vec<u32> = self.builds_before(build).map(|(_, limit)| limit).collect();
        let limit = limits.iter().fold(group.limit, |least, limit| least.min(*limit));
        assert!(limits.len() < limit as usize, "it is not the turn of {build:?}");
    }

    /// The turn of a job has come.
    fn job_comes(&self, job: &Job) {
        let Some(group) = &job.spec.concurrency else { return };
        let build = self.build(job.build).expect("a job has its build");
        assert!(build.has_turn, "{job:?} comes before its build");
        let limits: Vec<u32> = self.jobs_before(job).map(|(_, _, limit)| limit).collect();
        let limit = limits.iter().fold(group.limit, |least, limit| least.min(*limit));
        assert!(limits.len() < limit as usize, "it is not the turn of {job:?}");
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

/// Who waits for a turn does so for somebody, and whoever it names is before it.
pub(crate) fn who_is_before_is_there(disk: &Disk) {
    let moment = Moment { disk, builds: BTreeMap::new(), jobs: BTreeMap::new() };
    for job in disk.jobs.values().filter(|job| job.status == JobStatus::Waiting) {
        let build = disk.builds.get(&job.build).expect("a job has its build");
        let before = job.reason.as_deref().and_then(|why| why.split_once(" comes first"));
        let Some((before, _)) = before else {
            assert!(build.has_turn, "{job:?} does not say that its build waits");
            continue;
        };
        let (name, number) = match before.split_once(" of build ") {
            Some((name, number)) => (Some(name), number),
            None => (None, before.trim_start_matches("build ")),
        };
        assert_eq!(
            name.is_some(),
            build.has_turn,
            "{job:?} waits for its own turn, or its build's"
        );
        let ahead: Vec<(&Build, Option<&Job>, u32)> = match build.has_turn {
            true => moment.jobs_before(job).map(|(build, job, n)| (build, Some(job), n)).collect(),
            false => moment.builds_before(build).map(|(build, n)| (build, None, n)).collect(),
        };
        let is_named = |(build, job, _): &(&Build, Option<&Job>, u32)| {
            build.number.0.to_string() == number && job.map(|job| job.spec.name.as_str()) == name
        };
        assert!(ahead.iter().any(is_named), "{job:?}: {before} is not before it");
        let own = if build.has_turn { &job.spec.concurrency } else { &build.concurrency };
        let own = own.as_ref().expect("it has a group").limit;
        let limit = ahead.iter().map(|(_, _, limit)| *limit).fold(own, u32::min);
        assert!(ahead.len() >= limit as usize, "{job:?} could run");
    }
}

/// Whether a job ended for others of its group.
pub(crate) fn gave_way(build: &Build, job: &Job) -> bool {
    let has_group = build.concurrency.is_some() || job.spec.concurrency.is_some();
    let says_so =
        |why: &str| why.contains("took its place in group") || why.starts_with("left out: ");
    has_group && job.reason.as_deref().is_some_and(says_so)
}
