//! Who is in which concurrency group: who has a place in it, and who stands in line for one.
//!
//! Not remembered: where builds and jobs stand says it all, and a started master puts everyone back.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use crate::master::domain::entities::Build;
use crate::master::domain::entities::Job;
use crate::master::domain::pipeline::Concurrency;
use crate::model::ids::BuildId;
use crate::model::ids::JobId;
use crate::model::ids::ProjectName;
use crate::model::status::JobStatus;

/// Which group: a project's groups of builds are others than its groups of jobs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupKey {
    pub(super) project: ProjectName,
    pub(super) of: GroupOf,
    pub(super) name: String,
}

/// What a group is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum GroupOf {
    Builds,
    Jobs,
}

/// A build, or one of its jobs. In order of builds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Member {
    pub(super) build: BuildId,
    /// In a group of jobs: which.
    pub(super) job: Option<JobId>,
}

/// All groups that have anybody.
#[derive(Debug, Default)]
pub(super) struct Groups {
    groups: BTreeMap<GroupKey, Group>,
    /// Builds that must be looked at: the turn of one of their jobs, or their own, may have come, or who
    /// is before them has changed.
    to_look_at: BTreeSet<BuildId>,
}

#[derive(Debug, Default)]
struct Group {
    /// They run, or could: the group is theirs until they are over.
    inside: BTreeSet<Member>,
    /// The others, with the limit that each has brought along. They need not be ready to run.
    in_line: BTreeMap<Member, u32>,
}

impl Group {
    /// How many are before one in line, of other builds.
    fn n_before(&self, member: Member) -> usize {
        self.inside.len() + self.in_line.range(..first_of(member.build)).count()
    }
}

/// Before every member of a build.
fn first_of(build: BuildId) -> Member {
    Member { build, job: None }
}

impl Groups {
    /// One more stands in line.
    pub(super) fn line_up(&mut self, key: GroupKey, member: Member, limit: u32) {
        self.groups.entry(key).or_default().in_line.insert(member, limit);
    }

    /// One has a place from now on.
    pub(super) fn enter(&mut self, key: GroupKey, member: Member) {
        let group = self.groups.entry(key).or_default();
        group.in_line.remove(&member);
        group.inside.insert(member);
    }

    /// One is over, or has given up.
    pub(super) fn leave(&mut self, key: &GroupKey, member: Member) {
        let Some(group) = self.groups.get_mut(key) else { return };
        let was_there = group.inside.remove(&member) | group.in_line.remove(&member).is_some();
        if group.inside.is_empty() && group.in_line.is_empty() {
            self.groups.remove(key);
        } else if was_there {
            let next = group.may_be_next(member);
            self.to_look_at.extend(next);
        }
    }

    /// Who must be over, or inside, before one that stands in line: in order of builds. Its own build's others
    /// only where they are inside: which of them comes first, their needs say.
    pub(super) fn ahead_of(&self, key: &GroupKey, member: Member) -> Vec<Member> {
        let Some(group) = self.groups.get(key) else { return Vec::new() };
        let before = group.in_line.range(..first_of(member.build)).map(|(before, _)| before);
        let mut ahead: Vec<Member> = group.inside.iter().chain(before).copied().collect();
        ahead.retain(|other| *other != member);
        ahead.sort_unstable();
        ahead
    }

    /// A build must be looked at.
    pub(super) fn look_at(&mut self, build: BuildId) {
        self.to_look_at.insert(build);
    }

    /// The next build that must be looked at.
    pub(super) fn next_to_look_at(&mut self) -> Option<BuildId> {
        self.to_look_at.pop_first()
    }

    /// What must hold after every event.
    ///
    /// # Panics
    /// When it does not.
    pub(super) fn check_invariants(
        &self,
        builds: &BTreeMap<BuildId, Build>,
        jobs: &BTreeMap<JobId, Job>,
    ) {
        assert!(self.to_look_at.is_empty(), "whose turn has come is told at once");
        let mut with_place = BTreeSet::new();
        for (key, group) in &self.groups {
            let mut limit = 0;
            for member in &group.inside {
                let build = builds.get(&member.build).expect("who is in a group is not over");
                let concurrency = match member.job {
                    Some(job) => {
                        assert!(with_place.insert(job), "{job} is in one group");
                        jobs.get(&job).and_then(|job| job.spec.concurrency.as_ref())
                    }
                    None => build.concurrency.as_ref().filter(|_| build.has_turn),
                };
                limit = limit.max(concurrency.expect("it has a group").limit as usize);
            }
            assert!(group.inside.len() <= limit, "more of {key:?} run than may: {group:?}");
        }
        for job in jobs.values().filter(|job| job.spec.concurrency.is_some()) {
            let runs = matches!(job.status, JobStatus::Queued | JobStatus::Running);
            assert_eq!(
                with_place.contains(&job.id),
                runs,
                "{job:?} has a place only if it may run"
            );
        }
    }
}

impl Group {
    /// Whose turn may have come when this one is gone, and who may be told another name now.
    fn may_be_next(&self, gone: Member) -> Vec<BuildId> {
        let mut next = Vec::new();
        let first = self.in_line.keys().next();
        let follows = self.in_line.range(gone..).map(|(member, _)| member).next();
        next.extend(first.into_iter().chain(follows).map(|member| member.build));
        for (index, (member, limit)) in self.in_line.iter().enumerate() {
            // Nobody's limit is higher: the rest is behind for certain.
            if index >= Concurrency::LIMIT_MAX as usize {
                break;
            }
            if self.n_before(*member) < *limit as usize {
                next.push(member.build);
            }
        }
        next
    }
}
