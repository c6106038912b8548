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
use crate::model::inputs::GivenInputs;

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
        inputs: GivenInputs,
    ) {
        if !self.settings.projects.iter().any(|known| known.name == project) {
            let sentence = format!("there is no project \"{project}\" in the master's file");
            return self.refuse(reply, RefusalKind::NotFound, sentence);
        }
        let change = self.next_change();
        let wanted = Wanted::Manual { reference, inputs };
        let unresolved = Unresolved { change, project: project.clone(), wanted };
        self.perform(Action::ResolveChange(unresolved));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::domain::decision::Answer;
    use crate::master::domain::event::Event;
    use crate::master::domain::pipeline::Pipeline;
    use crate::master::domain::rig;
    use crate::master::domain::rig::Rig;
    use crate::model::status::BuildStatus;

    fn listed(rig: &mut Rig, refs: &[(&str, &str)]) {
        let refs = refs.iter().map(|(name, commit)| ((*name).into(), (*commit).into())).collect();
        rig.say(Event::RefsListed { project: "app".into(), refs });
    }

    fn n_resolving(rig: &Rig) -> usize {
        rig.done.iter().filter(|action| matches!(action, Action::ResolveChange(_))).count()
    }

    fn planned() -> Planned {
        Planned::Pipeline(Pipeline { jobs: vec![rig::job("test", &[])], ..Pipeline::default() })
    }

    /// A rig that has seen `main` at `c1`.
    fn seen() -> Rig {
        let mut rig = Rig::new(vec![rig::pool("linux")]);
        listed(&mut rig, &[("refs/heads/main", "c1")]);
        assert_eq!(n_resolving(&rig), 0, "the first sight is a baseline");
        rig
    }

    #[test]
    fn what_moves_after_the_baseline_is_built_forced_or_not_and_each_once() {
        let mut rig = seen();
        listed(&mut rig, &[("refs/heads/main", "c2"), ("refs/heads/new", "c1")]);
        assert_eq!(n_resolving(&rig), 2);
        listed(&mut rig, &[("refs/heads/main", "c2"), ("refs/heads/new", "c1")]);
        assert_eq!(n_resolving(&rig), 0);
        listed(&mut rig, &[("refs/heads/main", "c1"), ("refs/heads/new", "c1")]);
        assert_eq!(n_resolving(&rig), 1, "pushed back by force");
    }

    #[test]
    fn a_deleted_branch_builds_nothing_and_is_new_when_it_comes_again() {
        let mut rig = seen();
        listed(&mut rig, &[]);
        assert_eq!(n_resolving(&rig), 0);
        listed(&mut rig, &[("refs/heads/main", "c1")]);
        assert_eq!(n_resolving(&rig), 1);
    }

    #[test]
    fn a_push_with_skip_ci_or_without_a_trigger_is_left_out_and_forgotten() {
        for (subject, plan) in [
            ("docs [skip ci]", planned()),
            ("[ci skip] docs", planned()),
            ("docs", Planned::NotTriggered("only main is built".to_owned())),
        ] {
            let mut rig = seen();
            listed(&mut rig, &[("refs/heads/main", "c2")]);
            let change = rig.resolving();
            let resolved = rig::resolved("refs/heads/main", "c2", subject, plan);
            rig.say(Event::ChangeResolved(change, resolved));
            assert!(rig.builds().is_empty());
            assert_eq!(rig.written.last(), Some(&Record::ChangeDone(change)));
        }
    }

    #[test]
    fn a_broken_pipeline_file_makes_a_red_build() {
        let mut rig = seen();
        listed(&mut rig, &[("refs/heads/main", "c2")]);
        let broken = Planned::Broken("line 3: no such key".to_owned());
        let change = rig.resolving();
        let resolved = rig::resolved("refs/heads/main", "c2", "work", broken);
        rig.say(Event::ChangeResolved(change, resolved.clone()));
        assert_eq!(rig.builds(), [BuildStatus::Failed]);
        rig.say(Event::ChangeResolved(change, resolved));
        assert_eq!(rig.builds().len(), 1, "told twice, it is one build still");
    }

    #[test]
    fn a_repository_that_is_down_is_asked_again_later() {
        let mut rig = seen();
        listed(&mut rig, &[("refs/heads/main", "c2")]);
        let change = rig.resolving();
        let sentence = "it is down".to_owned();
        rig.say(Event::ChangeUnresolved { change, sentence, worth_retrying: true });
        assert_eq!(n_resolving(&rig), 0);
        rig.done = rig.wait(60);
        assert_eq!(rig.resolving(), change);
    }

    #[test]
    fn an_answer_about_another_commit_is_not_taken_for_the_pushs() {
        let mut rig = seen();
        listed(&mut rig, &[("refs/heads/main", "c2")]);
        let change = rig.resolving();
        let strange = rig::resolved("refs/heads/main", "c9", "work", planned());
        rig.say(Event::ChangeResolved(change, strange));
        assert!(rig.builds().is_empty());
        let own = rig::resolved("refs/heads/main", "c2", "work", planned());
        rig.say(Event::ChangeResolved(change, own));
        assert_eq!(rig.builds().len(), 1);
    }

    #[test]
    fn what_a_build_is_started_with_goes_to_the_resolver_and_is_remembered() {
        let mut rig = seen();
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let given = GivenInputs::from([pair("dry_run", "false")]);
        rig.ask(rig::start("app".into(), given.clone()));
        let wanted = Wanted::Manual { reference: None, inputs: given };
        let asks_for = |action: &Action| match action {
            Action::ResolveChange(unresolved) => unresolved.wanted == wanted,
            _ => false,
        };
        assert!(rig.done.iter().any(asks_for), "{:?}", rig.done);

        let inputs = GivenInputs::from([pair("dry_run", "false"), pair("note", "")]);
        let jobs = vec![rig::job("test", &[])];
        let pipeline = Pipeline { inputs: inputs.clone(), jobs, ..Pipeline::default() };
        let plan = Planned::Pipeline(pipeline);
        let change = rig.resolving();
        let resolved = rig::resolved("refs/heads/main", "c1", "work", plan);
        rig.say(Event::ChangeResolved(change, resolved));
        let remembers = |record: &Record| match record {
            Record::Build(build) => build.inputs == inputs,
            _ => false,
        };
        assert!(rig.written.iter().any(remembers), "{:?}", rig.written);
    }

    #[test]
    fn who_asks_for_an_unknown_project_or_a_change_without_trigger_is_told_why() {
        let mut rig = seen();
        let project = "nothing".into();
        let answer = rig.ask(rig::start(project, GivenInputs::new()));
        assert!(matches!(answer, Some(Answer::Refused(_))), "{answer:?}");
        rig.ask(rig::start("app".into(), GivenInputs::new()));
        let plan = Planned::NotTriggered("only tags are built".to_owned());
        let change = rig.resolving();
        let resolved = rig::resolved("refs/heads/main", "c1", "work", plan);
        rig.say(Event::ChangeResolved(change, resolved));
        assert!(matches!(&rig.answers[0].1, Answer::Refused(why) if why.sentence.contains("tags")));
    }
}
