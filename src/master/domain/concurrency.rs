//! Concurrency groups at work: whose turn it is, and what becomes of those whose turn it is not.
//!
//! A build has its place in its group from its turn until it is over, a job from when it is queued: what waits for a
//! turn has no worker, and starts no machine. The order is that of builds: a job of a later build comes after
//! those of earlier ones, ready or not, so that nothing is deployed over something newer. Only jobs of
//! builds that have their own turn stand in a line of jobs; so nobody waits for somebody who waits for them.

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Record;
use crate::master::domain::entities::Build;
use crate::master::domain::entities::Job;
use crate::master::domain::groups::GroupKey;
use crate::master::domain::groups::GroupOf;
use crate::master::domain::groups::Member;
use crate::master::domain::pipeline::Concurrency;
use crate::master::domain::pipeline::OnNew;
use crate::master::domain::wait_reason::Place;
use crate::master::domain::wait_reason::WaitReason;
use crate::model::ids::BuildId;
use crate::model::ids::BuildNumber;
use crate::model::ids::JobId;
use crate::model::status::JobStatus;

/// What a group says to one that is ready.
#[derive(Debug)]
pub(super) enum Turn {
    /// It is its turn.
    Come,
    /// Not yet.
    Behind(WaitReason),
    /// There is none for it; the sentence says why.
    LeftOut(String),
}

impl Coordinator {
    /// Whether it is a build's turn. If not, its jobs are told why; if there is none for it, they are
    /// cancelled.
    pub(super) fn is_its_turn(&mut self, id: BuildId) -> bool {
        let Some(build) = self.builds.get(&id).filter(|build| !build.has_turn) else { return true };
        let waiting = self.waiting_jobs_of(id);
        let Some((key, concurrency)) = group_of_build(build).filter(|_| !waiting.is_empty()) else {
            return true;
        };
        match self.turn(&key, Member { build: id, job: None }, &concurrency) {
            Turn::Come => {
                self.groups.enter(key, Member { build: id, job: None }, concurrency.limit);
                self.give_turn(id);
                for job in self.jobs_of.get(&id).cloned().unwrap_or_default() {
                    self.keep_job_in_line(job);
                }
                true
            }
            Turn::Behind(why) => {
                waiting.into_iter().for_each(|job| self.explain(job, &why));
                false
            }
            Turn::LeftOut(why) => {
                waiting.into_iter().for_each(|job| self.cancel_job(job, &why));
                false
            }
        }
    }

    /// Whether it is the turn of a job that is ready.
    pub(super) fn turn_of_job(&mut self, id: JobId) -> Turn {
        let Some(job) = self.jobs.get(&id) else { return Turn::Come };
        let member = Member { build: job.build, job: Some(id) };
        match self.group_of_job(job) {
            Some((key, concurrency)) => self.turn(&key, member, &concurrency),
            None => Turn::Come,
        }
    }

    fn turn(&mut self, key: &GroupKey, member: Member, concurrency: &Concurrency) -> Turn {
        let mut ahead = self.groups.ahead_of(key, member);
        if concurrency.on_new == OnNew::Cancel {
            let too_many = (ahead.members.len() + 1).saturating_sub(concurrency.limit as usize);
            // Who ends already makes room as well, and is not told again.
            let (ending, staying): (Vec<Member>, Vec<Member>) =
                ahead.members.iter().partition(|other| self.is_ending(**other));
            let why = format!("{} took its place in group \"{}\"", self.place(member), key.name);
            // A build does not end its own jobs: they take turns.
            let others = staying.into_iter().filter(|other| other.build != member.build);
            let oldest = others.take(too_many.saturating_sub(ending.len()));
            oldest.for_each(|other| self.give_way(other, &why));
            // What runs is over only when its agent says so.
            ahead = self.groups.ahead_of(key, member);
        }
        let is_behind = ahead.are_too_many(concurrency.limit);
        let Some(nearest) = ahead.nearest.filter(|_| is_behind) else { return Turn::Come };
        let limit = ahead.limit(concurrency.limit);
        let group = key.name.clone();
        let why = |before: Member| WaitReason::Turn { group, limit, before: self.place(before) };
        ahead.members.retain(|other| other.build != member.build);
        match ahead.members.last().filter(|_| ahead.members.len() >= limit as usize) {
            Some(other) if concurrency.on_new == OnNew::Skip => {
                Turn::LeftOut(format!("left out: {}", why(*other).sentence()))
            }
            _ => Turn::Behind(why(nearest)),
        }
    }

    /// One ends for another that came later.
    fn give_way(&mut self, member: Member, why: &str) {
        self.jobs_in(member).into_iter().for_each(|job| self.cancel_job(job, why));
        self.groups.look_at(member.build);
    }

