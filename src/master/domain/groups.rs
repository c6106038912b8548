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
    /// They run, or could: the group is theirs until they are over. With the limit that each has brought along.
    inside: BTreeMap<Member, u32>,
    /// The others, in the same way. They need not be ready to run.
    in_line: BTreeMap<Member, u32>,
}

/// Who must be over, or have let one pass, before one of them has its turn.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// In order of builds.
    pub(super) members: Vec<Member>,
    /// The one that it follows in line, or the last of those inside where it is the first.
    pub(super) nearest: Option<Member>,
    /// The lowest limit among them: whoever has that would else be overtaken for ever.
    limit: Option<u32>,
}

impl Ahead {
    /// How many may be inside together with one that has such a limit of its own.
    pub(super) fn limit(&self, own: u32) -> u32 {
        self.limit.map_or(own, |limit| limit.min(own))
    }

    /// Whether one with such a limit has to wait.
    pub(super) fn are_too_many(&self, own: u32) -> bool {
        self.members.len() >= self.limit(own) as usize
    }
}

impl Group {
    /// Who is before one that stands in line. Its own build's others only where they are inside: which of them
    /// comes first, their needs say.
    fn ahead_of(&self, member: Member) -> Ahead {
        let inside = self.inside.iter().filter(|(other, _)| **other != member);
        let before = self.in_line.range(..first_of(member.build));
        let nearest = before.clone().next_back().or_else(|| inside.clone().next_back());
        let nearest = nearest.map(|(nearest, _)| *nearest);
        let limit = inside.clone().chain(before.clone()).map(|(_, limit)| *limit).min();
        let mut members: Vec<Member> = inside.chain(before).map(|(other, _)| *other).collect();
        members.sort_unstable();
        Ahead { members, nearest, limit }
    }

    /// The build that comes next in line after one's own.
    fn follows(&self, member: Member) -> Option<BuildId> {
        let mut after = self.in_line.range(member..).map(|(other, _)| other.build);
        after.find(|build| *build != member.build)
    }

    /// Whose turn may have come when one is gone, and who may be told another name now.
    fn may_be_next(&self, gone: Member) -> Vec<BuildId> {
        let first = self.in_line.keys().next().map(|first| first.build);
        let mut next: Vec<BuildId> = first.into_iter().chain(self.follows(gone)).collect();
        for (member, limit) in &self.in_line {
            let ahead = self.ahead_of(*member);
            // Whoever comes later has no fewer before it, nor a higher limit among them.
            if ahead.are_too_many(Concurrency::LIMIT_MAX) {
                break;
            }
            if !ahead.are_too_many(*limit) {
                next.push(member.build);
            }
        }
        next
    }
}

/// Before every member of a build.
fn first_of(build: BuildId) -> Member {
    Member { build, job: None }
}

impl Groups {
    /// One more stands in line.
    pub(super) fn line_up(&mut self, key: GroupKey, member: Member, limit: u32) {
        let group = self.groups.entry(key).or_default();
        if group.in_line.insert(member, limit).is_none() {
            // One of an older build that is retried stands between two: the second has another before it now.
            self.to_look_at.extend(group.follows(member));
        }
    }

    /// One has a place from now on.
    pub(super) fn enter(&mut self, key: GroupKey, member: Member, limit: u32) {
        let group = self.groups.entry(key).or_default();
        group.in_line.remove(&member);
        group.inside.insert(member, limit);
    }

    /// One is over, or has given up.
    pub(super) fn leave(&mut self, key: &GroupKey, member: Member) {
        let Some(group) = self.groups.get_mut(key) else { return };
        let was_there =
            group.inside.remove(&member).is_some() | group.in_line.remove(&member).is_some();
        if group.inside.is_empty() && group.in_line.is_empty() {
            self.groups.remove(key);
        } else if was_there {
            let next = group.may_be_next(member);
            self.to_look_at.extend(next);
        }
    }

    /// Who is before one that stands in line.
    pub(super) fn ahead_of(&self, key: &GroupKey, member: Member) -> Ahead {
        self.groups.get(key).map(|group| group.ahead_of(member)).unwrap_or_default()
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
            for (member, limit) in &group.inside {
                let build = builds.get(&member.build).expect("who is in a group is not over");
                let concurrency = match member.job {
                    Some(job) => {
                        assert!(with_place.insert(job), "{job} is in one group");
                        jobs.get(&job).and_then(|job| job.spec.concurrency.as_ref())
                    }
                    None => build.concurrency.as_ref().filter(|_| build.has_turn),
                };
                assert_eq!(*limit, concurrency.expect("it has a group").limit);
                let is_kept = group.inside.len() <= *limit as usize;
                assert!(is_kept, "more of {key:?} run than may: {group:?}");
            }
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
