//! Adapter: where changes come from. Polls repositories, and finds out what a change is.
//!
//! `git.rs` runs git; `remote.rs` asks a repository what it has; `cache.rs` reads commits;
//! `poller.rs` does it regularly; `plans.rs` remembers what it has read.

mod cache;
pub mod git;
mod plans;
mod poller;
mod remote;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use crate::master::change_source::cache::Cache;
use crate::master::change_source::git::Git;
use crate::master::change_source::plans::Plans;
use crate::master::change_source::poller::Health;
use crate::master::domain::decision::Unresolved;
use crate::master::domain::decision::Wanted;
use crate::master::domain::event::Event;
use crate::master::domain::event::Resolved;
use crate::master::domain::pipeline::ChangeEvent;
use crate::master::domain::pipeline::Planned;
use crate::master::inbox::Inbox;
use crate::master::pipeline_file;
use crate::master::pipeline_file::context::EventContext;
use crate::model::attempt::GitCredential;
use crate::model::ids::Commit;
use crate::model::ids::ProjectName;
use crate::model::ids::RefName;
use crate::runtime::config_file::globs::Pattern;

/// A project's repository, as it is watched.
#[derive(Clone, Debug)]
pub struct Watched {
    /// Its name.
    pub name: ProjectName,
    /// Its repository.
    pub repo: String,
    /// Which branches.
    pub branches: Vec<Pattern>,
    /// Which tags.
    pub tags: Vec<Pattern>,
    /// How often.
    pub poll: Duration,
    /// How git proves itself.
    pub credential: GitCredential,
}

/// All repositories. Cheap to clone.
#[derive(Clone)]
pub struct ChangeSource {
    inner: Arc<Inner>,
}

struct Inner {
    inbox: Inbox,
    projects: BTreeMap<ProjectName, Project>,
    plans: Plans,
}

struct Project {
    watched: Watched,
    git: Git,
    dir: PathBuf,
    cache: Cache,
    /// Two fetches into one cache would be in each other's way.
    fetching: tokio::sync::Mutex<()>,
    poke: Notify,
    health: Health,
}

impl ChangeSource {
    /// Prepares every project's folder below `dir`; nothing is asked yet.
    ///
    /// # Errors
    /// When a folder or a key file cannot be written.
    pub fn new(inbox: Inbox, projects: Vec<Watched>, dir: PathBuf) -> anyhow::Result<ChangeSource> {
        let mut prepared = BTreeMap::new();
        for watched in projects {
            let dir = dir.join(watched.name.as_str());
            crate::runtime::private_file::create_folder(&dir)?;
            let git = Git::new(&dir, &watched.repo, &watched.credential)?;
            let cache = Cache::new(dir.join("cache.git"), watched.repo.clone(), git.clone());
            let project = Project {
                git,
                cache,
                dir,
                fetching: tokio::sync::Mutex::new(()),
                poke: Notify::new(),
                health: Health::default(),
                watched,
            };
            prepared.insert(project.watched.name.clone(), project);
        }
        let inner = Inner { inbox, projects: prepared, plans: Plans::default() };
        Ok(ChangeSource { inner: Arc::new(inner) })
    }

    /// Starts to poll; ends with the runtime.
    pub fn start(&self) {
        for name in self.inner.projects.keys() {
            tokio::spawn(poller::run(self.clone(), name.clone()));
        }
    }

    /// Asks a project's repository now; many pokes are one.
    pub fn poke(&self, project: &ProjectName) {
        if let Some(project) = self.inner.projects.get(project) {
            project.poke.notify_one();
        }
    }

    /// What is wrong with a project's repository; nothing: it answered last time.
    pub fn trouble(&self, project: &ProjectName) -> Option<String> {
        self.inner.projects.get(project)?.health.trouble()
    }

    /// Finds out what a change is; the answer comes as an event.
    pub fn resolve_in_background(&self, change: Unresolved) {
        let this = self.clone();
        tokio::spawn(async move {
            let event = this.resolve(change).await;
            this.inner.inbox.send(event).await;
        });
    }

    async fn resolve(&self, change: Unresolved) -> Event {
        let id = change.change;
        let unresolved = |sentence: String, worth_retrying: bool| Event::ChangeUnresolved {
            change: id,
            sentence,
            worth_retrying,
        };
        let Some(project) = self.inner.projects.get(&change.project) else {
            return unresolved(format!("there is no project \"{}\"", change.project), false);
        };
        let (event, ref_name, commit) = match change.wanted {
            Wanted::Push { ref_name, commit } => (ChangeEvent::Push, ref_name, commit),
            Wanted::Manual(wanted) => {
                if let Some(resolved) = self.known(project, wanted.as_deref()) {
                    return Event::ChangeResolved(id, resolved);
                }
                let listed = remote::list(&project.git, &project.dir, &project.watched.repo).await;
                let listed = match listed {
                    Ok(listed) => listed,
                    Err(why) => {
                        return unresolved(format!("the repository does not answer: {why}"), true);
                    }
                };
                match listed.resolve(wanted.as_deref()) {
                    Ok((ref_name, commit)) => (ChangeEvent::Manual, ref_name, commit),
                    Err(why) => return unresolved(why, false),
                }
            }
        };
        match self.read(project, event, ref_name, commit).await {
            Ok(resolved) => Event::ChangeResolved(id, resolved),
            Err(why) => unresolved(why.sentence, why.worth_retrying),
        }
    }

    /// A full commit that was built before means today what it meant then.
    fn known(&self, project: &Project, wanted: Option<&str>) -> Option<Resolved> {
        let commit = wanted.filter(|wanted| remote::is_commit(wanted))?;
        self.inner.plans.get(&project.watched.name, &Commit(commit.to_owned()), ChangeEvent::Manual)
    }

    async fn read(
        &self,
        project: &Project,
        event: ChangeEvent,
        ref_name: RefName,
        commit: Commit,
    ) -> Result<Resolved, cache::Unreadable> {
        let _one_at_a_time = project.fetching.lock().await;
        let file_name = pipeline_file::FILE_NAME;
        let facts = project.cache.read(&ref_name, &commit, file_name).await?;
        let context = EventContext { event, ref_name: ref_name.clone() };
        let planned = match facts.pipeline {
            Some(text) => pipeline_file::plan(&text, file_name, &context),
            None => Planned::Broken(format!(
                "the commit has no {file_name}: write one with `busybee init` in the repository, \
                 and push it"
            )),
        };
        let resolved =
            Resolved { ref_name, commit, subject: facts.subject, author: facts.author, planned };
        self.inner.plans.put(&project.watched.name, event, &resolved);
        Ok(resolved)
    }
}
