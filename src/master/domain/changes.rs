//! What moved in a repository, until it is a build or left out.
//!
//! The first sight of a project is a baseline. A push is remembered before it is resolved, so that a
//! crash loses none; what somebody asked for lives in memory, as the asker is waiting.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::master::domain::coordinator::Coordinator;
use crate::master::domain::decision::Action;
use crate::master::domain::decision::Record;
use crate::master::domain::decision::RefusalKind;
use crate::master::domain::decision::ReplyId;
use crate::master::domain::decision::Unresolved;
use crate::master::domain::decision::Wanted;
use crate::master::domain::entities::Change;
use crate::master::domain::event::Resolved;
use crate::master::domain::pipeline::ChangeEvent;
use crate::master::domain::pipeline::Planned;
use crate::master::domain::timers::Timer;
use crate::model::backoff::Backoff;
use crate::model::ids::ChangeId;
use crate::model::ids::Commit;
use crate::model::ids::ProjectName;
use crate::model::ids::RefName;

/// How long until a push whose repository did not answer is looked at again.
const RESOLVE_BACKOFF: Backoff =
    match Backoff::new(Duration::from_secs(30), Duration::from_secs(10 * 60)) {
        Some(backoff) => backoff,
        None => unreachable!(),
    };

/// What in a commit's subject leaves its push out.
const SKIP_WORDS: &[&str] = &["[skip ci]", "[ci skip]"];

/// A change that is not a build yet.
#[derive(Debug)]
pub(super) enum PendingChange {
    /// It was seen in the repository.
    Push {
        change: Change,
        /// How often it was looked at in vain.
        tries: u32,
    },
    /// Somebody asked for it and waits.
    Manual { project: ProjectName, reply: ReplyId },
}

impl Coordinator {
    pub(super) fn take_up_change(&mut self, change: Change) {
        self.timers.set(Timer::Change(change.id), self.now);
        self.changes.insert(change.id, PendingChange::Push { change, tries: 0 });
    }

    fn next_change(&mut self) -> ChangeId {
        self.last_ids.change += 1;
        ChangeId(self.last_ids.change)
    }

    /// Compares what a repository has with what it had.
    pub(super) fn refs_listed(&mut self, project: &ProjectName, refs: Vec<(RefName, Commit)>) {
        if !self.settings.projects.iter().any(|known| &known.name == project) {
            return;
        }
        let is_first_sight = self.baselines.insert(project.clone());
        if is_first_sight {
            self.remember(Record::Baseline(project.clone()));
        }
        let listed: BTreeMap<RefName, Commit> = refs.into_iter().collect();
        let known =
            self.refs.keys().filter(|(of, name)| of == project && !listed.contains_key(name));
        let gone: Vec<(ProjectName, RefName)> = known.cloned().collect();
        for key in gone {
            self.refs.remove(&key);
            self.remember(Record::Ref(key.0, key.1, None));
        }
        for (name, commit) in listed {
            let key = (project.clone(), name.clone());
            if self.refs.get(&key) == Some(&commit) {
                continue;
            }
            self.refs.insert(key, commit.clone());
            self.remember(Record::Ref(project.clone(), name.clone(), Some(commit.clone())));
            if !is_first_sight {
                self.pushed(project, name, commit);
            }
        }
    }

    fn pushed(&mut self, project: &ProjectName, ref_name: RefName, commit: Commit) {
        let id = self.next_change();
        let project = project.clone();
        let change = Change { id, project, ref_name, commit, seen_at: self.now };
        self.remember(Record::Change(change.clone()));
        self.perform(resolve(&change));
        self.changes.insert(id, PendingChange::Push { change, tries: 0 });
    }

    /// Somebody asks for a build: what of, the repository must say first.
    pub(super) fn start_asked(
        &mut self,
        reply: ReplyId,
        project: ProjectName,
        reference: Option<String>,
    ) {
        if !self.settings.projects.iter().any(|known| known.name == project) {
            let sentence = format!("there is no project \"{project}\" in the master's file");
            return self.refuse(reply, RefusalKind::NotFound, sentence);
        }
        let change = self.next_change();
        let wanted = Wanted::Manual(reference);
        self.perform(Action::ResolveChange(Unresolved {
            change,
            project: project.clone(),
            wanted,
        }));
        self.changes.insert(change, PendingChange::Manual { project, reply });
    }

    pub(super) fn change_resolved(&mut self, id: ChangeId, resolved: Resolved) {
        // Told twice, or the master was restarted meanwhile: the first answer counted.
        let Some(pending) = self.changes.remove(&id) else { return };
        if let PendingChange::Push { change, .. } = &pending
            && change.commit != resolved.commit
        {
            // What somebody asked for is in no row, so its id was given out again after a failed
            // commit; this is the answer to the one before.
            self.changes.insert(id, pending);
            return;
        }
        self.timers.clear(&Timer::Change(id));
        match pending {
            PendingChange::Push { change, .. } => {
                self.remember(Record::ChangeDone(id));
                let is_skipped = SKIP_WORDS.iter().any(|word| resolved.subject.contains(word));
                let is_triggered = !matches!(resolved.planned, Planned::NotTriggered(_));
                if is_triggered && !is_skipped {
                    self.make_build(change.project, ChangeEvent::Push, resolved, None);
                }
            }
            PendingChange::Manual { project, reply } => match &resolved.planned {
                Planned::NotTriggered(why) => {
                    self.refuse(reply, RefusalKind::Invalid, why.clone());
                }
                Planned::Pipeline(_) | Planned::Broken(_) => {
                    self.make_build(project, ChangeEvent::Manual, resolved, Some(reply));
                }
            },
        }
    }

    pub(super) fn change_unresolved(
        &mut self,
        id: ChangeId,
        sentence: String,
        worth_retrying: bool,
    ) {
        let random = self.dice.roll();
        match self.changes.get_mut(&id) {
            None => {}
            Some(PendingChange::Push { tries, .. }) if worth_retrying => {
                let delay = RESOLVE_BACKOFF.delay(*tries, random);
                *tries += 1;
                self.timers.set(Timer::Change(id), self.now + delay);
            }
            Some(PendingChange::Push { .. }) => {
                // The commit is gone: somebody pushed over it, and that push is a change of its own.
                self.changes.remove(&id);
                self.remember(Record::ChangeDone(id));
            }
            Some(PendingChange::Manual { reply, .. }) => {
                let reply = *reply;
                self.changes.remove(&id);
                let kind =
                    if worth_retrying { RefusalKind::Unavailable } else { RefusalKind::Invalid };
                self.refuse(reply, kind, sentence);
            }
        }
    }

    pub(super) fn look_again_at_change(&mut self, id: ChangeId) {
        match self.changes.get(&id) {
            Some(PendingChange::Push { change, .. }) => {
                let action = resolve(change);
                self.perform(action);
            }
            Some(PendingChange::Manual { .. }) | None => {}
        }
    }
}

fn resolve(change: &Change) -> Action {
    Action::ResolveChange(Unresolved {
        change: change.id,
        project: change.project.clone(),
        wanted: Wanted::Push { ref_name: change.ref_name.clone(), commit: change.commit.clone() },
    })
}