    /// Whether all of it that is not over has been told to end.
    fn is_ending(&self, member: Member) -> bool {
        let jobs = self.jobs_in(member).into_iter().filter_map(|id| self.jobs.get(&id));
        let mut open = jobs.filter(|job| !job.status.is_final());
        open.all(|job| {
            let attempt = job.attempt.and_then(|attempt| self.attempts.get(&attempt));
            attempt.is_some_and(|attempt| attempt.cancelling)
        })
    }

    fn jobs_in(&self, member: Member) -> Vec<JobId> {
        match member.job {
            Some(job) => vec![job],
            None => self.jobs_of.get(&member.build).cloned().unwrap_or_default(),
        }
    }

    /// A build has come to be, or is taken up.
    pub(super) fn keep_build_in_line(&mut self, id: BuildId) {
        let Some(build) = self.builds.get(&id) else { return };
        let Some((key, concurrency)) = group_of_build(build) else { return };
        let member = Member { build: id, job: None };
        if build.has_turn {
            self.groups.enter(key, member, concurrency.limit);
        } else {
            self.groups.line_up(key, member, concurrency.limit);
        }
    }

    /// A build is over.
    pub(super) fn build_leaves_line(&mut self, build: &Build) {
        if let Some((key, _)) = group_of_build(build) {
            self.groups.leave(&key, Member { build: build.id, job: None });
        }
    }

    /// A job has come to be, or stands elsewhere than before.
    pub(super) fn keep_job_in_line(&mut self, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let Some((key, concurrency)) = self.group_of_job(job) else { return };
        let member = Member { build: job.build, job: Some(id) };
        match job.status {
            JobStatus::Waiting => {
                if self.builds.get(&job.build).is_some_and(|build| build.has_turn) {
                    self.groups.line_up(key, member, concurrency.limit);
                }
            }
            JobStatus::Queued | JobStatus::Running => {
                self.groups.enter(key, member, concurrency.limit);
            }
            JobStatus::Passed
            | JobStatus::Failed
            | JobStatus::Cancelled
            | JobStatus::Infra
            | JobStatus::Skipped => self.groups.leave(&key, member),
        }
    }

    /// Looks at the builds whose turn may have come. It has an end: a build is looked at again only when
    /// somebody has lined up, left a group, or been told to end, and nobody does one of these twice here.
    pub(super) fn look_at_turns(&mut self) {
        while let Some(build) = self.groups.next_to_look_at() {
            self.look_at_build(build);
        }
    }

    /// Whether a job waits and could not begin now if it were ready.
    pub(super) fn is_behind_others(&self, job: &Job) -> bool {
        if job.status != JobStatus::Waiting {
            return false;
        }
        if self.builds.get(&job.build).is_some_and(|build| !build.has_turn) {
            return true;
        }
        let Some((key, concurrency)) = self.group_of_job(job) else { return false };
        let member = Member { build: job.build, job: Some(job.id) };
        self.groups.ahead_of(&key, member).are_too_many(concurrency.limit)
    }

    fn give_turn(&mut self, id: BuildId) {
        let Some(build) = self.builds.get_mut(&id) else { return };
        build.has_turn = true;
        let build = build.clone();
        self.remember(Record::Build(build));
    }

    fn waiting_jobs_of(&self, build: BuildId) -> Vec<JobId> {
        let jobs = self.jobs_of.get(&build).into_iter().flatten();
        let is_waiting =
            |id: &&JobId| self.jobs.get(id).is_some_and(|job| job.status == JobStatus::Waiting);
        jobs.filter(is_waiting).copied().collect()
    }

    fn group_of_job(&self, job: &Job) -> Option<(GroupKey, Concurrency)> {
        let concurrency = job.spec.concurrency.clone()?;
        let project = self.builds.get(&job.build)?.project.clone();
        let name = concurrency.group.clone();
        Some((GroupKey { project, of: GroupOf::Jobs, name }, concurrency))
    }

    fn place(&self, member: Member) -> Place {
        let job = member.job.and_then(|id| self.jobs.get(&id));
        Place {
            build: self.builds.get(&member.build).map_or(BuildNumber(0), |build| build.number),
            job: job.map(|job| job.spec.name.clone()),
        }
    }
}

fn group_of_build(build: &Build) -> Option<(GroupKey, Concurrency)> {
    let concurrency = build.concurrency.clone()?;
    let (project, name) = (build.project.clone(), concurrency.group.clone());
    Some((GroupKey { project, of: GroupOf::Builds, name }, concurrency))
}

#[cfg(test)]
mod tests;
